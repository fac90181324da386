"""HL7's own validator for R4 resources, as HAPI publishes it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers import built


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """`severity` is fatal, error, warning or information; `location` a FHIRPath."""

    severity: str
    location: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.severity in ("fatal", "error")


class Validator:
    """`with Validator(log) as validator:` one process for many resources."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def validate(self, resource: Mapping[str, Any]) -> list[Issue]:
        """Every issue, whatever its severity. The first resource takes some seconds."""
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        questions.write(json.dumps(resource) + "\n")
        questions.flush()
        answer = answers.readline()
        assert answer, f"the validator ended:\n{self._log.read_text()[-4000:]}"
        return [Issue(**issue) for issue in json.loads(answer)]

    def errors(self, resource: Mapping[str, Any]) -> list[Issue]:
        return [issue for issue in self.validate(resource) if issue.is_error]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                built.java("ResourceValidator", megabytes=1024),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()  # the end of its input is the end of the validator
        self._process.wait(timeout=30)
