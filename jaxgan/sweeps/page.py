"""sweep.html: one file with everything in it, which any browser shows without a network."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

import optuna
from PIL import Image

from jaxgan.files import write_text
from jaxgan.sweeps import charts
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.results import Row, folder_of, front_of, groups_of, importances, ranked
from jaxgan.sweeps.table import as_text, describe, short_names

_SHOWN = 6  # runs whose pictures are shown
_WIDEST = 560  # pixels of an embedded picture


def write_page(
    folder: pathlib.Path,
    title: str,
    rows: Sequence[Row],
    objectives: Sequence[Objective],
    study: optuna.Study,
    commands: Sequence[str],
) -> None:
    """Writes the page whole or not at all.

    Args:
        folder: the sweep's.
        title: the experiment.
        rows: of the runs.
        objectives: of the sweep.
        study: for what the parameters are worth.
        commands: the best runs as command lines.
    """
    worth = [importances(study, i) for i in range(len(objectives))]
    groups, front = groups_of(rows, objectives), front_of(rows, objectives)
    parts = [_head(title, rows, objectives, front), _commands(commands)]
    pairs = [
        (f"History of {objective.name}", charts.history(rows, i, objectives)) for i, objective in enumerate(objectives)
    ]
    pairs.append(("What they trade", charts.trade_off(rows, front, objectives)))
    pairs.append((f"{objectives[0].name} while training", charts.curves(rows, objectives)))
    pairs += [
        (f"What {objective.name} depends on", charts.importance(found))
        for objective, found in zip(objectives, worth, strict=True)
    ]
    pairs.append(("Seeds: mean and standard error", charts.seeds(groups, objectives[0])))
    parts.append('<div class="pairs">' + "".join(_card(*pair) for pair in pairs) + "</div>")
    parts.append(_card("Parameters", charts.parallel_coordinates(rows, objectives, worth[0])))
    parts.append(_card("Samples of the best", _pictures(folder, rows, objectives)))
    parts.append(_card("All runs", _table(rows, objectives)))
    text = _FRAME.format(title=html.escape(f"Sweep of {title}"), style=_STYLE, body="\n".join(parts), script=_SCRIPT)
    write_text(folder / "sweep.html", text)


def _head(title: str, rows: Sequence[Row], objectives: Sequence[Objective], front: Sequence[Row]) -> str:
    states = ("complete", "pruned", "failed", "running", "waiting")
    counts = {state: sum(row.state == state for row in rows) for state in states}
    facts = [(str(n), state) for state, n in counts.items() if n]
    for row in front[:1]:
        facts += [
            (f"{number:.4g}", f"best {objective.name}" if len(objectives) == 1 else objective.name)
            for objective, number in zip(objectives, row.numbers, strict=True)
        ]
        facts.append((f"{row.run:04}", "best run" if len(objectives) == 1 else f"first of {len(front)} on the front"))
    wanted = ", ".join(f"{o.name} {'low' if o.lower_is_better else 'high'}" for o in objectives)
    boxes = "".join(f"<div><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>" for a, b in facts)
    return (
        f"<header><h1>{html.escape(title)}</h1><p>{len(rows)} runs, wanted: {wanted}</p>"
        f'<div class="facts">{boxes}</div></header>'
    )


def _commands(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    blocks = "".join(f"<pre>{html.escape(command)}</pre>" for command in commands)
    return _card("The best as a command line" if len(commands) == 1 else "The front as command lines", blocks)


def _card(title: str, inside: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{inside}</section>" if inside else ""


def _pictures(folder: pathlib.Path, rows: Sequence[Row], objectives: Sequence[Objective]) -> str:
    figures = []
    for row in ranked(rows, objectives)[:_SHOWN]:
        picture = _picture(folder / folder_of(row.run) / "samples")
        if picture is not None:
            numbers = ", ".join(f"{o.name} {v:.4g}" for o, v in zip(objectives, row.numbers, strict=True))
            small = f"<small>{html.escape(describe(row.varied))}</small>"
            caption = f"<b>{row.run:04}</b> {html.escape(numbers)}<br>{small}"
            figures.append(
                f'<figure data-run="{row.run}"><img alt="samples of run {row.run}" src="{picture}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _picture(samples: pathlib.Path) -> str | None:
    """The last grid as a data address; None where another host keeps it."""
    found = [samples / "final.png"] if (samples / "final.png").exists() else sorted(samples.glob("step_*_ema.png"))[-1:]
    if not found:
        return None
    with Image.open(found[0]) as image:
        image.thumbnail((_WIDEST, _WIDEST))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(rows: Sequence[Row], objectives: Sequence[Objective]) -> str:
    order = ranked(rows, objectives)
    order += [row for row in rows if row.numbers is None]
    names = list(dict.fromkeys(name for row in order for name in row.overrides))
    shorts = short_names(names)
    heads = [("run", "run"), ("state", "state"), *((o.name, o.name) for o in objectives)]
    heads += [(shorts[name], name) for name in names] + [("seconds", "seconds"), ("", "reason")]
    head = "".join(f'<th title="{html.escape(full)}">{html.escape(short)}</th>' for short, full in heads)
    body = []
    for row in order:
        numbers = row.numbers or (None,) * len(objectives)
        cells = [("", f'<a href="{folder_of(row.run)}">{row.run:04}</a>')]
        cells.append(("", f'<i class="{row.state}">{row.state}</i>'))
        cells += [_cell(number) for number in numbers]
        cells += [_cell(row.overrides.get(name)) for name in names]
        cells += [_cell(None if row.seconds is None else round(row.seconds, 1)), ("", html.escape(row.reason))]
        inside = "".join(f"<td{kind}>{text}</td>" for kind, text in cells)
        body.append(f'<tr data-run="{row.run}">{inside}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        '<p class="quiet">A click on a head sorts. Pointing at a run shows it everywhere.</p>'
    )


def _cell(value) -> tuple[str, str]:
    if value is None:
        return "", ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (f' class="number" data-value="{value!r}"' if is_number else ""), html.escape(as_text(value))


_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main>
{body}
</main><script>{script}</script></body></html>
"""

_STYLE = """
:root { --ink: #1d232b; --quiet: #6b7480; --line: #e4e7ec; --paper: #f5f6f8; --card: #ffffff; --accent: #1d3f8f;
  --warm: #c2571a; color-scheme: light }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px }
header h1 { margin: 0; font-size: 26px; letter-spacing: -0.01em }
header p { margin: 2px 0 14px; color: var(--quiet) }
.facts { display: flex; flex-wrap: wrap; gap: 10px 30px; margin-bottom: 20px }
.facts b { display: block; font-size: 22px; line-height: 1.2; font-variant-numeric: tabular-nums }
.facts span { color: var(--quiet); font-size: 13px }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px 16px;
  margin-bottom: 16px; min-width: 0 }
h2 { margin: 0 0 10px; font-size: 15px; font-weight: 600 }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 0 16px }
pre { margin: 0 0 8px; padding: 10px 12px; background: var(--paper); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace }
svg { width: 100%; height: auto; display: block; font-size: 12px; fill: var(--ink) }
svg .grid { stroke: var(--line) } svg .axis { stroke: #aab1bb }
svg .tick { fill: var(--quiet); font-size: 11px } svg .label { fill: var(--quiet) }
svg .tick, svg .number, svg .axis-name, svg .objective { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
svg .objective { font-weight: 600 }
svg .bar { fill: var(--accent) } svg .number { fill: var(--quiet) }
svg .complete { fill: var(--accent) } svg .given-up { fill: var(--card); stroke: #8b95a3; stroke-width: 1.5 }
svg .best { fill: none; stroke: var(--warm); stroke-width: 1.8 }
svg .run { fill: none; stroke-linejoin: round; opacity: 0.85 }
svg .error { stroke: var(--accent); stroke-width: 2.4; stroke-linecap: round }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 16px }
figure { margin: 0 } figure img { width: 100%; border: 1px solid var(--line); border-radius: 6px; display: block }
figcaption { margin-top: 4px; font-size: 13px } small { color: var(--quiet); overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { padding: 5px 12px 5px 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--quiet); font-weight: 600; cursor: pointer } td:last-child { white-space: normal; color: var(--quiet) }
td.number { font-variant-numeric: tabular-nums } a { color: var(--accent) }
i { font-style: normal } i.failed { color: var(--warm) } i.pruned, i.waiting { color: var(--quiet) }
.quiet { color: var(--quiet); font-size: 13px; margin: 8px 0 0 }
body.lit .run, body.lit circle { opacity: 0.12 }
body.lit .run.on { opacity: 1; stroke: var(--warm); stroke-width: 3.2 }
body.lit circle.on { opacity: 1; fill: var(--warm); stroke: var(--warm) }
tr.on td { background: #fdf1e7 } figure.on img { outline: 3px solid var(--warm) }
"""

_SCRIPT = """
const all = [...document.querySelectorAll('[data-run]')];
for (const one of all) {
  const same = all.filter(other => other.dataset.run === one.dataset.run);
  const light = on => {
    document.body.classList.toggle('lit', on);
    same.forEach(mark => mark.classList.toggle('on', on));
  };
  one.addEventListener('mouseenter', () => light(true));
  one.addEventListener('mouseleave', () => light(false));
}
document.querySelectorAll('th').forEach((head, i) => head.addEventListener('click', () => {
  const body = document.querySelector('tbody'), direction = head.classList.toggle('down') ? 1 : -1;
  const value = ({cells}) => 'value' in cells[i].dataset ? Number(cells[i].dataset.value) : cells[i].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === '' || y === '') return (x === '') - (y === '');
    const areNumbers = typeof x === 'number' && typeof y === 'number';
    return direction * (areNumbers ? x - y : String(x).localeCompare(String(y)));
  });
  body.append(...rows);
}));
"""
