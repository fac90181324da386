"""Fourteen made-up people: one for each answer that the service can give.

No record, real or simulated, stands behind any of them. Every date is counted back from `as_of`'s
day: a chart opened next year is as fresh as today's, and opening it twice on one day is the same
call twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cds_service.demo.chart import (
    ICD_10_CM,
    LOINC,
    RXNORM,
    SNOMED_CT,
    BloodPressure,
    Coding,
    Medicine,
    Person,
    Problem,
    Resource,
    Result,
    Test,
    resources_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPatient:
    """One chart of the demo EHR; `resources` are FHIR R4, the Patient first."""

    id: str
    name: str
    story: str
    resources: tuple[Resource, ...]


def demo_patients(as_of: datetime) -> list[DemoPatient]:
    """The demo patients as they look on `as_of`'s day (UTC); the same day gives the same charts."""
    day = as_of.astimezone(UTC).date()
    return [
        DemoPatient(
            id=person.id,
            name=f"{person.given} {person.family}",
            story=person.story,
            resources=tuple(resources_of(person, day=day)),
        )
        for person in PEOPLE
    ]


# --- Tests -------------------------------------------------------------------------------------
# Conventional units first, then the molar twins that most of the world's laboratories report.

BMI = Test(
    label="Body mass index",
    loinc="39156-5",
    display="Body mass index (BMI) [Ratio]",
    unit="kg/m2",
    category="vital-signs",
)
WEIGHT = Test(
    label="Weight", loinc="29463-7", display="Body weight", unit="kg", category="vital-signs"
)
HEIGHT = Test(
    label="Height", loinc="8302-2", display="Body height", unit="cm", category="vital-signs"
)
GLUCOSE = Test(
    label="Glucose",
    loinc="2345-7",
    display="Glucose [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    low=70,
    high=99,
)
GLUCOSE_MOLAR = Test(
    label="Glucose",
    loinc="14749-6",
    display="Glucose [Moles/volume] in Serum or Plasma",
    unit="mmol/L",
    low=3.9,
    high=5.5,
)
HBA1C = Test(
    label="HbA1c",
    loinc="4548-4",
    display="Hemoglobin A1c/Hemoglobin.total in Blood",
    unit="%",
    low=4.0,
    high=5.6,
)
CHOLESTEROL = Test(
    label="Total cholesterol",
    loinc="2093-3",
    display="Cholesterol [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    high=200,
)
CHOLESTEROL_MOLAR = Test(
    label="Total cholesterol",
    loinc="14647-2",
    display="Cholesterol [Moles/volume] in Serum or Plasma",
    unit="mmol/L",
    high=5.2,
)
HDL = Test(
    label="HDL cholesterol",
    loinc="2085-9",
    display="Cholesterol in HDL [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    low=40,
)
HDL_MOLAR = Test(
    label="HDL cholesterol",
    loinc="14646-4",
    display="Cholesterol in HDL [Moles/volume] in Serum or Plasma",
    unit="mmol/L",
    low=1.03,
)
TRIGLYCERIDES = Test(
    label="Triglycerides",
    loinc="2571-8",
    display="Triglyceride [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    high=150,
)
TRIGLYCERIDES_MOLAR = Test(
    label="Triglycerides",
    loinc="14927-8",
    display="Triglyceride [Moles/volume] in Serum or Plasma",
    unit="mmol/L",
    high=1.7,
)
CREATININE = Test(
    label="Creatinine",
    loinc="2160-0",
    display="Creatinine [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    low=0.5,
    high=1.2,
)
CREATININE_MOLAR = Test(
    label="Creatinine",
    loinc="14682-9",
    display="Creatinine [Moles/volume] in Serum or Plasma",
    unit="umol/L",
    low=44,
    high=106,
)
ALT = Test(
    label="ALT",
    loinc="1742-6",
    display="Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
    unit="U/L",
    high=40,
)
AST = Test(
    label="AST",
    loinc="1920-8",
    display="Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
    unit="U/L",
    high=40,
)
GGT = Test(
    label="GGT",
    loinc="2324-2",
    display="Gamma glutamyl transferase [Enzymatic activity/volume] in Serum or Plasma",
    unit="U/L",
    high=55,
)
URATE = Test(
    label="Urate",
    loinc="3084-1",
    display="Urate [Mass/volume] in Serum or Plasma",
    unit="mg/dL",
    low=2.5,
    high=7.0,
)
URATE_MOLAR = Test(
    label="Urate",
    loinc="14933-6",
    display="Urate [Moles/volume] in Serum or Plasma",
    unit="umol/L",
    low=149,
    high=416,
)
ALBUMIN = Test(
    label="Albumin",
    loinc="1751-7",
    display="Albumin [Mass/volume] in Serum or Plasma",
    unit="g/dL",
    low=3.5,
    high=5.0,
)
# The LOINC code says mass per volume: g/L belongs to it as much as g/dL does.
ALBUMIN_PER_LITRE = Test(
    label="Albumin",
    loinc="1751-7",
    display="Albumin [Mass/volume] in Serum or Plasma",
    unit="g/L",
    low=35,
    high=50,
)
URINE_ALBUMIN = Test(
    label="Urine albumin-creatinine ratio",
    loinc="9318-7",
    display="Albumin/Creatinine [Mass Ratio] in Urine",
    unit="mg/g",
    low=0,
    high=30,
)
URINE_ALBUMIN_PER_MMOL = Test(
    label="Urine albumin-creatinine ratio",
    loinc="9318-7",
    display="Albumin/Creatinine [Mass Ratio] in Urine",
    unit="mg/mmol",
    low=0,
    high=3,
)


def drawn(days_ago: int, *values: tuple[Test, float]) -> tuple[Result, ...]:
    """The results of one blood sample, or of one visit's measurements."""
    return tuple(Result(test=test, value=value, days_ago=days_ago) for test, value in values)


# --- Problems and medicines ----------------------------------------------------------------------


def problem(
    text: str, snomed: tuple[str, str], icd: tuple[str, str] | None, *, years_ago: float
) -> Problem:
    """An active, confirmed problem, coded as most EHRs do: SNOMED CT, with ICD-10-CM beside it."""
    codings = [Coding(system=SNOMED_CT, code=snomed[0], display=snomed[1])]
    if icd is not None:
        codings.append(Coding(system=ICD_10_CM, code=icd[0], display=icd[1]))
    return Problem(text=text, codings=tuple(codings), onset_days_ago=round(years_ago * 365.25))


def hypertension(*, years_ago: float) -> Problem:
    """Essential hypertension."""
    return problem(
        "Hypertension",
        ("59621000", "Essential hypertension"),
        ("I10", "Essential (primary) hypertension"),
        years_ago=years_ago,
    )


def hyperlipidemia(*, years_ago: float) -> Problem:
    """Raised blood lipids."""
    return problem(
        "Hyperlipidemia",
        ("55822004", "Hyperlipidemia"),
        ("E78.5", "Hyperlipidemia, unspecified"),
        years_ago=years_ago,
    )


def medicine(rxnorm: str, display: str, dosage: str, *, days_ago: int) -> Medicine:
    """A prescription coded in RxNorm."""
    coding = Coding(system=RXNORM, code=rxnorm, display=display)
    return Medicine(coding=coding, dosage=dosage, days_ago=days_ago)


ONCE_DAILY = "Take 1 tablet by mouth once daily"
TWICE_DAILY = "Take 1 tablet by mouth twice daily with meals"

# --- People --------------------------------------------------------------------------------------

PEOPLE = (
    Person(
        id="okafor-amara",
        given="Amara",
        family="Okafor",
        gender="female",
        age=58,
        story="Glucose creeping up for two years, HbA1c never measured.",
        results=(
            *drawn(12, (BMI, 35.8), (WEIGHT, 97.5), (HEIGHT, 165)),
            BloodPressure(systolic=148, diastolic=90, days_ago=12),
            *drawn(
                21,
                (GLUCOSE, 124),
                (CHOLESTEROL, 228),
                (HDL, 38),
                (TRIGLYCERIDES, 230),
                (CREATININE, 0.95),
                (ALT, 46),
                (AST, 34),
                (GGT, 58),
                (URATE, 6.9),
                (ALBUMIN, 4.1),
                (URINE_ALBUMIN, 26.5),
            ),
            *drawn(392, (GLUCOSE, 117), (BMI, 35.1), (TRIGLYCERIDES, 204)),
            *drawn(765, (GLUCOSE, 109), (BMI, 34.2)),
        ),
        problems=(hypertension(years_ago=6), hyperlipidemia(years_ago=4)),
        medicines=(
            medicine("314076", "lisinopril 10 MG Oral Tablet", ONCE_DAILY, days_ago=90),
            medicine("312961", "simvastatin 20 MG Oral Tablet", ONCE_DAILY, days_ago=90),
        ),
    ),
    Person(
        id="lindqvist-ingrid",
        given="Ingrid",
        family="Lindqvist",
        gender="female",
        age=58,
        story="Amara Okafor’s figures in mmol/L: the same risk.",
        results=(
            *drawn(12, (WEIGHT, 97.5), (HEIGHT, 165)),
            BloodPressure(systolic=148, diastolic=90, days_ago=12),
            *drawn(
                21,
                (GLUCOSE_MOLAR, 6.9),
                (CHOLESTEROL_MOLAR, 5.90),
                (HDL_MOLAR, 0.98),
                (TRIGLYCERIDES_MOLAR, 2.60),
                (CREATININE_MOLAR, 84),
                (ALT, 46),
                (AST, 34),
                (GGT, 58),
                (URATE_MOLAR, 410),
                (ALBUMIN_PER_LITRE, 41),
                (URINE_ALBUMIN_PER_MMOL, 3.0),
            ),
        ),
        problems=(hypertension(years_ago=5),),
        medicines=(medicine("308136", "amlodipine 2.5 MG Oral Tablet", ONCE_DAILY, days_ago=60),),
    ),
    Person(
        id="quispe-mateo",
        given="Mateo",
        family="Quispe",
        gender="male",
        age=52,
        story="Some weight, glucose just above the limit: moderate.",
        results=(
            *drawn(40, (BMI, 31.4)),
            BloodPressure(systolic=134, diastolic=82, days_ago=40),
            *drawn(
                40,
                (GLUCOSE, 112),
                (CHOLESTEROL, 205),
                (HDL, 44),
                (TRIGLYCERIDES, 162),
                (CREATININE, 0.98),
                (ALT, 33),
                (AST, 26),
                (GGT, 35),
                (URATE, 6.1),
                (ALBUMIN, 4.3),
                (URINE_ALBUMIN, 8.2),
            ),
        ),
        problems=(
            problem(
                "Osteoarthritis of knee",
                ("239873007", "Osteoarthritis of knee"),
                ("M17.9", "Osteoarthritis of knee, unspecified"),
                years_ago=3,
            ),
        ),
    ),
    Person(
        id="haugen-linnea",
        given="Linnea",
        family="Haugen",
        gender="female",
        age=34,
        story="Nothing stands out: low risk, stored without a card.",
        results=(
            *drawn(65, (BMI, 22.4)),
            BloodPressure(systolic=112, diastolic=70, days_ago=65),
            *drawn(
                65,
                (GLUCOSE, 86),
                (CHOLESTEROL, 172),
                (HDL, 62),
                (TRIGLYCERIDES, 74),
                (CREATININE, 0.72),
                (ALT, 17),
                (URINE_ALBUMIN, 5.1),
            ),
        ),
        problems=(
            problem(
                "Asthma",
                ("195967001", "Asthma"),
                ("J45.909", "Unspecified asthma, uncomplicated"),
                years_ago=19,
            ),
        ),
    ),
    Person(
        id="wisniewski-tomasz",
        given="Tomasz",
        family="Wiśniewski",
        gender="male",
        age=63,
        story="New here: one body mass index and nothing else.",
        results=drawn(5, (BMI, 36.4)),
    ),
    Person(
        id="kealoha-leilani",
        given="Leilani",
        family="Kealoha",
        gender="female",
        age=61,
        story="Lipids and blood pressure; glucose never measured.",
        results=(
            *drawn(30, (BMI, 38.2)),
            BloodPressure(systolic=146, diastolic=86, days_ago=30),
            *drawn(33, (CHOLESTEROL, 214), (HDL, 36), (TRIGLYCERIDES, 248), (ALT, 49)),
        ),
        problems=(hypertension(years_ago=9),),
        medicines=(
            medicine("310798", "hydrochlorothiazide 25 MG Oral Tablet", ONCE_DAILY, days_ago=120),
        ),
    ),
    Person(
        id="haidari-farid",
        given="Farid",
        family="Haidari",
        gender="male",
        age=47,
        story="Neither glucose nor body mass index: too little.",
        results=(
            BloodPressure(systolic=131, diastolic=84, days_ago=18),
            *drawn(18, (URINE_ALBUMIN, 9.4), (CREATININE, 1.02)),
        ),
    ),
    Person(
        id="etcheverry-dolores",
        given="Dolores",
        family="Etcheverry",
        gender="female",
        age=67,
        story="Type 2 diabetes, known and treated.",
        results=(
            *drawn(50, (BMI, 32.9)),
            BloodPressure(systolic=138, diastolic=78, days_ago=50),
            *drawn(52, (HBA1C, 7.4), (GLUCOSE, 158), (CREATININE, 1.08), (HDL, 41)),
            *drawn(234, (HBA1C, 7.9), (GLUCOSE, 171)),
        ),
        problems=(
            problem(
                "Type 2 diabetes",
                ("44054006", "Diabetes mellitus type 2"),
                ("E11.9", "Type 2 diabetes mellitus without complications"),
                years_ago=8,
            ),
            hypertension(years_ago=12),
        ),
        medicines=(
            medicine(
                "861007", "metformin hydrochloride 500 MG Oral Tablet", TWICE_DAILY, days_ago=70
            ),
            medicine("314077", "lisinopril 20 MG Oral Tablet", ONCE_DAILY, days_ago=70),
        ),
    ),
    Person(
        id="mensah-kwabena",
        given="Kwabena",
        family="Mensah",
        gender="male",
        age=49,
        story="HbA1c in the diabetic range, no diagnosis followed.",
        results=(
            *drawn(34, (HBA1C, 7.1), (GLUCOSE, 139), (CHOLESTEROL, 219), (HDL, 39)),
            *drawn(34, (BMI, 31.7)),
            BloodPressure(systolic=141, diastolic=88, days_ago=34),
        ),
        problems=(hyperlipidemia(years_ago=2),),
        medicines=(medicine("314231", "simvastatin 10 MG Oral Tablet", ONCE_DAILY, days_ago=80),),
    ),
    Person(
        id="raghunathan-priya",
        given="Priya",
        family="Raghunathan",
        gender="female",
        age=46,
        story="A normal HbA1c two months ago settles it for now.",
        results=(
            *drawn(61, (HBA1C, 5.4), (GLUCOSE, 104), (HDL, 47), (TRIGLYCERIDES, 141)),
            *drawn(61, (BMI, 28.9)),
            BloodPressure(systolic=126, diastolic=80, days_ago=61),
        ),
        problems=(
            problem(
                "Family history of type 2 diabetes",
                ("430679000", "Family history of diabetes mellitus type 2"),
                ("Z83.3", "Family history of diabetes mellitus"),
                years_ago=10,
            ),
        ),
    ),
    Person(
        id="tamihana-noah",
        given="Noah",
        family="Tamihana",
        gender="male",
        age=11,
        story="A child: the model was made for adults.",
        results=(
            *drawn(90, (BMI, 19.6)),
            BloodPressure(systolic=104, diastolic=64, days_ago=90),
            *drawn(90, (GLUCOSE, 91)),
        ),
    ),
    Person(
        id="hayashida-yuki",
        given="Yuki",
        family="Hayashida",
        gender="female",
        age=32,
        story="Pregnant: another test finds gestational diabetes.",
        results=(
            *drawn(9, (BMI, 27.8)),
            BloodPressure(systolic=118, diastolic=72, days_ago=9),
            *drawn(9, (GLUCOSE, 97), (URINE_ALBUMIN, 11.0)),
        ),
        problems=(
            problem(
                "Pregnancy",
                ("77386006", "Pregnancy"),
                ("Z33.1", "Pregnant state, incidental"),
                years_ago=0.4,
            ),
        ),
    ),
    Person(
        id="sorgaard-henrik",
        given="Henrik",
        family="Sørgaard",
        gender="male",
        age=79,
        story="Died last month: no advice is given.",
        results=(
            *drawn(75, (BMI, 29.3), (GLUCOSE, 121), (CREATININE, 1.41)),
            BloodPressure(systolic=129, diastolic=71, days_ago=75),
        ),
        problems=(
            problem(
                "Heart failure",
                ("84114007", "Heart failure"),
                ("I50.9", "Heart failure, unspecified"),
                years_ago=5,
            ),
        ),
        died_days_ago=31,
    ),
    Person(
        id="arikan-zeynep",
        given="Zeynep",
        family="Arıkan",
        gender="female",
        age=60,
        story="As real records are: local codes, units in words.",
        results=(
            Result(
                test=GLUCOSE,
                value=131,
                days_ago=26,
                codings=(
                    Coding(system="urn:oid:2.16.840.1.113883.19.5.1", code="GLU", display="Glu"),
                    Coding(system=LOINC, code=GLUCOSE.loinc, display=GLUCOSE.display),
                ),
                unit_text="mg/dl",
            ),
            Result(test=GLUCOSE, value=13.1, days_ago=26, status="entered-in-error"),
            Result(test=GLUCOSE, value=402, days_ago=3, subject="arikan-zerrin"),
            Result(test=GLUCOSE, value=92, days_ago=1900),
            Result(test=WEIGHT, value=91.4, days_ago=14, unit_text="kilogram"),
            Result(test=HEIGHT, value=162, days_ago=14, unit_text="centimeter"),
            BloodPressure(systolic=151, diastolic=93, days_ago=14),
            Result(
                test=HDL,
                value=37,
                days_ago=26,
                codings=(
                    Coding(system="urn:oid:2.16.840.1.113883.19.5.1", code="HDLC", display="HDL-C"),
                    Coding(system=LOINC, code=HDL.loinc, display=HDL.display),
                ),
                unit_text="milligram per deciliter",
            ),
            Result(test=TRIGLYCERIDES, value=241, days_ago=26, status="amended"),
            Result(test=CHOLESTEROL, value=222, days_ago=2400),
            Result(test=ALT, value=44, days_ago=26, unit_text="units per liter"),
        ),
        problems=(hypertension(years_ago=7),),
        medicines=(medicine("197361", "amlodipine 5 MG Oral Tablet", ONCE_DAILY, days_ago=45),),
    ),
)
