"""Codes are matched whole: system and code. The spellings of systems are data."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CodeKey = tuple[str, str]


def spellings(systems: Iterable[str], code: str, *, hyphenless: bool = False) -> Iterator[CodeKey]:
    """Every (system, code) by which one code may arrive.

    `hyphenless`: LOINC codes whose hyphen was lost. The last digit is a check digit and always
    stands behind a hyphen (LOINC Users' Guide), so that nothing is guessed in putting it back.
    """
    for system in systems:
        yield system, code
        if hyphenless:
            yield system, code.replace("-", "")


def code_keys(concept: Any) -> Iterator[CodeKey]:
    """The (system, code) pairs of a CodeableConcept; whatever is not one yields nothing."""
    if not isinstance(concept, dict):
        return
    codings = concept.get("coding")
    if not isinstance(codings, list):
        return
    for coding in codings:
        if isinstance(coding, dict):
            system, code = coding.get("system"), coding.get("code")
            if isinstance(system, str) and isinstance(code, str):
                yield system.strip(), code.strip()


def texts(concept: Any) -> Iterator[str]:
    """What a CodeableConcept says in words: its text, and the display of each coding."""
    if not isinstance(concept, dict):
        return
    if isinstance(concept.get("text"), str):
        yield concept["text"]
    codings = concept.get("coding")
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and isinstance(coding.get("display"), str):
            yield coding["display"]


def by_system(systems: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """From each spelling of a system to the system's short name."""
    return {url: name for name, urls in systems.items() for url in urls}
