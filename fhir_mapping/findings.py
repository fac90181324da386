"""Conditions and medication requests: what is known about the patient that a model must respect.

They are read as R4; those of another version go through `versions.as_r4` first.
In doubt a finding counts: a figure that is not shown harms less than one that should not be.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.codes import WordPattern, code_keys, plain_words, texts
from fhir_mapping.concepts import FindingRule
from fhir_mapping.times import read_datetime, read_period
from fhir_mapping.vector import Effective

# http://hl7.org/fhir/R4/valueset-condition-ver-status.html
NOT_HELD = frozenset({"refuted", "entered-in-error"})
# http://hl7.org/fhir/R4/valueset-condition-clinical.html
PAST = frozenset({"inactive", "remission", "resolved"})
NOT_GIVEN = frozenset({"entered-in-error", "cancelled", "draft", "not-taken"})
MEDICATION_TYPES = frozenset({"MedicationRequest", "MedicationStatement"})
# Read codes differ in their letters' case: C10 is diabetes, c10 a medicine for the lungs.
CASE_SENSITIVE = frozenset({"read"})


def shown_by_condition(
    condition: Mapping[str, Any],
    rules: Iterable[FindingRule],
    systems: Mapping[str, str],
    as_of: datetime,
) -> Iterator[FindingRule]:
    """The findings that a Condition of this patient is."""
    if _has_status(condition.get("verificationStatus"), NOT_HELD):
        return
    named = _Named(condition.get("code"), systems)
    for rule in rules:
        if _is_named(named, rule) and (rule.persistent or _is_current(condition, rule, as_of)):
            yield rule


def shown_by_medication(
    request: Mapping[str, Any], rules: Iterable[FindingRule], systems: Mapping[str, str]
) -> Iterator[FindingRule]:
    """The findings that a MedicationRequest or MedicationStatement of this patient implies."""
    status = request.get("status")
    if (isinstance(status, str) and status.strip() in NOT_GIVEN) or (
        request.get("doNotPerform") is True
    ):
        return
    medicines = [_Named(medicine, systems) for medicine in _medicines(request)]
    for rule in rules:
        if any(_is_medicine(medicine, rule) for medicine in medicines):
            yield rule


def medication_shows(
    request: Mapping[str, Any], rule: FindingRule, systems: Mapping[str, str]
) -> bool:
    """Whether a MedicationRequest or MedicationStatement of this patient implies the finding."""
    return any(shown_by_medication(request, (rule,), systems))


class _Named:
    """What a CodeableConcept names, in the forms that rules are written in; each is made once, and
    the words only if a rule asks for them."""

    __slots__ = ("_concept", "_words", "codes")

    def __init__(self, concept: Any, systems: Mapping[str, str]) -> None:
        self._concept = concept
        self._words: set[str] | None = None
        self.codes = [
            (system, value, _without_dots(system, value))
            for url, value in code_keys(concept)
            if (system := systems.get(url)) is not None
        ]

    @property
    def words(self) -> set[str]:
        if self._words is None:
            self._words = {plain_words(text) for text in set(texts(self._concept))}
        return self._words


def _without_dots(system: str, value: str) -> str:
    """ICD and ATC are hierarchies by prefix; the dot is often left out."""
    plain = value.replace(".", "")
    return plain if system in CASE_SENSITIVE else plain.upper()


def _is_named(named: _Named, rule: FindingRule) -> bool:
    """By a code that is the finding; failing that in words, unless a code says something else."""
    if _is_coded(named, rule.exact, rule.prefixes):
        return True
    if rule.words is None or _is_coded(named, rule.not_exact, rule.not_prefixes):
        return False
    return any(_is_worded(plain, rule.words, rule.not_phrases) for plain in named.words)


def _is_medicine(named: _Named, rule: FindingRule) -> bool:
    if _is_coded(named, rule.exact, rule.prefixes):
        return True
    pattern = rule.medicine_words
    return pattern is not None and any(pattern.search(plain) for plain in named.words)


def _is_coded(
    named: _Named, exact: frozenset[tuple[str, str]], prefixes: Mapping[str, tuple[str, ...]]
) -> bool:
    for system, value, plain in named.codes:
        if (system, value) in exact or plain.startswith(prefixes.get(system, ())):
            return True
    return False


def _is_worded(plain: str, words: WordPattern, not_phrases: re.Pattern[str] | None) -> bool:
    """Whether a word for the finding is left once the phrases that are not it are taken out."""
    if not words.search(plain):
        return False
    return not_phrases is None or bool(words.search(not_phrases.sub(";", plain)))


def _has_status(value: Any, among: frozenset[str]) -> bool:
    """Also where the code is sent without its system: for a status the words are unmistakable."""
    codings = value.get("coding") if isinstance(value, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        code = coding.get("code") if isinstance(coding, dict) else None
        if isinstance(code, str) and code.strip() in among:
            return True
    return False


def _is_current(condition: Mapping[str, Any], rule: FindingRule, as_of: datetime) -> bool:
    if _has_status(condition.get("clinicalStatus"), PAST):
        return False
    ended = _time(condition, "abatement", as_of)
    if ended and ended.latest <= as_of:
        return False
    recorded = read_datetime(condition.get("recordedDate"), as_of.tzinfo)  # type: ignore[arg-type]
    began = _time(condition, "onset", as_of) or recorded
    if began is None or rule.max_days is None:
        return True
    return began.latest >= as_of - timedelta(days=rule.max_days)


def _time(condition: Mapping[str, Any], element: str, as_of: datetime) -> Effective | None:
    return read_datetime(condition.get(f"{element}DateTime"), as_of.tzinfo) or read_period(  # type: ignore[arg-type]
        condition.get(f"{element}Period"),
        as_of.tzinfo,  # type: ignore[arg-type]
    )


def _medicines(request: Mapping[str, Any]) -> Iterator[Any]:
    """The medicine itself, what a reference calls it, and a contained Medication."""
    yield request.get("medicationCodeableConcept")
    reference = request.get("medicationReference")
    # A display on the reference is all that some servers send.
    if isinstance(reference, dict) and isinstance(reference.get("display"), str):
        yield {"text": reference["display"]}
    target = reference.get("reference") if isinstance(reference, dict) else None
    contained = request.get("contained")
    for resource in contained if isinstance(contained, list) else ():
        if isinstance(resource, dict) and target == f"#{resource.get('id')}":
            yield resource.get("code")
            yield from _ingredients(resource)


def _ingredients(medication: Mapping[str, Any]) -> Iterator[Any]:
    ingredients = medication.get("ingredient")
    for ingredient in ingredients if isinstance(ingredients, list) else ():
        if isinstance(ingredient, dict):
            yield ingredient.get("itemCodeableConcept")
