"""SAS version 5 transport files (XPT), the form in which CDC publishes its tables.

SAS Institute, TS-140: https://www.loc.gov/preservation/digital/formats/fdd/fdd000464.shtml
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

START = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
_RECORD = 80  # bytes; a file is filled up to a multiple of it
# pandas reads SAS's 0 as the smallest number that IBM's float format has, 5.4e-79.
_ZERO = 1e-70


def is_whole(path: Path) -> bool:
    """Whether a transport file is there that was not cut off within a record."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(len(START))
    return start == START and path.stat().st_size % _RECORD == 0


def read_transport(path: Path, encoding: str) -> pd.DataFrame:
    """Raises ValueError, struct.error or IndexError where the file is no whole transport file."""
    if not is_whole(path):
        raise ValueError("not a whole SAS transport file")
    frame = pd.read_sas(path, format="xport", encoding=encoding)
    numbers = frame.select_dtypes("number")
    return frame.assign(**numbers.mask(numbers.abs() < _ZERO, 0.0))
