"""Files that are written whole or not at all: no reader and no later start ever sees half of one."""

import contextlib
import csv
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` at the end; if that does not come, `path` stays as it was."""
    # Opened by name and not as a temporary file, which nobody else could read in a folder that people share.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8."""
    with written_whole(path) as file:
        file.write(text.encode())


def write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
