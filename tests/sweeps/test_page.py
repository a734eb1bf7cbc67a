"""The page: well-formed, alone, complete, and drawn where the numbers say."""

import base64
import html.parser
import io
import math
import re
import xml.etree.ElementTree

import optuna
import pytest
from PIL import Image

from jaxgan.sweeps import charts
from jaxgan.sweeps.charts import Scale
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.page import write_page
from jaxgan.sweeps.results import groups_of
from tests.sweeps.test_results import FID, RECALL, row


@pytest.mark.parametrize(
    "values, log, ticks",
    [
        ([0.0, 10.0], None, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        ([1.0, 1000.0], None, [1.0, 10.0, 100.0, 1000.0]),
        ([3.0, 7.0], True, None),
        ([5.0, 5.0], None, None),
        ([-1.0, 0.0, 1e4], None, None),
        ([2e-5, 2e-3], True, None),
        ([math.nan, 1.0, math.inf, 2.0], None, None),
        ([], None, None),
    ],
)
def test_scales_keep_order_and_have_ticks_inside(values, log, ticks):
    scale = Scale(values, log)
    finite = sorted(value for value in values if math.isfinite(value))
    shares = [scale(value) for value in finite]
    assert shares == sorted(shares) and all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    found = scale.ticks()
    assert 2 <= len(found) <= 7 and all(-1e-6 <= scale(tick) <= 1 + 1e-6 for tick in found)
    assert ticks is None or set(found) <= set(ticks)
    if log and ticks is None and finite:
        middle = math.sqrt(finite[0] * finite[-1])
        assert scale(middle) == pytest.approx(0.5)


def circles(svg):
    marks = xml.etree.ElementTree.fromstring(svg).iter("circle")
    return {
        int(mark.get("data-run")): (float(mark.get("cx")), float(mark.get("cy")), mark.get("class")) for mark in marks
    }


def test_the_history_puts_the_better_lower_and_the_best_so_far_goes_down():
    rows = [row(0, 3.0), row(1, 1.0), row(2, state="pruned", curve={10: 5.0}), row(3, 2.0), row(4, state="failed")]
    svg = charts.history(rows, 0, [FID])
    marks = circles(svg)
    assert set(marks) == {0, 1, 2, 3}
    assert sorted(marks, key=lambda run: -marks[run][1]) == [1, 3, 0, 2]  # y grows downwards
    assert [marks[run][0] for run in range(4)] == sorted(marks[run][0] for run in range(4))
    assert marks[2][2] == "given-up" and marks[3][2] == "complete"
    (path,) = re.findall(r'class="best" d="([^"]+)"', svg)
    heights = [float(number) for number in re.findall(r"V([\d.]+)", path)]
    assert heights == [marks[1][1]]
    assert "not been evaluated" in charts.history(rows[4:], 0, [FID]) or "no run" in charts.history(rows[4:], 0, [FID])


def test_lines_go_through_their_parameters_and_numbers():
    rows = [
        row(0, 1.0, params={"a.rate": 1e-4, "loss": "hinge", "same": 1}, log_scaled=frozenset({"a.rate"})),
        row(1, 2.0, params={"a.rate": 1e-3, "loss": "minimax", "same": 1}, log_scaled=frozenset({"a.rate"})),
        row(2, 3.0, params={"a.rate": 1e-2, "loss": "hinge", "same": 1}, log_scaled=frozenset({"a.rate"})),
    ]
    svg = charts.parallel_coordinates(rows, [FID], {"loss": 0.9, "a.rate": 0.1})
    root = xml.etree.ElementTree.fromstring(svg)
    names = [text.text for text in root.iter("text") if text.get("class") in ("axis-name", "objective")]
    assert names == ["loss", "rate", "fid"]  # the most important first; what is the same everywhere is left out
    lines = {
        line.get("data-run"): [tuple(map(float, p.split(","))) for p in line.get("points").split()]
        for line in root.iter("polyline")
    }
    rate = [lines[run][1][1] for run in "012"]
    assert rate[0] - rate[1] == pytest.approx(rate[1] - rate[2], abs=0.2)  # equal factors, equal distances
    assert lines["0"][0][1] == lines["2"][0][1] != lines["1"][0][1]
    assert charts.parallel_coordinates(rows[:1], [FID], {}) == ""


class Parser(html.parser.HTMLParser):
    """Notes what is open, and what a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.pictures, self.cells = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.cells += tag == "td"
        if tag == "img":
            self.pictures.append(attributes["src"])
        self.fetched += [value for name, value in attributes.items() if name == "src" and not value.startswith("data:")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in ("line", "circle", "path", "rect", "polyline"), tag

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_well_formed_file_with_all_that_there_is(tmp_path):
    Image.new("RGB", (900, 600), (250, 10, 10)).save(_folder(tmp_path, 1) / "final.png")
    Image.new("RGB", (20, 20), (10, 10, 250)).save(_folder(tmp_path, 0) / "step_000000010_ema.png")
    rows = [
        row(0, 3.0, 0.5, overrides={"seed": 0, "loss.name": "<hinge>"}, params={"seed": 0}, curve={10: 4.0, 20: 3.0}),
        row(1, 1.0, 0.4, overrides={"seed": 1, "loss.name": "<hinge>"}, params={"seed": 1}, curve={10: 2.0, 20: 1.0}),
        row(2, state="failed", reason="a & b"),
        row(3, state="waiting"),
    ]
    study = optuna.create_study(directions=["minimize", "maximize"])
    write_page(tmp_path, "x.py:<y>", rows, [FID, RECALL], study, ["python launch.py --config=x.py '--config.a=<b>'"])
    text = (tmp_path / "sweep.html").read_text()
    parser = Parser()
    parser.feed(text)
    assert parser.open == [] and parser.fetched == [] and "http" not in text
    assert parser.cells == 4 * (2 + 2 + 2 + 2)  # run, state, two objectives, two overrides, seconds, reason
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in parser.pictures]
    assert sizes == [(560, 373), (20, 20)]  # the best first, the large one made smaller
    for words in ("a &amp; b", "&lt;hinge&gt;", "x.py:&lt;y&gt;", "What they trade", "Seeds", "--config.a=&lt;b&gt;"):
        assert words in text, words
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["sweep.html"]


def _folder(sweep, run):
    folder = sweep / "trials" / f"{run:04}" / "samples"
    folder.mkdir(parents=True)
    return folder


def test_a_page_of_nothing_yet(tmp_path):
    write_page(tmp_path, "x.py", [row(0, state="waiting")], [FID], optuna.create_study(), [])
    assert "no run has been evaluated yet" in (tmp_path / "sweep.html").read_text()


def test_a_group_s_bar_is_one_standard_error_to_either_side():
    rows = [row(i, n, overrides={"seed": i}) for i, n in enumerate((1.0, 2.0, 3.0))]
    svg = charts.seeds(groups_of(rows, [Objective("fid", True)]), FID)
    bar, mean = [line for line in xml.etree.ElementTree.fromstring(svg).iter("line") if line.get("class") == "error"]
    marks = circles(svg)
    one = (marks[2][0] - marks[0][0]) / 2  # the distance from 1 to 2
    assert float(mean.get("x1")) == pytest.approx(marks[1][0], abs=0.1)
    assert float(bar.get("x2")) - float(bar.get("x1")) == pytest.approx(2 * one / math.sqrt(3), abs=0.2)
