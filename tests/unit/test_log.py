"""Log lines, in processes of their own: what is configured is configured for a whole process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from cds_service.log import Lines, OwnLogger

BEGIN = """
import logging, os, sys, threading
import structlog
from cds_service.log import configure_logging
own, foreign = structlog.get_logger("cds_service.observe"), logging.getLogger("uvicorn.error")
configure_logging("INFO")
"""


def said(script: str) -> list[dict[str, Any]]:
    """Every line that `script` writes on stderr, which is a pipe."""
    ran = subprocess.run([sys.executable, "-c", BEGIN + script], capture_output=True, check=True)
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_our_own_lines_and_those_of_libraries_have_one_form() -> None:
    ours, theirs = said('own.warning("a", status=200); foreign.warning("a")')
    assert list(ours) == ["status", "event", "level", "logger", "timestamp"]
    assert list(theirs) == ["event", "level", "logger", "timestamp"]
    assert (ours["event"], ours["level"], ours["status"]) == ("a", "warning", 200)
    assert (ours["logger"], theirs["logger"]) == ("cds_service.observe", "uvicorn.error")
    for line in (ours, theirs):
        assert line["timestamp"].endswith("Z")


def test_below_the_level_nothing_is_written() -> None:
    written = said(
        'own.debug("a"); foreign.debug("a"); own.info("b"); foreign.info("b")\n'
        'configure_logging("ERROR")\n'
        'other = structlog.get_logger("other"); other.warning("c"); other.error("d")'
    )
    assert [line["event"] for line in written] == ["b", "b", "d"]


def test_of_a_fault_its_type_and_frames_are_written_and_not_its_message() -> None:
    written = said(
        "try:\n    int('Anna Weber')\nexcept ValueError as fault:\n"
        '    own.error("a", exc_info=fault); own.exception("b"); foreign.exception("c")'
    )
    assert [line["event"] for line in written] == ["a", "b", "c"]
    assert {line["level"] for line in written} == {"error"}
    assert {line["exception"] for line in written} == {"ValueError"}
    assert all(line["frames"] for line in written)
    assert "Anna" not in str(written)


def test_any_value_and_any_text_can_be_written() -> None:
    """A claim of a token may be half of a surrogate pair."""
    (line,) = said(r'own.info("a", issuer="\ud800", path=os, name="Müller", number=10**30)')
    assert line["issuer"] == "\ud800"
    assert line["path"].startswith("<module 'os'")
    assert (line["name"], line["number"]) == ("Müller", 10**30)


def test_lines_of_many_threads_are_not_mixed() -> None:
    """Long ones too: a pipe takes 4 kB in one piece, and Python's buffer 8."""
    written = said(
        "def say():\n"
        "    for size in (10, 5_000, 20_000) * 20:\n"
        '        own.info("x" * size); foreign.info("y" * size)\n'
        "threads = [threading.Thread(target=say) for _ in range(6)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]"
    )
    assert len(written) == 6 * 60 * 2


def test_a_log_that_cannot_be_written_fails_no_call(capsys: pytest.CaptureFixture[str]) -> None:
    gone = io.StringIO()
    gone.close()
    OwnLogger("observe", Lines(gone)).info({"event": "request", "status": 200})
    assert "I/O operation on closed file" in capsys.readouterr().err, "as `logging` does"
