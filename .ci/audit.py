"""Known vulnerabilities in what is installed, and secrets in what is committed.

    .venv/bin/python .ci/audit.py            # look, and say what could not be looked at
    .venv/bin/python .ci/audit.py --accept   # keep the present findings in .secrets.baseline
    .venv/bin/python .ci/audit.py --strict   # for a release: every package has to be looked up

Exit 1 for a vulnerability, a secret that .secrets.baseline does not know, or a tool that does not
run. Where the package index cannot be asked, that is said and no fault, unless --strict: a build
must not depend on somebody else's server.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
BASELINE = ROOT / ".secrets.baseline"
REQUIREMENTS = "requirements-dev.txt"  # all of requirements.txt is in it
SECONDS = 180
# What pip-audit says on stderr where it reaches no index.
_OFFLINE = re.compile(
    r"connection|timed? ?out|name resolution|unreachable|max retries", re.IGNORECASE
)
# Digests, pictures, trained models, audit chains and identifiers: long random text by nature.
NOT_SCANNED = (
    "requirements",
    "model_artifacts/",
    "tests/payloads/assessments/",
    "tests/payloads/stores/",
    ".secrets.baseline",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found, in lines for the log. `passed` is False for findings, and for a tool that
    does not run; `whole` is False where something was not looked at."""

    passed: bool
    lines: tuple[str, ...]
    whole: bool = True


def read_audit(report: dict[str, Any]) -> Verdict:
    """The verdict on a JSON report of pip-audit."""
    packages = report["dependencies"]
    unseen = [package["name"] for package in packages if "skip_reason" in package]
    found = tuple(
        f"{package['name']} {package['version']}: {fault['id']}, fixed in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in packages
        for fault in package.get("vulns", ())
    )
    seen = f"known vulnerabilities: {len(packages) - len(unseen)} packages looked up"
    notes = (f"NOT LOOKED UP: {len(unseen)} of {len(packages)} packages, the index did not answer",)
    lines = (*found, *(notes if unseen else ()), seen)
    return Verdict(passed=not found, lines=lines, whole=not unseen)


def read_scan(scan: dict[str, Any], baseline: dict[str, Any]) -> Verdict:
    """The verdict on a scan of detect-secrets: what the baseline holds was looked at before."""
    known = set(_secrets(baseline))
    new = [each for each in _secrets(scan) if each not in known]
    lines = tuple(f"{path}: {kind} ({digest[:8]})" for path, kind, digest in new)
    total = f"secrets: {len(new)} new, {len(known)} known"
    return Verdict(passed=not new, lines=(*lines, total))


def _secrets(scan: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (path, found["type"], found["hashed_secret"])
        for path, all_found in scan["results"].items()
        for found in all_found
    ]


def audit() -> Verdict:
    """pip-audit on the lock file; it never raises."""
    command = [str(BIN / "pip-audit"), "--format", "json", "--progress-spinner", "off"]
    given = ["--disable-pip", "--require-hashes", "--requirement", REQUIREMENTS]
    try:
        # Exit 1 means that something was found: the report says what.
        answer = subprocess.run(  # noqa: S603
            [*command, *given], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
        )
        return read_audit(json.loads(answer.stdout))
    except subprocess.TimeoutExpired:
        return _not_looked_up("the index did not answer in time", offline=True)
    except OSError as fault:
        return _not_looked_up(f"pip-audit does not run: {type(fault).__name__}", offline=False)
    except (ValueError, LookupError, TypeError):
        said = (answer.stderr.strip().splitlines() or ["nothing"])[-1]
        return _not_looked_up(
            f"pip-audit said: {said}", offline=bool(_OFFLINE.search(answer.stderr))
        )


def _not_looked_up(why: str, *, offline: bool) -> Verdict:
    note = f"NOT LOOKED UP: known vulnerabilities ({why})"
    return Verdict(passed=offline, lines=(note,), whole=False)


def scan() -> dict[str, Any]:
    """detect-secrets on the committed files; it asks no server whether a finding is real."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [
        name
        for name in listed.stdout.split("\0")
        if name and not name.startswith(NOT_SCANNED) and (ROOT / name).is_file()
    ]
    answer = subprocess.run(  # noqa: S603
        [str(BIN / "detect-secrets"), "scan", "--no-verify", *files],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def main() -> int:
    """Prints both verdicts; 1 when one of them did not pass, or with --strict is not whole."""
    found = scan()
    if "--accept" in sys.argv[1:]:
        BASELINE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    verdicts = (audit(), read_scan(found, baseline))
    sys.stdout.write("\n".join(line for each in verdicts for line in each.lines) + "\n")
    strict = "--strict" in sys.argv[1:]
    return 0 if all(each.passed and (each.whole or not strict) for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
