"""What a Patient carries for statistics alone: a survey's design, and the groups of US Core."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_training.dataset import DatasetError

SURVEY_DESIGN = "urn:cds-service:survey-design"
# http://hl7.org/fhir/us/core/StructureDefinition-us-core-ethnicity.html and -race.html
ETHNICITY = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity"
RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
CDC_CODES = "urn:oid:2.16.840.1.113883.6.238"
HISPANIC, NOT_HISPANIC = "2135-2", "2186-5"
MEXICAN_AMERICAN = "2149-3"
# CDC Race and Ethnicity: Mexican, with what lies below it.
_MEXICAN = frozenset({"2148-5", MEXICAN_AMERICAN, "2150-1", "2151-9", "2152-7", "2153-5"})
WHITE, BLACK, OTHER_RACE = "2106-3", "2054-5", "2131-1"
_BY_RACE = {WHITE: "Non-Hispanic White", BLACK: "Non-Hispanic Black"}
# http://terminology.hl7.org/CodeSystem/v3-NullFlavor: what US Core allows besides CDC's codes.
NULL_FLAVOR, OTHER = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "OTH"
_NOT_TOLD = frozenset({"UNK", "ASKU"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyDesign:
    """How many people this one stands for, and where in the design; `record` names the person."""

    weight: float
    stratum: int
    sampling_unit: int
    record: str | None


def survey_extension(design: SurveyDesign) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"url": "weight", "valueDecimal": design.weight},
        {"url": "stratum", "valueInteger": design.stratum},
        {"url": "samplingUnit", "valueInteger": design.sampling_unit},
    ]
    if design.record is not None:
        parts.append({"url": "record", "valueString": design.record})
    return {"url": SURVEY_DESIGN, "extension": parts}


def read_survey(patient: Mapping[str, Any]) -> SurveyDesign | None:
    """None without the extension. Raises DatasetError where it is there and lacks a part."""
    for extension in _extensions(patient, SURVEY_DESIGN):
        parts = {str(part.get("url")): part for part in _inner(extension)}
        try:
            record = parts["record"]["valueString"] if "record" in parts else None
            return SurveyDesign(
                weight=float(parts["weight"]["valueDecimal"]),
                stratum=int(parts["stratum"]["valueInteger"]),
                sampling_unit=int(parts["samplingUnit"]["valueInteger"]),
                record=None if record is None else str(record),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise DatasetError(
                f"A Patient's extension {SURVEY_DESIGN} cannot be used ({fault!r}): it needs "
                "weight (valueDecimal), stratum and samplingUnit (valueInteger)."
            ) from fault
    return None


def group_extensions(
    *, ethnicity: str | None, detailed: str | None, race: str | None
) -> list[dict[str, Any]]:
    """US Core's extensions for codes of CDC's Race and Ethnicity, or OTHER; None is left out."""
    found = []
    if ethnicity is not None:
        codes = [("ombCategory", ethnicity)]
        codes += [("detailed", detailed)] if detailed is not None else []
        found.append(_coded(ETHNICITY, codes))
    if race is not None:
        found.append(_coded(RACE, [("ombCategory", race)]))
    return found


def read_group(patient: Mapping[str, Any], titles: Collection[str]) -> str | None:
    """The title of the person's group, for figures by group only; None where it cannot be told.

    A Hispanic person of whom no more is known is in the group "Hispanic" where the recipe has one,
    and in none where it asks for more than the record says.
    """
    ethnicity = set(_codes(patient, ETHNICITY)) - _NOT_TOLD
    races = set(_codes(patient, RACE)) - _NOT_TOLD
    title = _group(ethnicity, races)
    if title is not None and title not in titles and ethnicity & ({HISPANIC} | _MEXICAN):
        title = "Hispanic"
    return title if title in titles else None


def _group(ethnicity: set[str], races: set[str]) -> str | None:
    if ethnicity & _MEXICAN:
        return "Mexican American"
    if HISPANIC in ethnicity:
        return "Other Hispanic" if ethnicity - {HISPANIC} else "Hispanic"
    if NOT_HISPANIC not in ethnicity or not races:
        return None
    known = races & set(_BY_RACE)
    return _BY_RACE[known.pop()] if len(known) == len(races) == 1 else "Other or multiple"


def _coded(url: str, codes: list[tuple[str, str]]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {
            "url": level,
            "valueCoding": {"system": NULL_FLAVOR if code == OTHER else CDC_CODES, "code": code},
        }
        for level, code in codes
    ]
    # `text` is required by US Core.
    parts.append({"url": "text", "valueString": ", ".join(code for _, code in codes)})
    return {"url": url, "extension": parts}


def _codes(patient: Mapping[str, Any], url: str) -> Iterator[str]:
    """Codes at either level. Detailed races stand beside their category, which is enough."""
    for extension in _extensions(patient, url):
        for part in _inner(extension):
            coding = part.get("valueCoding")
            taken = ("ombCategory", "detailed") if url == ETHNICITY else ("ombCategory",)
            if part.get("url") in taken and isinstance(coding, dict):
                yield str(coding.get("code"))


def _extensions(patient: Mapping[str, Any], url: str) -> Iterator[Mapping[str, Any]]:
    return (extension for extension in _inner(patient) if extension.get("url") == url)


def _inner(element: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    extensions = element.get("extension")
    for extension in extensions if isinstance(extensions, list) else ():
        if isinstance(extension, dict):
            yield extension
