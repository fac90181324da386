"""Codes are matched whole: system and code. The spellings of systems are data."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

CodeKey = tuple[str, str]

# What names a diagnosis stands at the front; the rest of a megabyte of text is not searched.
LONGEST_TEXT = 1000
# Of a pattern, what has no case: classes, escaped signs, ranges of small letters or digits, groups.
_PLAIN_PARTS = re.compile(r"\\[bBdDsSwW.()\[\]?*+^$|/-]|a-z|0-9|\(\?(?::|=|!|<=|<!)")
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
    letters = text.lower()
    if not letters.isascii():  # ASCII has nothing to decompose, and no accents
        letters = unicodedata.normalize("NFKD", letters)
        letters = "".join(c for c in letters if not unicodedata.combining(c))
    return _GAP.sub(" ", letters)


@dataclass(frozen=True, slots=True)
class WordPattern:
    """A pattern to be looked for in `plain_words`, upper and lower case alike.

    `in_ascii` is the same without case, which takes several times as long: plain words are lower
    case already, and only beyond ASCII are there letters that `lower` and `re` see differently.
    """

    pattern: re.Pattern[str]
    in_ascii: re.Pattern[str]

    def search(self, plain: str) -> re.Match[str] | None:
        return (self.in_ascii if plain.isascii() else self.pattern).search(plain)


def word_pattern(source: str) -> WordPattern:
    """Raises re.error where `source` is no pattern."""
    pattern = re.compile(source, re.IGNORECASE)
    return WordPattern(pattern, re.compile(source) if _is_lower(source) else pattern)


def _is_lower(source: str) -> bool:
    """Whether case makes no difference to this pattern in lower case ASCII: each letter that it
    names is a lower case one, or none of ASCII in either case. What is not sure is not."""
    bare = _PLAIN_PARTS.sub("", source)
    if "\\" in bare or "-" in bare or "(?" in bare:
        return False
    return not any(c.isupper() or (not c.isascii() and _ascii_twin(c)) for c in bare)


def _ascii_twin(letter: str) -> bool:
    return any(re.fullmatch(re.escape(letter), twin, re.IGNORECASE) for twin in ascii_lowercase)


def _url_spellings(url: str) -> Iterator[str]:
    """With http and https, with and without a slash at the end; an OID as it is."""
    if not url.startswith(("http://", "https://")):
        yield url
        return
    rest = url.split("://", 1)[1].rstrip("/")
    for scheme in ("http", "https"):
        yield f"{scheme}://{rest}"
        yield f"{scheme}://{rest}/"
