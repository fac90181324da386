"""The inputs that an estimate had to do without, or that are old, as people read them.

Of the inputs of one panel (`panels` in the manifest) of which the same is to be said, it is said
once: a model may ask for dozens, and a laboratory panel is missing, or old, as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from cds_service.figures import escape
from fhir_mapping import Absent, AbsentReason, Effective, FeatureVector, Present
from risk_model import Manifest, Panel

DAYS_PER_MONTH = 30.4375
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
    for names, months in _together(_old(vector, manifest), manifest):
        title = _titled(names, manifest)
        yield escape(f"{title} is {months}" if len(names) == 1 else f"{title}: {months}")
    absences = vector.absences()
    unrecorded = {name: "" for name, a in absences.items() if a.reason is AbsentReason.NOT_RECORDED}
    amiss = {name: why(a) for name, a in absences.items() if name not in unrecorded}
    for names, reason in _together(amiss, manifest):
        yield escape(f"{_titled(names, manifest)}: {reason}")
    if unrecorded:
        titles = [_titled(names, manifest) for names, _ in _together(unrecorded, manifest)]
        yield escape(f"Not recorded: {', '.join(titles)}")


def why(absent: Absent) -> str:
    when = day(absent.effective)
    return REASONS[absent.reason] + (f" ({when})" if when else "")


def day(effective: Effective | None) -> str:
    """The date alone, in ISO form: it reads the same everywhere."""
    return effective.text[:10] if effective else ""


def _old(vector: FeatureVector, manifest: Manifest) -> dict[str, str]:
    """How old the values are that are older than the manifest calls fresh."""
    limits = {f["name"]: f.get("stale_after_days") for f in manifest.raw["features"]}
    ages = {}
    for name, entry in vector.entries.items():
        if not isinstance(entry, Present) or limits[name] is None:
            continue
        # Of a derived value the first source decides; the others have look-backs of their own.
        effective = entry.sources[0].effective
        age = vector.as_of - effective.earliest if effective else timedelta()
        if age > timedelta(days=limits[name]):
            ages[name] = f"{round(age / timedelta(days=DAYS_PER_MONTH))} months old"
    return ages


def _together(said: Mapping[str, str], manifest: Manifest) -> Iterator[tuple[list[str], str]]:
    """(features of one panel, what is said of each of them), in the order of the first of each."""
    panels = _panels(manifest)
    groups: dict[tuple[Panel | str, str], list[str]] = {}
    for name, text in said.items():
        groups.setdefault((panels.get(name, name), text), []).append(name)
    for (_, text), names in groups.items():
        yield names, text


def _titled(names: list[str], manifest: Manifest) -> str:
    """A whole panel by its title, anything else by the features' own."""
    panel = _panels(manifest).get(names[0])
    if panel and len(names) > 1 and set(names) == set(panel.features):
        return panel.title
    titles = {feature.name: feature.title for feature in manifest.features}
    return ", ".join(titles[name] for name in names)


def _panels(manifest: Manifest) -> Mapping[str, Panel]:
    """Each feature's panel; the first, if it stands in several."""
    return {name: panel for panel in reversed(manifest.panels) for name in panel.features}
