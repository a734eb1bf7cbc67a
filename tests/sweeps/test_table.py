"""The live table: in place on a terminal, plain lines in a file."""

import contextlib
import io

import pytest
from absl import logging

from jaxgan.sweeps.table import Table, describe, short_names
from tests.sweeps.test_results import FID, row


class Terminal(io.StringIO):
    """Keeps a screen as a terminal does, for the few codes that the table uses."""

    def isatty(self):
        return True

    def screen(self):
        lines, here = [""], 0
        text = self.getvalue()
        while text:
            if text.startswith("\x1b["):
                end = next(i for i, letter in enumerate(text) if letter.isalpha())
                code, text = text[2 : end + 1], text[end + 1 :]
                if code.endswith("A"):
                    here -= int(code[:-1])
                    assert here >= 0
                elif code == "J":
                    lines = [*lines[:here], ""]
            elif text[0] == "\n":
                here, text = here + 1, text[1:]
                lines += [""] * (here + 1 - len(lines))
            else:
                letter, text = text[0], text[1:]
                lines[here] += letter if letter != "\r" else ""
        return lines


@pytest.fixture
def terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (80, 24))
    return screen


def test_names_are_cut_down_to_what_tells_them_apart():
    names = ["optimizer.generator.b1", "optimizer.discriminator.b1", "seed", "loss.name", "a.seed"]
    assert short_names(names) == {
        "optimizer.generator.b1": "generator.b1",
        "optimizer.discriminator.b1": "discriminator.b1",
        "seed": "seed",
        "loss.name": "loss.name",
        "a.seed": "a.seed",
    }
    assert describe({"a.rate": 1 / 3, "b": {"from": 1.0}}) == "rate=0.3333  b={from: 1}"


def test_on_a_terminal_it_is_redrawn_in_its_place(terminal):
    rows = [row(0, 2.0, overrides={"seed": 1}), row(1, state="running", overrides={"seed": 2}), row(2, state="waiting")]
    with contextlib.redirect_stdout(terminal), Table([FID]) as table:
        table.update(rows)
        table.progress_of(1, 200).show({"step": 50}, 65.0)
        table.evaluated(1, {"fid1k_train_digits": 7.0})
        table.update(rows, "a note")
    screen = terminal.screen()
    assert screen[0] == "3 runs: 1 waiting, 1 running, 1 complete; a note"
    assert "0001 running" in screen[1] and "25% of 200, 1:05 left" in screen[1] and "fid 7" in screen[1]
    assert "0000 complete" in screen[2] and "fid 2" in screen[2]
    assert len([line for line in screen if line]) == 3


def test_a_message_comes_in_the_table_s_place_and_the_table_after_it(terminal):
    handler = logging.get_absl_handler()
    with contextlib.redirect_stdout(terminal), Table([FID]) as table:
        table.update([row(0, 2.0)])
        assert handler.filter(None)
        print("a warning")
        table.update([row(0, 2.0)])
    warning, head, line = (line for line in terminal.screen() if line)
    assert (warning, head) == ("a warning", "1 runs: 1 complete") and "0000 complete" in line
    assert not any(getattr(kept, "__self__", None) is table for kept in handler.filters)


def test_a_table_that_does_not_fit_is_cut(terminal, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (40, 10))
    with contextlib.redirect_stdout(terminal), Table([FID]) as table:
        table.update([row(i, float(i), overrides={"name": "x" * 99}) for i in range(30)])
        table.update([row(i, float(i), overrides={"name": "x" * 99}) for i in range(30)])
    lines = [line for line in terminal.screen() if line]
    assert len(lines) <= 9 and all(len(line) < 40 for line in lines) and "more" in lines[-1]


def test_in_a_file_each_change_is_a_line(capsys):
    with Table([FID]) as table:
        table.update([row(0, state="running"), row(1, state="waiting")])
        progress = table.progress_of(0, 100)
        progress.show({"step": 10}, 9.0)
        progress.show({"step": 20}, 8.0)  # too soon after the last
        table.update([row(0, 2.0), row(1, state="failed", reason="nan")], "a note")
        table.update([row(0, 2.0), row(1, state="failed", reason="nan")], "a note")
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:15] for line in lines[:2]] == ["0000 running ", "0000 running "] and "10% of 100" in lines[1]
    assert "0000 complete fid 2" in lines[2] and "(nan)" in lines[3]
    assert lines[4:] == ["a note"]


def test_single_runs_messages_are_held_back_meanwhile():
    before = logging.get_verbosity()
    with Table([FID]):
        assert logging.get_verbosity() == logging.WARNING
    assert logging.get_verbosity() == before
