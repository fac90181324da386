"""Codes are matched whole: system and code. The spellings of systems are data."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CodeKey = tuple[str, str]

# What names a diagnosis stands at the front; the rest of a megabyte of text is not searched.
LONGEST_TEXT = 1000
_GAP = re.compile(r"[\s\-\u2010-\u2015_/'\u2019]+")


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
    """What a CodeableConcept says in words: its text, and the display of each coding.

    Of each the first LONGEST_TEXT characters.
    """
    if not isinstance(concept, dict):
        return
    if isinstance(concept.get("text"), str):
        yield concept["text"][:LONGEST_TEXT]
    codings = concept.get("coding")
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and isinstance(coding.get("display"), str):
            yield coding["display"][:LONGEST_TEXT]


def by_system(systems: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """From each spelling of a system to the system's short name."""
    return {
        spelling: name
        for name, urls in systems.items()
        for url in urls
        for spelling in _url_spellings(url)
    }


def plain_words(text: str) -> str:
    """Lower case, without accents, with one blank for blanks, hyphens, slashes and apostrophes.

    So that a pattern says a word once: "Pré-diabète" is "pre diabete".
    """
    letters = unicodedata.normalize("NFKD", text.lower())
    return _GAP.sub(" ", "".join(c for c in letters if not unicodedata.combining(c)))


def _url_spellings(url: str) -> Iterator[str]:
    """With http and https, with and without a slash at the end; an OID as it is."""
    if not url.startswith(("http://", "https://")):
        yield url
        return
    rest = url.split("://", 1)[1].rstrip("/")
    for scheme in ("http", "https"):
        yield f"{scheme}://{rest}"
        yield f"{scheme}://{rest}/"
