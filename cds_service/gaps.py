"""The inputs that an estimate had to do without, or that are old, as people read them.

Of the inputs of one panel (`panels` in the manifest) of which the same is to be said, it is said
once: a model may ask for dozens, and a laboratory panel is missing, or old, as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta

from cds_service.figures import escape
from cds_service.once import once
from fhir_mapping import Absent, AbsentReason, Effective, FeatureVector, Present
from risk_model import Feature, Manifest

MONTH = timedelta(days=30.4375)
REASONS: Mapping[AbsentReason, str] = {
    AbsentReason.NOT_RECORDED: "not recorded",
    AbsentReason.CODE_CONFLICT: "coded as two different tests",
    AbsentReason.MODIFIED: "carries a qualification that this service does not know",
    AbsentReason.STATUS: "not final, or entered in error",
    AbsentReason.OTHER_PATIENT: "belongs to another patient",
    AbsentReason.SUBJECT_UNCERTAIN: "not certain to be this patient's",
    AbsentReason.TIME_UNKNOWN: "without a certain date",
    AbsentReason.FUTURE: "dated in the future",
    AbsentReason.NO_VALUE: "without a usable value",
    AbsentReason.COMPARATOR: "known only as above or below a limit",
    AbsentReason.UNIT_MISSING: "without a unit",
    AbsentReason.UNIT_UNKNOWN: "in an unknown unit",
    AbsentReason.UNIT_CONFLICT: "with contradictory units",
    AbsentReason.IMPLAUSIBLE: "implausible",
    AbsentReason.TOO_OLD: "too old",
}


def gaps(vector: FeatureVector, manifest: Manifest) -> Iterator[str]:
    """Lines of Markdown: what is old, what is amiss, and in one line what is not recorded."""
    asked = asked_by(manifest)
    # In UTC, as the results' times are: each would ask another zone how far it is from UTC.
    now = vector.as_of.astimezone(UTC)
    old, amiss, unrecorded = {}, {}, {}
    for name, entry in vector.entries.items():
        if isinstance(entry, Present):
            limit = asked.fresh_for.get(name)
            # Of a derived value the first source decides; the others have look-backs of their own.
            if limit is None or (effective := entry.sources[0].effective) is None:
                continue
            age = now - effective.earliest
            if age > limit:
                old[name] = f"{round(age / MONTH)} months old"
        elif entry.reason is AbsentReason.NOT_RECORDED:
            unrecorded[name] = ""
        else:
            amiss[name] = why(entry)
    for names, months in _together(old, asked):
        title = _titled(names, asked)
        yield escape(f"{title} is {months}" if len(names) == 1 else f"{title}: {months}")
    for names, reason in _together(amiss, asked):
        yield escape(f"{_titled(names, asked)}: {reason}")
    if unrecorded:
        titles = [_titled(names, asked) for names, _ in _together(unrecorded, asked)]
        yield escape(f"Not recorded: {', '.join(titles)}")


def why(absent: Absent) -> str:
    when = day(absent.effective)
    return REASONS[absent.reason] + (f" ({when})" if when else "")


def day(effective: Effective | None) -> str:
    """The date alone, in ISO form: it reads the same everywhere."""
    return effective.text[:10] if effective else ""


def _together(said: Mapping[str, str], asked: Asked) -> Iterator[tuple[list[str], str]]:
    """(features of one panel, what is said of each of them), in the order of the first of each."""
    together: dict[tuple[Group, str], list[str]] = {}
    for name, text in said.items():
        together.setdefault((asked.groups[name], text), []).append(name)
    for (_, text), names in together.items():
        yield names, text


def _titled(names: list[str], asked: Asked) -> str:
    """A whole panel by its title, anything else by the features' own."""
    group = asked.groups[names[0]]
    if len(names) == len(group.names):
        return group.title
    return ", ".join(asked.features[name].title for name in names)


# --------------------------------------------------------------- what a manifest asks for, by name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Features that are spoken of together: a panel's, or one that stands in none."""

    names: frozenset[str]
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a manifest says of its features, by their names; `fresh_for` of those that grow old."""

    features: Mapping[str, Feature]
    groups: Mapping[str, Group]
    fresh_for: Mapping[str, timedelta]


@once
def asked_by(manifest: Manifest) -> Asked:
    """The inputs that `manifest` asks for."""
    features = {feature.name: feature for feature in manifest.features}
    alone = {
        name: Group(names=frozenset({name}), title=feature.title)
        for name, feature in features.items()
    }
    groups = dict(alone)
    # Backwards, for the first panel of a feature that stands in several to be what remains.
    for panel in reversed(manifest.panels):
        names = frozenset(panel.features)
        group = Group(names=names, title=panel.title)
        groups |= {name: group if len(names) > 1 else alone[name] for name in names}
    days = {entry["name"]: entry.get("stale_after_days") for entry in manifest.raw["features"]}
    return Asked(
        features=features,
        groups=groups,
        fresh_for={
            name: timedelta(days=limit) for name, limit in days.items() if limit is not None
        },
    )
