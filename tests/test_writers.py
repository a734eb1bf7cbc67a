"""What the writers leave behind, read back."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgan.writers import MetricsFile, ProgressLine, TensorBoard, format_seconds, read_metrics

ROW = {"step": 50, "images": 3200, "epoch": 0.64, "loss_d": 1.2345, "loss_g": 0.5, "images_per_second": 1234.5}


def write(file, steps, after=0):
    metrics = MetricsFile(file, after)
    for step in steps:
        metrics.write({"step": step, "loss_d": step / 3})
    metrics.close()


def steps(file):
    return [row["step"] for row in read_metrics(file)]


def test_rows_come_back_as_they_were_written(tmp_path):
    file = tmp_path / "metrics.jsonl"
    write(file, [10, 20])
    assert read_metrics(file) == [{"step": 10, "loss_d": 10 / 3}, {"step": 20, "loss_d": 20 / 3}]
    assert file.read_text().count("\n") == 2


def test_a_row_is_on_disk_before_the_file_is_closed(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write({"step": 1})
    assert steps(tmp_path / "metrics.jsonl") == [1]
    metrics.close()


@pytest.mark.parametrize("after, kept", [(0, []), (10, [10]), (15, [10]), (20, [10, 20]), (99, [10, 20, 30])])
def test_going_on_drops_what_will_come_again(tmp_path, after, kept):
    file = tmp_path / "metrics.jsonl"
    write(file, [10, 20, 30])
    write(file, [after + 1, after + 2], after)
    assert steps(file) == [*kept, after + 1, after + 2]


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_a_file_cut_anywhere_keeps_its_whole_lines_untouched(tmp_path, length):
    file = tmp_path / "metrics.jsonl"
    write(file, [10, 20, 30])
    text = file.read_text()
    file.write_text(text[:length])
    whole = [line for line in text.splitlines() if text.index(line) + len(line) <= length]
    assert steps(file) == [json.loads(line)["step"] for line in whole]
    write(file, [40], after=30)
    assert file.read_text().splitlines()[:-1] == whole
    assert steps(file)[-1] == 40
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("line", ["{}", "5", "null", "[1]", '"step"', "\0\0\0\0"])
def test_lines_that_are_no_rows_are_left_out(tmp_path, line):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 10}\n' + line + '\n{"step": 20}\n')
    assert steps(file) == [10, 20]
    write(file, [30], after=20)
    assert steps(file) == [10, 20, 30]


def events(directory):
    """(step, tag, value) of every event; TensorFlow's record format is a length, a checksum, the data, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(directory.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            assert len(data) >= 16 + length
            data = data[16 + length :]
            found += [(event.step, value.tag, value) for value in event.summary.value]
    return found


def test_tensorboard_events_can_be_read_back(tmp_path):
    board = TensorBoard(tmp_path)
    board.scalars({**ROW, "time": 1.7e9})
    board.picture("samples_ema", Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)), 60)
    board.close()
    found = events(tmp_path)
    scalars = {tag: value.simple_value for step, tag, value in found if step == 50}
    assert scalars.keys() == ROW.keys() - {"step"}
    for name, value in scalars.items():
        assert value == pytest.approx(ROW[name], rel=1e-6)
    ((tag, value),) = [(tag, value) for step, tag, value in found if step == 60]
    assert tag == "samples_ema"
    image = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    np.testing.assert_array_equal(image, np.repeat(np.arange(12).reshape(3, 4, 1), 3, axis=2))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(monkeypatch, out, total=100, **options):
    """A progress line on `out`, and a clock to set."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stdout", out)
    return ProgressLine(total, **options), clock


def test_a_pipe_gets_lines_every_so_often_and_the_last_one(monkeypatch):
    out = io.StringIO()
    line, clock = progress(monkeypatch, out, every=10.0)
    for step in range(10, 101, 10):
        clock[0] += 4.0
        line.show({**ROW, "step": step}, 100.0)
    line.close()
    printed = out.getvalue().splitlines()
    assert [text.split()[2] for text in printed] == ["10/100", "40/100", "70/100", "100/100"]
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()
    assert printed[0] == " 10% step 10/100  3,200 images  D 1.234  G 0.500  1,234 images/s  1:40 left"


def test_a_terminal_gets_one_line_redrawn(monkeypatch):
    out = Terminal()
    line, clock = progress(monkeypatch, out)
    for step in (10, 20, 30):
        clock[0] += 1.0
        line.show({**ROW, "step": step}, 65.0)
    clock[0] += 0.1
    line.show({**ROW, "step": 40}, 60.0)  # too soon to be redrawn
    assert out.getvalue().count("\r\x1b[K") == 3
    assert "\n" not in out.getvalue() and "40/100" not in out.getvalue()
    line.close()
    line.close()
    assert out.getvalue().endswith("1:05 left\n") and out.getvalue().count("\n") == 1


def test_a_row_with_less_in_it_shows_what_was_known(monkeypatch):
    out = io.StringIO()
    line, clock = progress(monkeypatch, out)
    line.show({"step": 10, "images": 640, "swd1k": 0.1}, 0.0)
    assert not out.getvalue()
    line.show(ROW, 0.0)
    clock[0] += 20.0
    line.show({"step": 60, "images": 3840}, 0.0)
    first, second = out.getvalue().splitlines()
    assert "step 60/100" in second and "3,840 images" in second
    assert first.split("D ")[1] == second.split("D ")[1]


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0:00"), (9.4, "0:09"), (65, "1:05"), (3599.6, "1:00:00"), (3700, "1:01:40"), (9e4, "25:00:00")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text
