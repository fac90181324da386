"""The first screen: what the model is, how good it is, for whom it is and for whom not."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

from model_training.model_card.evidence import REPORT_FIGURES, REPORT_PAGE, Evidence
from model_training.model_card.limits import misjudged_groups, warnings
from model_training.model_card.wording import (
    bullets,
    count,
    ended,
    interval,
    number,
    percent,
    section,
    years,
)

_EXCLUDED = {
    "deceased": "the dead",
    "known_diabetes": "people with known diabetes of any type, also in remission",
    "pregnancy": "people who are pregnant",
}


def opening(known: Evidence) -> str:
    manifest = known.manifest
    blocks = [
        f"# {manifest['title']}: model card",
        f"Model `{manifest['name']}`, version {manifest['version']}. Beside this card: [the report with pictures]({REPORT_PAGE}), [every figure as JSON]({REPORT_FIGURES}).",
        *(f"> **{warning}**" for warning in warnings(known)),
        f"**Question.** {manifest['question']}" if manifest.get("question") else None,
        f"**Answer.** {known.said('answer')}" if known.said("answer") else None,
        _how_good(known),
        f"**For whom.** {population(known)}",
        _not_for(known),
        _where_it_fails(known),
    ]
    return "\n\n".join(block for block in blocks if block)


def use_section(known: Evidence) -> str:
    said = (
        ("Use", "intended_use"),
        ("Users", "intended_users"),
        ("Role in the decision", "decision_role"),
        ("Beside guidelines", "guidelines"),
    )
    stated = [f"**{title}.** {known.said(key)}" for title, key in said if known.said(key)]
    must_not = known.said("must_not")
    forbidden = f"**It must not be used**\n\n{bullets(must_not)}" if must_not else None
    return section("Intended use", *stated, forbidden)


def population(known: Evidence) -> str:
    """Who the service gives a figure to: the manifest's domain, and the recipe's own words."""
    minimum_age = known.manifest.get("domain", {}).get("minimum_age")
    adults = None if minimum_age is None else f"From {minimum_age:g} years on."
    return " ".join(text for text in (known.said("population"), adults) if text) or "Not stated."


def excluded(known: Evidence) -> list[str]:
    """Whom the service gives no figure, from the manifest's domain."""
    domain = known.manifest.get("domain", {})
    age = domain.get("minimum_age")
    younger = [] if age is None else [f"people under {age:g} years"]
    return younger + [
        _EXCLUDED.get(kind, kind.replace("_", " ")) for kind in domain.get("exclude", [])
    ]


def measured_on(known: Evidence) -> str:
    """4,536 people (129 with the outcome) of 2015–2016"""
    test = known.test
    periods = (known.parts.get("test") or {}).get("periods") or []
    when = f" of {years(periods)}" if periods else ""
    return (
        f"{count(test.get('people'))} people ({count(test.get('events'))} with the outcome){when}"
    )


def _how_good(known: Evidence) -> str | None:
    complete = known.complete
    if not complete:
        return None
    said = [
        f"Measured on {measured_on(known)}{_apart(known)}: AUROC {number(complete['auroc'], 3)}"
    ]
    without = known.find("test", "scenarios", "no_glucose")
    if without:
        said[0] += f", and {number(without['auroc'], 3)} where no glucose is known"
    return f"**How good.** {ended(said[0])}{_at_moderate(known)}"


def _apart(known: Evidence) -> str:
    return "" if known.is_external else " who had no part in its making"


def _at_moderate(known: Evidence) -> str:
    at = known.find("test", "levels", "at_moderate")
    flagged, found, right = (interval((at or {}).get(key))[0] for key in _AT)
    if flagged is None or found is None or right is None:
        return ""
    return (
        f" Of 1,000 such people it alerts {1000 * flagged:.0f}; {right:.0%} of those alerted have the"
        f" outcome, and {1 - found:.0%} of all who have it are not alerted."
    )


_AT = ("flagged", "sensitivity", "ppv")


def _not_for(known: Evidence) -> str | None:
    nobody = excluded(known)
    stated = known.said("not_for") or []
    items = [f"no figure is given for: {'; '.join(nobody)}"] if nobody else []
    return f"**Not for**\n\n{bullets([*items, *stated])}" if items or stated else None


def _where_it_fails(known: Evidence) -> str | None:
    groups = misjudged_groups(known)
    incomplete = known.find("test", "scenarios", "no_glucose")
    said = [groups] if groups else []
    if incomplete:
        at = incomplete["at_moderate"]
        said.append(
            f"Without a glucose it finds {percent(at['sensitivity'])} of those with the outcome."
        )
    return f"**Where it fails.** {' '.join(said)}" if said else None
