"""What is known to be wrong or missing, and how the model is kept up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model_training.model_card.evidence import Evidence
from model_training.model_card.wording import (
    bullets,
    count,
    ended,
    interval,
    number,
    section,
    years,
)

# Fewer events than this in a validation leave its figures too loose to judge a model by:
# Vergouwe et al., J Clin Epidemiol 2005;58:475-483; Collins et al., Stat Med 2016;35:214-226.
_EVENTS_NEEDED = 100

_GROUPS = "Groups"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One thing that a user must know before relying on a figure."""

    title: str
    text: str


def warnings(known: Evidence) -> list[str]:
    """What must be read before anything else: testing only, too few people, gates, force."""
    said = [known.said("warning"), _few_events(known), _failed_gates(known), _forced(known)]
    return [text for text in said if text]


def known_limits(known: Evidence) -> list[Limit]:
    """Limits that the figures show, then those that the recipe states."""
    stated = [
        Limit(title=entry["title"], text=entry["text"]) for entry in known.said("limits") or ()
    ]
    return [*_measured_limits(known), *stated]


def limits_section(known: Evidence) -> str:
    notes = known.find("data", "notes") or []
    lines = [f"**{limit.title}.** {limit.text}" for limit in known_limits(known)]
    lines += [f"**Data.** {ended(note)}" for note in notes]
    return section("Limits", bullets(lines))


def maintenance_section(known: Evidence) -> str:
    titles = {
        "validity": "Watching validity",
        "fairness": "Watching fairness",
        "updates": "Updates",
        "correction": "Correction",
    }
    stated = [
        f"**{title}.** {known.said('maintenance', key)}"
        for key, title in titles.items()
        if known.said("maintenance", key)
    ]
    return section("Maintenance", bullets(stated))


def misjudged_groups(known: Evidence) -> str | None:
    """The groups for whom the whole interval of observed / expected lies on one side of 1."""
    figures = {
        named(axis, title): entry.get("observed_to_expected")
        for axis, titles in (known.test.get("groups") or {}).items()
        for title, entry in titles.items()
    }
    if not figures:
        return None
    under = [title for title, figure in figures.items() if (interval(figure)[1] or 0) > 1]
    over = [title for title, figure in figures.items() if (interval(figure)[2] or 1) < 1]
    said = [
        f"The test people show risk {word} (observed / expected) in: "
        + "; ".join(f"{title}: {number(figures[title], 2)}" for title in titles)
        + "."
        for word, titles in (("understated", under), ("overstated", over))
        if titles
    ]
    return " ".join(said) or "No group's interval of observed / expected leaves out 1."


def named(axis: str, title: str) -> str:
    """A group by a name that can stand alone: "Women", but "Age 40–59"."""
    return f"{axis} {title}" if any(letter.isdigit() for letter in title) else title


def _measured_limits(known: Evidence) -> list[Limit]:
    found = {
        _GROUPS: _group_limit(known),
        "Without glucose": _without_glucose(known),
        "Clipped values": _clipped(known),
        "Population": _population(known),
    }
    return [Limit(title=title, text=text) for title, text in found.items() if text]


def _group_limit(known: Evidence) -> str | None:
    groups = misjudged_groups(known)
    reason = known.said("groups_note")
    return None if groups is None else " ".join(text for text in (groups, reason) if text)


def _without_glucose(known: Evidence) -> str | None:
    without = known.find("test", "scenarios", "no_glucose")
    if not without:
        return None
    return (
        f"The ranking is weaker: AUROC {number(without['auroc'], 3)}. The level is less certain: "
        f"observed / expected {number(without['observed_to_expected'], 2)}."
    )


def _clipped(known: Evidence) -> str | None:
    clips = [
        f"{entry['title']} above {entry['clip'][1]:g} counts as {entry['clip'][1]:g}"
        for entry in known.manifest.get("features", [])
        if entry.get("clip") and entry["clip"][1] is not None
    ]
    return ended("; ".join(clips)) if clips else None


def _population(known: Evidence) -> str | None:
    periods = [period for part in known.parts.values() for period in part.get("periods") or []]
    place: str | None = known.said("population_note")
    if not periods:
        return place
    when = f"People of {years(sorted(periods))}."
    return f"{when} {place}" if place else when


def _few_events(known: Evidence) -> str | None:
    events = known.test.get("events")
    if events is None or events >= _EVENTS_NEEDED:
        return None
    return (
        f"For testing only: the figures rest on {count(events)} people with the outcome, "
        f"and fewer than {_EVENTS_NEEDED} are too few to judge a model by."
    )


def _failed_gates(known: Evidence) -> str | None:
    failed = [gate["title"] for gate in known.report.get("gates") or [] if not gate["passed"]]
    return ended(f"It failed a gate of its own recipe: {'; '.join(failed)}") if failed else None


def _forced(known: Evidence) -> str | None:
    """Who overruled the gates: a sentence of the report, or the manifest's account of it."""
    forced = known.report.get("forced") or known.manifest.get("forced")
    reason = forced.get("reason") if isinstance(forced, Mapping) else forced
    return ended(f"Published in spite of that: {reason}") if reason else None
