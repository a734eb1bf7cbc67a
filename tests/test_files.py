import csv

import pytest

from jaxgan.files import write_table, write_text, written_whole


def test_what_is_half_written_never_shows(tmp_path):
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with written_whole(tmp_path / "x") as file:
        file.write(b"whole")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_texts_and_tables(tmp_path):
    write_text(tmp_path / "text", "Fréchet\n")
    assert (tmp_path / "text").read_bytes() == "Fréchet\n".encode()
    rows = [["a, b", 'a "c"'], ["1", ""]]
    write_table(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == rows
