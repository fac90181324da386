"""Conditions and medication requests: what is known about the patient that a model must respect.

They are read as R4; those of another version go through `versions.as_r4` first.
In doubt a finding counts: a figure that is not shown harms less than one that should not be.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.codes import code_keys, plain_words, texts
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


def condition_shows(
    condition: Mapping[str, Any], rule: FindingRule, systems: Mapping[str, str], as_of: datetime
) -> bool:
    """Whether a Condition of this patient is the finding."""
    if _status(condition.get("verificationStatus")) & NOT_HELD:
        return False
    if not _names(condition.get("code"), rule, systems):
        return False
    return rule.persistent or _is_current(condition, rule, as_of)


def medication_shows(
    request: Mapping[str, Any], rule: FindingRule, systems: Mapping[str, str]
) -> bool:
    """Whether a MedicationRequest or MedicationStatement of this patient implies the finding."""
    status = request.get("status")
    if (isinstance(status, str) and status.strip() in NOT_GIVEN) or (
        request.get("doNotPerform") is True
    ):
        return False
    return any(
        _coded(medicine, rule.exact, rule.prefixes, systems)
        or any(
            rule.medicine_words and rule.medicine_words.search(plain_words(text))
            for text in texts(medicine)
        )
        for medicine in _medicines(request)
    )


def _names(code: Any, rule: FindingRule, systems: Mapping[str, str]) -> bool:
    """By a code that is the finding; failing that in words, unless a code says something else."""
    if _coded(code, rule.exact, rule.prefixes, systems):
        return True
    if _coded(code, rule.not_exact, rule.not_prefixes, systems):
        return False
    return any(_worded(text, rule) for text in texts(code))


def _coded(
    code: Any,
    exact: frozenset[tuple[str, str]],
    prefixes: Mapping[str, frozenset[str]],
    systems: Mapping[str, str],
) -> bool:
    for url, value in code_keys(code):
        system = systems.get(url, "")
        if (system, value) in exact:
            return True
        # ICD and ATC are hierarchies by prefix; the dot is often left out.
        plain = value.replace(".", "")
        if system not in CASE_SENSITIVE:
            plain = plain.upper()
        if any(plain.startswith(prefix) for prefix in prefixes.get(system, ())):
            return True
    return False


def _worded(text: str, rule: FindingRule) -> bool:
    """Whether a word for the finding is left once the phrases that are not it are taken out."""
    if rule.words is None:
        return False
    plain = plain_words(text)
    if not rule.words.search(plain):
        return False
    return rule.not_phrases is None or bool(rule.words.search(rule.not_phrases.sub(";", plain)))


def _status(value: Any) -> set[str]:
    return {code for _, code in code_keys(value)} | set(_bare_codes(value))


def _bare_codes(value: Any) -> Iterator[str]:
    """Codes sent without their system: for a status the words are unmistakable."""
    codings = value.get("coding") if isinstance(value, dict) else None
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield coding["code"].strip()


def _is_current(condition: Mapping[str, Any], rule: FindingRule, as_of: datetime) -> bool:
    if _status(condition.get("clinicalStatus")) & PAST:
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
