"""What `make servers` has built, and why a suite that needs it cannot run here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).parent
BUILT = SOURCES.parents[1] / "var" / "servers"
_CLASSPATH = BUILT / "java" / "classpath"
_PACKAGES = BUILT / "node" / "node_modules" / ".package-lock.json"


def java_missing() -> str | None:
    """Why HAPI and the validator cannot run here; None: they can."""
    if shutil.which("java") is None:
        return "Java is not installed (Debian: apt-get install openjdk-17-jdk-headless maven)"
    sources = [SOURCES / "java" / "pom.xml", *SOURCES.glob("java/src/main/java/*.java")]
    reason = _unbuilt("HAPI FHIR and the HL7 validator", _CLASSPATH, sources)
    if reason is None and not all(map(Path.exists, _jars())):
        return "HAPI FHIR's packages have gone from Maven's repository (make -B servers)"
    return reason


def node_missing() -> str | None:
    """Why Medplum's router cannot run here; None: it can."""
    if shutil.which("node") is None:
        return "Node is not installed (version 20 or later)"
    return _unbuilt("Medplum's FHIR router", _PACKAGES, SOURCES.glob("node/*"))


def java(program: str, *arguments: str, megabytes: int) -> list[str]:
    """The command of a class in java/src. Tests want a quick start more than quick code."""
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Xmx{megabytes}m"]
    path = ":".join(map(str, [BUILT / "java" / "classes", *_jars()]))
    return ["java", *quick, "-cp", path, program, *arguments]


def node(program: str, *arguments: str) -> list[str]:
    return ["node", str(BUILT / "node" / program), *arguments]


def _jars() -> list[Path]:
    return [Path(jar) for jar in _CLASSPATH.read_text(encoding="utf-8").strip().split(":")]


def _unbuilt(what: str, product: Path, sources: Iterable[Path]) -> str | None:
    if not product.exists():
        return f"{what}: not built on this machine (make servers)"
    if any(source.stat().st_mtime > product.stat().st_mtime for source in sources):
        return f"{what}: older than its source (make servers)"
    return None
