"""Rows of a sweep as inline SVG, which a browser draws without a network; colours and fonts are the page's.

Every mark of a run carries its number (`data-run`), so that the page can light up one run everywhere.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.results import Group, Row, ranked
from jaxgan.sweeps.table import describe, short_names

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 40
_MOST_AXES = 9  # of the parallel coordinates
_MOST_GROUPS = 15  # of seeds
_LOG_FROM = 30.0  # a ratio of the largest to the smallest number, from which a logarithm shows more
# The best to the worst: dark blue to pale sand, told apart in grey and by the colour-blind too.
_RAMP = ((29, 63, 143), (23, 128, 156), (94, 178, 139), (201, 199, 120), (222, 205, 175))


class Scale:
    """Numbers to 0..1, linearly or by their logarithm, with round ticks."""

    def __init__(self, values: Sequence[float], log: bool | None = None):
        values = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(values), max(values)
        self.log = low > 0 and (high / low > _LOG_FROM if log is None else log)
        if low == high:
            low, high = (low / 2, high * 2) if self.log else (low - 0.5, high + 0.5)
        self.low, self.high = self._turn(low), self._turn(high)

    def __call__(self, value: float) -> float:
        return (self._turn(value) - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within the scale; at least its ends where there are too few of them."""
        if self.log:
            powers = [10.0**n for n in range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)]
            between = [
                power * m
                for power in [powers[0] / 10 if powers else 10.0 ** math.floor(self.low), *powers]
                for m in (1, 2, 5)
            ]
            inside = [value for value in between if self.low - 1e-9 <= math.log10(value) <= self.high + 1e-9]
            ticks = inside if len(inside) <= most else powers[:: math.ceil(len(powers) / most)]
        else:
            step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
            step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= most)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            ticks = [n * step for n in range(first, last + 1)]
        return ticks if len(ticks) > 1 else [10**self.low, 10**self.high] if self.log else [self.low, self.high]

    def _turn(self, value: float) -> float:
        return math.log10(value) if self.log else value


def history(rows: Sequence[Row], objective: int, objectives: Sequence[Objective]) -> str:
    """Each run's number in the order of the runs, and the best so far."""
    name, shown = objectives[objective], []
    for row in rows:
        if row.numbers is not None:
            shown.append((row, row.numbers[objective]))
        elif row.curve and objective == 0:
            shown.append((row, list(row.curve.values())[-1]))
    if not shown:
        return _empty("no run has been evaluated yet")
    x, y = Scale([0, max(1, len(rows) - 1)]), Scale([value for _, value in shown])
    marks, best, path = [], None, []
    for row, value in shown:
        kind = "complete" if row.numbers is not None else "given-up"
        marks.append(_dot(row, _x(x(row.run)), _y(y(value)), f"{name.name} {value:.4g}", kind))
        if row.numbers is not None and (best is None or name.is_better(value, best)):
            if best is not None:
                path.append(f"H{_x(x(row.run)):.1f}")
            best = value
            path.append(f"{'V' if path else f'M{_x(x(row.run)):.1f},'}{_y(y(value)):.1f}")
    line = f'<path class="best" d="{" ".join([*path, f"H{_WIDTH - _RIGHT}"])}"/>' if path else ""
    return _svg(_vertical(y, name.name) + _horizontal(x, "run", whole=True) + line + "".join(marks))


def curves(rows: Sequence[Row], objectives: Sequence[Objective]) -> str:
    """The first objective while each run trained."""
    drawn = [row for row in rows if len(row.curve) > 1]
    if not drawn:
        return ""
    values = [value for row in drawn for value in row.curve.values()]
    x, y = Scale([step for row in drawn for step in row.curve]), Scale(values)
    order = {row.run: place for place, row in enumerate(ranked(rows, objectives))}
    lines = []
    for row in sorted(drawn, key=lambda row: -order.get(row.run, len(rows))):
        points = [(step, value) for step, value in row.curve.items() if math.isfinite(value)]
        path = " ".join(f"{_x(x(step)):.1f},{_y(y(value)):.1f}" for step, value in points)
        lines.append(_line(row, path, order.get(row.run), len(order)))
    return _svg(_vertical(y, objectives[0].name) + _horizontal(x, "update") + "".join(lines))


def trade_off(rows: Sequence[Row], front: Sequence[Row], objectives: Sequence[Objective]) -> str:
    """The first two objectives against each other; the front's runs stand out."""
    complete = [row for row in rows if row.numbers is not None]
    if len(objectives) < 2 or not complete:
        return ""
    x, y = (Scale([row.numbers[i] for row in complete]) for i in (0, 1))
    on_front = {row.run for row in front}
    marks = []
    for row in complete:
        text = ", ".join(f"{o.name} {v:.4g}" for o, v in zip(objectives, row.numbers, strict=True))
        kind = "complete" if row.run in on_front else "given-up"
        marks.append(_dot(row, _x(x(row.numbers[0])), _y(y(row.numbers[1])), text, kind))
    return _svg(_vertical(y, objectives[1].name) + _horizontal(x, objectives[0].name) + "".join(marks))


def importance(found: dict[str, float]) -> str:
    """A bar a parameter."""
    if not found:
        return ""
    shorts, most = short_names(list(found)), max(found.values()) or 1.0
    step, left = 30, 210
    bars = []
    for i, (name, value) in enumerate(sorted(found.items(), key=lambda item: -item[1])):
        middle, width = i * step + step / 2 + 4, (_WIDTH - left - 60) * value / most
        bars.append(
            f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end">{html.escape(shorts[name])}'
            f"<title>{html.escape(name)}</title></text>"
            f'<rect class="bar" x="{left}" y="{middle - 8}" width="{max(1.0, width):.1f}" height="16" rx="3"/>'
            f'<text class="number" x="{left + width + 8:.1f}" y="{middle + 4}">{value:.0%}</text>'
        )
    return _svg("".join(bars), height=len(found) * step + 8)


def parallel_coordinates(rows: Sequence[Row], objectives: Sequence[Objective], importances: dict[str, float]) -> str:
    """A line a complete run through its parameters, the most important ones first, to its objectives."""
    order = ranked(rows, objectives)
    names = {name for row in order for name in row.params}
    names = [name for name in names if len({repr(row.params.get(name)) for row in order}) > 1]
    names = sorted(names, key=lambda name: (-importances.get(name, 0.0), name))[:_MOST_AXES]
    if len(order) < 2 or not names:
        return ""
    order = [row for row in order if all(name in row.params for name in names)] or order
    axes = [
        _Axis(name, [row.params.get(name) for row in order], any(name in r.log_scaled for r in order)) for name in names
    ]
    axes += [_Axis(o.name, [row.numbers[i] for row in order], None) for i, o in enumerate(objectives)]
    width, height = 1160, 340
    places = [70 + i * (width - 150) / (len(axes) - 1) for i in range(len(axes))]
    shorts = short_names(names)
    drawn = []
    for rank in range(len(order) - 1, -1, -1):  # the best on top
        row = order[rank]
        values = [*(row.params.get(name) for name in names), *row.numbers]
        shares = [axis(value) for axis, value in zip(axes, values, strict=True)]
        points = [f"{place:.1f},{_down(share, height):.1f}" for place, share in zip(places, shares, strict=True)]
        drawn.append(_line(row, " ".join(points), rank, len(order)))
    for i, (place, axis) in enumerate(zip(places, axes, strict=True)):
        title = shorts.get(axis.name, axis.name)
        head = "objective" if i >= len(names) else "axis-name"
        drawn.append(f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="34" y2="{height - 22}"/>')
        drawn.append(
            f'<text class="{head}" x="{place:.1f}" y="{18 if i % 2 == 0 or len(axes) < 6 else 6}" '
            f'text-anchor="middle">{html.escape(title)}<title>{html.escape(axis.name)}</title></text>'
        )
        drawn += [
            f'<text class="tick" x="{place + 6:.1f}" y="{_down(share, height) + 4:.1f}">{html.escape(text)}</text>'
            for share, text in axis.ticks()
        ]
    return _svg("".join(drawn), width, height, top=-8)


def seeds(groups: Sequence[Group], objective: Objective) -> str:
    """The best groups of several runs: their runs as dots, the mean, and a bar of one standard error to either side."""
    groups = [group for group in groups if len(group.rows) > 1][:_MOST_GROUPS]
    if not groups:
        return ""
    step, left, right = 34, 215, 105
    x = Scale([number for group in groups for number in (row.numbers[0] for row in group.rows)])
    drawn, height = [], len(groups) * step + 40

    def across(value):
        return left + (_WIDTH - left - right) * x(value)

    for value in x.ticks(4):
        at = f"{across(value):.1f}"
        drawn.append(f'<line class="grid" x1="{at}" x2="{at}" y1="4" y2="{height - 34}"/>')
        drawn.append(f'<text class="tick" x="{at}" y="{height - 18}" text-anchor="middle">{_number(value)}</text>')
    drawn.append(
        f'<text class="label" x="{(left + _WIDTH - right) / 2}" y="{height - 2}" text-anchor="middle">'
        f"{objective.name}</text>"
    )
    for i, group in enumerate(groups):
        middle, error = i * step + 20, group.error
        text = describe(group.overrides) or "the configuration as it is"
        cut = text if len(text) <= 30 else f"{text[:29]}…"
        low, high = (across(max(group.mean + s * error, 10**x.low if x.log else -math.inf)) for s in (-1, 1))
        drawn.append(
            f'<text x="{left - 12}" y="{middle + 4}" text-anchor="end">{html.escape(cut)}'
            f"<title>{html.escape(text)}</title></text>"
        )
        drawn += [
            _dot(row, across(row.numbers[0]), middle, f"seed {row.overrides.get('seed', '')}", "given-up", 3.5)
            for row in group.rows
        ]
        drawn.append(
            f'<line class="error" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<line class="error" x1="{across(group.mean):.1f}" x2="{across(group.mean):.1f}" y1="{middle - 9}" '
            f'y2="{middle + 9}"/><text class="number" x="{_WIDTH - right + 10}" y="{middle + 4}">'
            f"{group.mean:.3g} ± {error:.2g}</text>"
        )
    return _svg("".join(drawn), height=height)


class _Axis:
    """A parameter's values from 0 to 1: numbers on a scale, anything else at even distances."""

    def __init__(self, name: str, values: Sequence[Any], log: bool | None):
        self.name = name
        are_numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        self._scale = Scale(values, log) if are_numbers else None
        self._choices = sorted(set(map(str, values)))

    def __call__(self, value: Any) -> float:
        if self._scale:
            return self._scale(value)
        return (self._choices.index(str(value)) + 0.5) / len(self._choices)

    def ticks(self) -> list[tuple[float, str]]:
        if self._scale:
            return [(self._scale(value), _number(value)) for value in self._scale.ticks(4)]
        return [(self(value), value if len(value) <= 14 else f"{value[:13]}…") for value in self._choices[:12]]


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _down(share: float, height: float) -> float:
    return height - 26 - share * (height - 66)


def _svg(inside: str, width: float = _WIDTH, height: float = _HEIGHT, top: float = 0) -> str:
    return f'<svg viewBox="0 {top} {width} {height - top}" role="img">{inside}</svg>'


def _empty(text: str) -> str:
    return f'<p class="quiet">{html.escape(text)}</p>'


def _vertical(scale: Scale, label: str) -> str:
    marks = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(scale(v)):.1f}" y2="{_y(scale(v)):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{_y(scale(v)) + 4:.1f}" text-anchor="end">{_number(v)}</text>'
        for v in scale.ticks()
    ]
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    label = f'<text class="label" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{label}</text>'
    return "".join(marks) + label


def _horizontal(scale: Scale, label: str, whole: bool = False) -> str:
    ticks = [v for v in scale.ticks(6) if not whole or v == round(v)]
    row = f'class="tick" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle"'
    marks = [f'<text {row} x="{_x(scale(v)):.1f}">{_number(v)}</text>' for v in ticks]
    at = f'x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}"'
    return "".join(marks) + f'<text class="label" {at} text-anchor="middle">{label}</text>'


def _dot(row: Row, x: float, y: float, text: str, kind: str, radius: float = 4.5) -> str:
    title = html.escape(f"run {row.run:04}: {text}\n{describe(row.varied)}")
    return (
        f'<circle class="{kind}" data-run="{row.run}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{title}</title>'
        "</circle>"
    )


def _line(row: Row, points: str, rank: int | None, of: int) -> str:
    colour, title = _colour(rank, of), html.escape(f"run {row.run:04}\n{describe(row.varied)}")
    width = 2.6 if rank == 0 else 1.4
    style = f'stroke="{colour}" stroke-width="{width}"'
    return f'<polyline class="run" data-run="{row.run}" points="{points}" {style}><title>{title}</title></polyline>'


def _colour(rank: int | None, of: int) -> str:
    """The best dark, the worst pale; those without a result grey."""
    if rank is None:
        return "#b9b9b9"
    place = rank / max(1, of - 1) * (len(_RAMP) - 1)
    i = min(int(place), len(_RAMP) - 2)
    mixed = (a + (b - a) * (place - i) for a, b in zip(_RAMP[i], _RAMP[i + 1], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def _number(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
