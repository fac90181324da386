"""Units: recognised, or not used. Conversion happens here and nowhere else.

A unit is recognised by its UCUM code, or by a spelled-out text listed in concepts.toml. Nothing is
assumed: a quantity whose unit is missing, unknown or contradictory has no value.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fhir_mapping.vector import AbsentReason

# http://hl7.org/fhir/R4/valueset-ucum-units.html; the others are the same system as sent by some.
UCUM = "http://unitsofmeasure.org"
UCUM_SYSTEMS = frozenset(
    {
        UCUM,
        "https://unitsofmeasure.org",
        "http://unitsofmeasure.org/",
        "urn:oid:2.16.840.1.113883.6.8",
    }
)
LONGEST = 100
MASS, MOLAR = "mass concentration", "molar concentration"
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit by its UCUM code; `factor` leads to the base unit of its dimension."""

    code: str
    dimension: str
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTable:
    """`by_code`: UCUM spellings, exact. `by_text`: spelled out, folded by `fold`.

    `usual`: what `recognise` says of the usual ways to write each unit, by system, code and text;
    a shortcut that is made by the rule itself, once, and never grows.
    """

    by_code: Mapping[str, Unit]
    by_text: Mapping[str, Unit]
    usual: Mapping[tuple[str | None, str | None, str | None], Unit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversion:
    """value · factor + offset, in the target's unit."""

    factor: float
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        return value * self.factor + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReader:
    """All spellings of all units that convert to one concept's canonical unit."""

    table: UnitTable
    conversions: Mapping[str, Conversion] = field(default_factory=dict)

    def read(self, quantity: Mapping[str, Any]) -> Unit | AbsentReason:
        """The unit of a FHIR Quantity, or the reason why it cannot be used."""
        system, code, text = quantity.get("system"), quantity.get("code"), quantity.get("unit")
        try:
            usual = self.table.usual.get((system, code, text))
        except TypeError:  # JSON of a form that cannot be looked up, and is no unit either
            usual = None
        unit = usual or recognise(quantity, self.table)
        if isinstance(unit, Unit) and unit.code not in self.conversions:
            return AbsentReason.UNIT_UNKNOWN
        return unit

    def only(self, dimension: str) -> "UnitReader":
        """The same, for units of one dimension."""
        codes = {unit.code for unit in self.table.by_code.values() if unit.dimension == dimension}
        kept = {code: way for code, way in self.conversions.items() if code in codes}
        return UnitReader(table=self.table, conversions=kept)


def fold(text: str) -> str:
    """Compatibility form, without white space and case: `mg / dL` and `MG/DL` are one text."""
    return _SPACE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def unit_table(spec: Mapping[str, Mapping[str, Any]]) -> UnitTable:
    """Reads the `units` part of concepts.toml. Raises ValueError where two units share a name."""
    by_code: dict[str, Unit] = {}
    by_text: dict[str, Unit] = {}
    ways: list[tuple[str | None, str | None, str | None]] = []
    for code, entry in spec.items():
        unit = Unit(code=code, dimension=entry["dimension"], factor=float(entry["factor"]))
        spellings = [code, *entry.get("codes", ())]
        for spelling in spellings:
            _enter(by_code, spelling, unit)
        texts = [*spellings, *entry.get("text", ())]
        for text in {fold(text) for text in texts}:
            _enter(by_text, text, unit)
        ways += [(None, None, text) for text in texts]
        ways += itertools.product([UCUM], spellings, [None, *texts])
    return _with_usual(UnitTable(by_code=by_code, by_text=by_text), ways)


def _with_usual(
    table: UnitTable, ways: list[tuple[str | None, str | None, str | None]]
) -> UnitTable:
    found = {
        way: recognise(dict(zip(("system", "code", "unit"), way, strict=True)), table)
        for way in ways
    }
    return replace(table, usual={way: u for way, u in found.items() if isinstance(u, Unit)})


def _enter(names: dict[str, Unit], name: str, unit: Unit) -> None:
    if names.setdefault(name, unit) != unit:
        raise ValueError(f"unit name {name!r} means both {names[name].code} and {unit.code}")


def recognise(quantity: Mapping[str, Any], table: UnitTable) -> Unit | AbsentReason:
    """The unit that a Quantity states.

    With UCUM as its system the code decides, and a readable text that says something else is a
    contradiction. Without UCUM, code and text are both only texts, and must agree.
    http://hl7.org/fhir/R4/datatypes.html#Quantity
    """
    code, text = _text(quantity.get("code")), _text(quantity.get("unit"))
    if not code and not text:
        return AbsentReason.UNIT_MISSING
    spelled = table.by_text.get(fold(text)) if text else None
    if code and _text(quantity.get("system")) in UCUM_SYSTEMS:
        coded = table.by_code.get(code)
        if coded is None:
            # "mmHg" is no UCUM code; beside a text that says the same it is unmistakable.
            same = spelled is not None and table.by_text.get(fold(code)) == spelled
            return spelled if spelled and same else AbsentReason.UNIT_UNKNOWN
        return _agreed(coded, spelled)
    coded = table.by_text.get(fold(code)) if code else None
    return _agreed(coded, spelled)


def _agreed(coded: Unit | None, spelled: Unit | None) -> Unit | AbsentReason:
    if coded and spelled and coded != spelled:
        return AbsentReason.UNIT_CONFLICT
    return coded or spelled or AbsentReason.UNIT_UNKNOWN


def _text(value: object) -> str:
    """At most a hundred characters: no unit is longer, and folding takes its time."""
    return value[:LONGEST].strip() if isinstance(value, str) else ""


def conversions_to(
    canonical: Unit,
    table: UnitTable,
    *,
    molar_mass: float | None,
    special: Mapping[str, Mapping[str, float]],
) -> dict[str, Conversion]:
    """From each convertible unit's code to the canonical unit.

    Same dimension: by the ratio of factors. Mass and molar concentration: by the molar mass in
    g/mol (1 mmol/L = molar mass in mg/L = molar mass / 10 in mg/dL, that dimension's base unit).
    `special` holds the affine ones, such as IFCC to NGSP.
    """
    found: dict[str, Conversion] = {}
    for unit in table.by_code.values():
        ratio = _ratio(unit, canonical, molar_mass)
        if ratio is not None:
            found[unit.code] = Conversion(ratio)
    for code, affine in special.items():
        found[code] = Conversion(affine["factor"], affine.get("offset", 0.0))
    return found


def _ratio(unit: Unit, canonical: Unit, molar_mass: float | None) -> float | None:
    if unit.dimension == canonical.dimension:
        return unit.factor / canonical.factor
    if molar_mass is None:
        return None
    if (unit.dimension, canonical.dimension) == (MOLAR, MASS):
        return unit.factor * molar_mass / 10 / canonical.factor
    if (unit.dimension, canonical.dimension) == (MASS, MOLAR):
        return unit.factor / (molar_mass / 10) / canonical.factor
    return None


Rounding = Callable[[float], float]


def rounding(decimals: int) -> Rounding:
    """Rounds to `decimals` places, so that 98.99999999 from a conversion is 99, as reported."""

    def to_resolution(value: float) -> float:
        # The first rounding takes away what binary arithmetic added: 5.5 · 18.0156 and its twin in
        # the canonical unit must meet on the same side of a half.
        return round(round(value, decimals + 6), decimals) + 0.0

    return to_resolution
