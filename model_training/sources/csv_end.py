"""Whether a CSV file was written to its end: a download that breaks off ends inside a line.

What is missing after a whole line cannot be told from the file; packed files tell it by themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

_LINE_ENDS = (b"\n", b"\r")


def ends_inside_a_line(path: Path) -> bool:
    """Of a file that is not packed; False of an empty one."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) not in _LINE_ENDS
