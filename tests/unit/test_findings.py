"""Which diagnoses and medicines are a finding and which are not, by code and in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_mapping import compile_mapping, load_catalog, map_features
from fhir_mapping.codes import LONGEST_TEXT, plain_words, texts

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MAPPING = compile_mapping(
    load_catalog(),
    {"features": [], "domain": {"exclude": ["deceased", "known_diabetes", "pregnancy"]}},
)
SNOMED = "http://snomed.info/sct"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"
ICD11 = "http://id.who.int/icd/release/11/mms"
ICPC = "http://hl7.org/fhir/sid/icpc-2"
READ = "http://read.info/readv2"


def findings(*resources: Any, fhir_base: str | None = None) -> set[str]:
    vector = map_features(MAPPING, resources, as_of=NOW, patient_id="p1", fhir_base=fhir_base)
    return set(vector.findings)


def condition(code: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": "Patient/p1"},
        "recordedDate": "2026-10-20",
        "code": code,
        **more,
    }


def worded(text: str) -> set[str]:
    return findings(condition({"text": text}))


def coded(system: str, code: str, text: str | None = None) -> set[str]:
    return findings(condition({"coding": [{"system": system, "code": code}], "text": text}))


def medication(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "m",
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        **more,
    }


# ----------------------------------------------------------------------------------- diabetes


@pytest.mark.parametrize(
    "text",
    [
        "Type 2 diabetes mellitus without diabetic retinopathy",
        "Type 2 diabetes mellitus, high risk foot",
        "Type 2 diabetes, at risk for foot ulcer",
        "Diabetes mellitus with increased risk of foot ulcer",
        "Diabetes with no evidence of retinopathy",
        "T2DM, retinopathy screening due",
        "T2DM; no diabetic nephropathy",
        "Type 2 diabetes, needs education",
        "Type 2 diabetes with suspected nephropathy",
        "Type 2 diabetes mellitus, history of gestational diabetes",
        "Type 2 diabetes mellitus, family history of diabetes",
        "Type 2 diabetes mellitus without complication",
        "Non-insulin-dependent diabetes mellitus",
        "Diabetes, not type 1 diabetes",
        "Diabetes mellitus AND insipidus with optic atrophy AND deafness",
        "Diabetes, gestational age 20 weeks",
        "Pregestational diabetes",
        "Pre-gestational diabetes mellitus",
        "Pre-existing type 2 diabetes mellitus in pregnancy",
        "Maternally inherited diabetes and deafness",
        "Latent autoimmune diabetes in adults",
        "No diabetic retinopathy",
        "Uncontrolled type 2 diabetes screening foot",
        "Poorly controlled diabetes risk factor",
        "Screening for diabetic retinopathy",
        "Increased risk of diabetic foot",
        "History of diabetes",
        "Suspected diabetes mellitus",
        "Verdacht auf Diabetes",
        "Diabetes (HTN, no CKD)",
        "DM",
        "HTN/DM",
        "DM2",
        "DM II",
        "DMT2",
        "DM type 2",
        "DM tipo 2",
        "Type II DM",
        "T2 DM",
        "T2D",
        "NIDDM",
        "IDDM",
        "LADA",
        "MODY",
        "MODY2",
        "MODY 3",
        "Insulin-treated type 2",
        "Typ-2-Diabetes",
        "Steroiddiabetes",
        "Diabète sucré",
        "Diabe\u0300te de type 2",
        "DIAB\u00c8TE",
        "Rétinopathie diabétique",
        "diabetische Retinopathie",
        "Diabetis mellitus",
        "diabete mellito tipo 2",
        "Zuckerkrankheit",
        "suikerziekte",
        "Cukrzyca typu 2",
    ],
)
def test_words_for_diabetes_are_known_diabetes(text: str) -> None:
    assert "known_diabetes" in worded(text)


@pytest.mark.parametrize(
    "text",
    [
        "Prediabetes",
        "pre diabetic",
        "Prädiabetes",
        "prédiabète",
        "stan przedcukrzycowy",
        "Borderline diabetes",
        "Latent diabetes",
        "Nondiabetic",
        "non-diabetic hyperglycaemia",
        "Nichtdiabetiker",
        "Kein Diabetes",
        "kein Hinweis auf Diabetes",
        "Diabetes mellitus ausgeschlossen",
        "Ausschluss Diabetes mellitus",
        "No diabetes",
        "Not diabetic",
        "No known diabetes mellitus type 2",
        "Denies diabetes",
        "Denies DM",
        "No history of diabetes",
        "No evidence of diabetes",
        "Hypertension without diabetes",
        "Negative for diabetes",
        "Diabetes ruled out",
        "Diabetes: no",
        "pas de diabète",
        "sin diabetes",
        "Family history of diabetes mellitus",
        "Family history of type 2 diabetes",
        "Family history of hypertension and diabetes",
        "Family hx of diabetes mellitus",
        "Fam hx DM",
        "FH: Diabetes",
        "FHx of diabetes",
        "Mother has diabetes",
        "Father diabetic",
        "Diabetes in mother",
        "Maternal history of diabetes",
        "Infant of diabetic mother",
        "Diabetes mellitus in der Familienanamnese",
        "Familienanamnese: Diabetes",
        "Historia familiar de diabetes",
        "Antecedentes familiares de diabetes",
        "antécédents familiaux de diabète",
        "At risk for diabetes",
        "At risk of diabetes",
        "Diabetes risk assessment",
        "Diabetesrisiko",
        "Screening for diabetes mellitus",
        "Diabetes screening",
        "Diabetes prevention program",
        "Diabetes insipidus",
        "Diabète insipide",
        "diabetes insípida",
        "Zentraler Diabetes insipidus",
        "Phosphatdiabetes",
        "Myotonic dystrophy type 1 (DM1)",
        "Insulin resistance",
        "Impaired glucose tolerance",
    ],
)
def test_what_only_sounds_like_diabetes_is_no_finding(text: str) -> None:
    assert worded(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Gestational diabetes",
        "Gestational diabetes mellitus, class A1",
        "Diabetes mellitus, gestational",
        "Gestationsdiabetes",
        "Schwangerschaftsdiabetes",
        "Zwangerschapsdiabetes",
        "Diabète gestationnel",
        "Diabetes gestacional",
        "Diabete gestazionale",
    ],
)
def test_gestational_diabetes_is_not_known_diabetes(text: str) -> None:
    assert "known_diabetes" not in worded(text)


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("https://hl7.org/fhir/sid/icd-10-cm", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-cm/", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-am", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-ca", "E11.9"),
        ("https://fhir.infoway-inforoute.ca/CodeSystem/icd-10-ca", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-se", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-fi", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-no", "E11.9"),
        ("http://hl7.org/fhir/sid/icd-10-dk", "E11.9"),
        ("https://smt.esante.gouv.fr/terminologie-cim-10/", "E11.9"),
        (ICD11, "5A10"),
        (ICD11, "5A11"),
        ("http://id.who.int/icd/release/11/2024-01/mms", "5A14"),
        (ICPC, "T89"),
        (ICPC, "T90"),
        ("urn:oid:2.16.840.1.113883.6.139", "T90"),
        (READ, "C10F."),
        ("http://read.info/ctv3", "X40J5"),
        ("https://snomed.info/sct/", "44054006"),
        *[
            (SNOMED, code)
            for code in [
                "472969004",
                "472970003",
                "472972006",
                "161445009",
                "315051004",
                "711000119100",
                "421847006",
                "441656006",
            ]
        ],
    ],
)
def test_codes_for_diabetes_are_read_in_every_system(system: str, code: str) -> None:
    assert coded(system, code) == {"known_diabetes"}


@pytest.mark.parametrize(
    ("system", "code", "text"),
    [
        (ICD10, "R73.03", "Diabetes, early"),
        (ICD10, "R73.09", "Diabetes, early"),
        (ICD10, "Z83.3", "Diabetes mellitus, Mutter"),
        (ICD10, "Z13.1", "Encounter for diabetes check"),
        (ICD10, "Z86.32", "Diabetes during last pregnancy"),
        (ICD10, "E23.2", "Diabetes"),
        (ICD10, "N25.1", "Diabetes, renal"),
        (ICD9, "V18.0", "Diabetes, mother's side"),
        (ICD11, "5A40", "Diabetes, early"),
        (SNOMED, "15777000", "Diabetes, early"),
        (SNOMED, "714628002", "Diabetes, early"),
        (SNOMED, "160303001", "Diabetes, mother's side"),
        (SNOMED, "171183004", "Diabetes check"),
        (SNOMED, "15771004", "Diabetes"),
        (SNOMED, "472971004", "Diabetes during last pregnancy"),
    ],
)
def test_a_code_for_something_else_goes_before_words(system: str, code: str, text: str) -> None:
    assert coded(system, code) == set()
    assert "known_diabetes" not in coded(system, code, text)
    assert "known_diabetes" in coded("urn:vendor", code, text)


def test_a_code_of_the_finding_goes_before_a_code_for_something_else() -> None:
    codes = [{"system": ICD10, "code": "R73.03"}, {"system": ICD10, "code": "E11.9"}]
    assert findings(condition({"coding": codes})) == {"known_diabetes"}


def test_read_codes_differ_by_case() -> None:
    assert coded(READ, "c10F.") == set()


# ---------------------------------------------------------------------------------- pregnancy


@pytest.mark.parametrize(
    "text",
    [
        "Pregnant",
        "High risk pregnancy",
        "High-risk pregnancy",
        "Pregnant, gestational age 20 weeks",
        "Pregnant (test positive)",
        "Encounter for pregnancy test, result positive",
        "Pregnancy with history of cesarean",
        "Unplanned pregnancy",
        "Planned pregnancy",
        "Pregnancy complications, no diabetes",
        "Gestational diabetes",
        "20 weeks gestation",
        "Gravida 2 para 1, 20w",
        "IUP at 12 weeks",
        "Schwangerschaft 20. Woche",
        "Risikoschwangerschaft",
        "Schwangerschaftsdiabetes",
        "embarazo",
        "embarazada",
        "Grossesse",
        "enceinte",
        "zwanger",
        "zwangerschap",
        "gravidanza",
        "incinta",
    ],
)
def test_words_for_a_pregnancy_are_one(text: str) -> None:
    assert worded(text) == {"pregnancy"}


@pytest.mark.parametrize(
    "text",
    [
        "Not pregnant",
        "No evidence of pregnancy",
        "Keine Schwangerschaft",
        "History of pregnancy",
        "History of ectopic pregnancy",
        "History of gestational diabetes",
        "hx of gestational diabetes",
        "Previous pregnancy",
        "Pregnancy test negative",
        "Encounter for pregnancy test, result negative",
        "Negative pregnancy test",
        "Planning pregnancy",
        "Trying to become pregnant",
        "Wunsch nach Schwangerschaft",
        "Pregnancy prevention",
        "Postpartum",
        "Postpartum gestational diabetes mellitus",
        "Pregravid",
        "Gravidity unknown",
        "Nulligravida",
        "Risk of pregnancy",
    ],
)
def test_what_only_speaks_of_pregnancy_is_none(text: str) -> None:
    assert worded(text) == set()


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (ICD10, "O24.410"),
        (ICD10, "Z32.01"),
        (ICD10, "O60.00"),
        (ICD11, "JA63.2"),
        (ICPC, "W78"),
        (ICPC, "W85"),
        (SNOMED, "11687002"),
    ],
)
def test_codes_for_a_current_pregnancy_are_one(system: str, code: str) -> None:
    assert coded(system, code) == {"pregnancy"}


@pytest.mark.parametrize(
    ("system", "code"), [(ICD10, "O24.410"), (ICPC, "W85"), (SNOMED, "11687002")]
)
def test_a_code_for_gestational_diabetes_is_a_pregnancy_alone(system: str, code: str) -> None:
    assert coded(system, code, "Diabetes in pregnancy") == {"pregnancy"}


@pytest.mark.parametrize(
    ("system", "code"),
    [
        (ICD10, "Z86.32"),
        (ICD10, "Z87.51"),
        (ICD10, "Z32.02"),
        (SNOMED, "472971004"),
        (SNOMED, "289256000"),
        (SNOMED, "169826009"),
        (SNOMED, "445088006"),
        (SNOMED, "40791000119105"),
    ],
)
def test_a_pregnancy_that_is_over_or_none_is_none(system: str, code: str) -> None:
    assert coded(system, code) == set()


# ---------------------------------------------------------------------------------- medicines


@pytest.mark.parametrize(
    "name",
    [
        *[
            "Glibenclamid",
            "Gliclazid",
            "Glimepirida",
            "Glipizid",
            "Insulina",
            "Inzulin",
            "Insuline",
            "Metformina",
        ],
        *[
            "Metformine",
            "Gliquidone",
            "Voglibose",
            "Isophane",
            "Sitagliptin",
            "Teneligliptin",
            "Lantus",
            "Humalog",
        ],
        *[
            "NovoRapid",
            "Levemir",
            "Tresiba",
            "Toujeo",
            "Humulin",
            "Novolin",
            "Glucophage",
            "Siofor",
            "Janumet",
        ],
        *[
            "Januvia",
            "Amaryl",
            "Xigduo",
            "Synjardy",
            "Diamicron",
            "Actos",
            "Galvus",
            "Trajenta",
            "Basaglar",
        ],
        "LANTUS SoloStar 100 units/mL",
        "empagliflozin/metformin",
        "Co-Metformin 500 mg",
        "metformin hydrochloride 500 MG Oral Tablet",
    ],
)
def test_medicines_for_diabetes_are_known_by_name(name: str) -> None:
    assert findings(medication(medicationCodeableConcept={"text": name})) == {"known_diabetes"}


@pytest.mark.parametrize(
    "name",
    [
        "Ozempic",
        "semaglutide",
        "Jardiance",
        "dapagliflozin",
        "glucose tablets",
        "mecasermin",
        "Insulin-like growth factor",
        "Prednisolone",
    ],
)
def test_medicines_with_other_uses_are_not(name: str) -> None:
    assert findings(medication(medicationCodeableConcept={"text": name})) == set()


@pytest.mark.parametrize(
    "ingredient",
    [
        {"itemCodeableConcept": {"text": "Metformin"}},
        {"item": {"concept": {"text": "Metformin"}}},
        {
            "itemCodeableConcept": {
                "coding": [
                    {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "6809"}
                ]
            }
        },
    ],
)
def test_the_ingredients_of_a_contained_medication_are_read(ingredient: Any) -> None:
    contained = {"resourceType": "Medication", "id": "a", "ingredient": [None, ingredient]}
    for reference in (
        {"medicationReference": {"reference": "#a"}},
        {"medication": {"reference": {"reference": "#a"}}},
    ):
        assert findings(medication(contained=[contained], **reference)) == {"known_diabetes"}


@pytest.mark.parametrize("ingredients", [None, "x", [3], [{"item": "x"}], {}])
def test_ingredients_that_are_none_are_passed_over(ingredients: Any) -> None:
    contained = {"resourceType": "Medication", "id": "a", "ingredient": ingredients}
    sent = medication(contained=[contained], medicationReference={"reference": "#a"})
    assert findings(sent) == set()


# ------------------------------------------------------------------------- whose, and how long


@pytest.mark.parametrize(
    ("reference", "counts"),
    [
        ("Patient/p1", True),
        ("https://ehr.example.org/fhir/Patient/p1", True),
        ("https://ehr.example.org/fhir/Patient/p2", False),
        ("Patient/p2", False),
        ("https://hie.example.org/fhir/Patient/999", True),
        ("https://hie.example.org/fhir/Group/999", False),
    ],
)
def test_a_diagnosis_from_another_server_may_be_this_patients(reference: str, counts: bool) -> None:
    sent = condition({"text": "Type 2 diabetes"}, subject={"reference": reference})
    found = findings(sent, fhir_base="https://ehr.example.org/fhir")
    assert found == ({"known_diabetes"} if counts else set())


def test_words_are_compared_without_accents_case_and_hyphens() -> None:
    assert plain_words("Pr\u00e9-Diab\u00e8te\u00a0/ l\u2019ENFANT") == "pre diabete l enfant"


def test_texts_are_cut() -> None:
    concept = {"text": "a" * 5000, "coding": [{"display": "b" * 5000}]}
    assert [len(text) for text in texts(concept)] == [LONGEST_TEXT, LONGEST_TEXT]


@pytest.mark.parametrize(
    "text",
    [
        "no " * 400,
        "type 2 " * 200,
        "diabetes " * 200,
        "no known any " * 100,
        "family history " * 90,
        "diab" + "e" * 996,
        "pregnant high risk " * 60,
        "a" * 1000,
        "not a the any diabetes risk " * 40,
    ],
)
def test_texts_made_to_be_slow_are_answered(text: str) -> None:
    """A pattern that went through all ways to read these would not end within the test run."""
    assert worded(text) <= {"known_diabetes", "pregnancy"}
