"""The 31 source attributes that ONC's HTI-1 rule asks of a predictive intervention."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_training.model_card.evidence import Evidence
from model_training.model_card.limits import known_limits, misjudged_groups
from model_training.model_card.making import race_difference
from model_training.model_card.opening import excluded, measured_on, population
from model_training.model_card.people import cell
from model_training.model_card.performance import calibration_figures, cuts
from model_training.model_card.wording import (
    bullets,
    count,
    ended,
    interval,
    listed,
    number,
    percent,
    section,
    years,
)

RULE = "45 CFR 170.315(b)(11)(iv)(B)"

_ROOT = tomllib.loads(Path(__file__).with_name("source_attributes.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Why there is nothing to say."""

    reason: str


Answer = str | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAttribute:
    """One attribute; `paragraph` within (b)(11)(iv)(B), such as "(7)(i)"."""

    paragraph: str
    group: str
    title: str
    may_be_unavailable: bool
    answer: Answer

    def json(self) -> dict[str, Any]:
        held = (
            {"available": False, "reason": self.answer.reason}
            if isinstance(self.answer, Unavailable)
            else {"available": True, "value": self.answer}
        )
        return {
            "paragraph": f"{RULE}{self.paragraph}",
            "group": self.group,
            "title": self.title,
            **held,
        }


def source_attributes(known: Evidence) -> list[SourceAttribute]:
    """All of them in the rule's order, each answered or with the reason why not."""
    return [
        SourceAttribute(
            paragraph=(paragraph := f"({group['paragraph']})({entry['paragraph']})"),
            group=group["title"],
            title=entry["title"],
            may_be_unavailable=entry.get("may_be_unavailable", False),
            answer=_ANSWERS[paragraph](known),
        )
        for group in _ROOT["groups"]
        for entry in group["attributes"]
    ]


def attributes_section(known: Evidence) -> str:
    attributes = source_attributes(known)
    blocks = []
    for group in dict.fromkeys(attribute.group for attribute in attributes):
        lines = [_line(attribute) for attribute in attributes if attribute.group == group]
        blocks += [f"### {group}", bullets(lines)]
    return section(
        "Source attributes",
        f"What {RULE} asks of a predictive decision support intervention: {len(attributes)} attributes in the rule's order.",
        *blocks,
    )


def _line(attribute: SourceAttribute) -> str:
    answer = attribute.answer
    text = f"*Not available:* {answer.reason}" if isinstance(answer, Unavailable) else answer
    return f"**{attribute.paragraph} {attribute.title}.** {text}"


def _stated(*path: str) -> Callable[[Evidence], Answer]:
    """A sentence of the recipe's card file."""

    def answer(known: Evidence) -> Answer:
        text = known.said(*path)
        if text:
            return str(text)
        return Unavailable(reason=f"the recipe's card file does not state `{'.'.join(path)}`.")

    return answer


def _developer(known: Evidence) -> Answer:
    name, contact = known.said("developer"), known.said("contact")
    if not name:
        return _stated("developer")(known)
    return f"{ended(name)} {contact or ''}".strip()


def _output(known: Evidence) -> Answer:
    stated = known.said("output") or "A probability between 0 and 1."
    baseline = known.manifest.get("prevalence")
    relative = "" if baseline is None else f" Baseline of the relative figure: {baseline:.2%}."
    return f"{stated} Levels: {cuts(known)}.{relative}"


def _cautions(known: Evidence) -> Answer:
    nobody = excluded(known)
    said = [
        f"{opening} {'; '.join(items)}."
        for opening, items in (
            ("No figure is given for:", nobody),
            ("Not for:", known.said("not_for")),
            ("It must not be used:", known.said("must_not")),
        )
        if items
    ]
    return " ".join(said) or Unavailable(reason="neither the manifest nor the recipe names any.")


def _risks(known: Evidence) -> Answer:
    limits = known_limits(known)
    if not limits:
        return Unavailable(reason="none is stated or was measured.")
    return " ".join(f"{limit.title}: {limit.text}" for limit in limits)


def _criteria(known: Evidence) -> Answer:
    flows = {part: entry["flow"] for part, entry in known.parts.items() if entry.get("flow")}
    if not flows:
        return Unavailable(reason="the report holds no cohort flow.")
    said = []
    for part, flow in flows.items():
        steps = "; ".join(f"{step['kept']}: {count(step['people'])}" for step in flow)
        when = known.parts[part].get("periods") or []
        said.append(f"{part.capitalize()}{f' ({years(when)})' if when else ''}: {steps}.")
    return " ".join(said)


def _variables(known: Evidence) -> Answer:
    features = {
        name: entry["title"]
        for entry in known.manifest.get("features", [])
        for name in (entry["name"], entry.get("concept"))
    }
    used, unused = [], []
    for variable in _ROOT["variables"]:
        inputs = list(
            dict.fromkeys(features[name] for name in variable["inputs"] if name in features)
        )
        if inputs:
            used.append(f"{variable['title']} (as {listed(inputs)})")
        else:
            unused.append(variable["title"])
    said = [f"Used: {listed(used)}." if used else "None is used."]
    if unused and used:
        said.append(f"Not used: {listed(unused)}.")
    if "pregnancy" in known.manifest.get("domain", {}).get("exclude", []):
        said.append("Pregnancy status decides whether a figure is given.")
    return " ".join(said)


def _representativeness(known: Evidence) -> Answer:
    rows = [
        f"{row['title']}: {'; '.join(f'{part} {cell(row, part)}' for part in known.parts)}"
        for row in known.find("data", "characteristics") or []
    ]
    stated = known.said("representativeness")
    if not rows:
        return str(stated) if stated else Unavailable(reason="the report holds no characteristics.")
    return f"{stated or ''} {'. '.join(rows)}.".strip()


def _fairness_approach(known: Evidence) -> Answer:
    race = known.find("race")
    stated = _stated("fairness")(known)
    if isinstance(stated, Unavailable) or not race:
        return stated
    return f"{stated} {race_difference(race)}"


def _external(key: str) -> Callable[[Evidence], Answer]:
    def answer(known: Evidence) -> Answer:
        text = known.said("external_validation", key)
        return str(text) if text else _no_external(known)

    return answer


def _external_source(known: Evidence) -> Answer:
    text = known.said("external_validation", "source")
    if text:
        return str(text)
    if known.is_external:
        return f"{ended(known.report['data']['description'])} {ended(measured_on(known))}"
    return _no_external(known)


def _external_people(known: Evidence) -> Answer:
    if known.is_external:
        return _representativeness(known)
    return _external("representativeness")(known)


def _no_external(known: Evidence) -> Unavailable:
    reason = known.said("external_validation", "reason")
    return Unavailable(reason=reason or "no external validation is on record for this version.")


def _internal_validity(known: Evidence) -> Answer:
    if known.is_external:
        return Unavailable(
            reason="this report is of data that the model was not made from; see the version's own."
        )
    return _validity(known)


def _internal_fairness(known: Evidence) -> Answer:
    if known.is_external:
        return _internal_validity(known)
    return _fairness(known)


def _external_validity(known: Evidence) -> Answer:
    return _validity(known) if known.is_external else _no_external(known)


def _external_fairness(known: Evidence) -> Answer:
    return _fairness(known) if known.is_external else _no_external(known)


def _validity(known: Evidence) -> Answer:
    complete = known.complete
    if not complete:
        return Unavailable(reason="the report holds no figures of test people.")
    at = complete["at_moderate"]
    said = [
        f"On {measured_on(known)}: AUROC {number(complete['auroc'], 3)}, {number(complete.get('auroc_weighted'), 3)} weighted;"
        f" average precision {number(complete.get('average_precision'), 3)};"
        f" at the moderate level sensitivity {percent(at['sensitivity'])}, specificity {percent(at['specificity'])},"
        f" positive predictive value {percent(at['ppv'])}."
    ]
    calibration = known.find("test", "calibration")
    if calibration:
        said.append(f"Calibration: {ended(calibration_figures(calibration))}")
    said += [
        f"{entry['title']}: AUROC {number(entry['auroc'], 3)}."
        for id_, entry in (known.test.get("outcomes") or {}).items()
        if id_ != _own_outcome(known)
    ]
    return " ".join(said)


def _own_outcome(known: Evidence) -> str | None:
    """The first outcome is the model's own, whose figures are those of the complete record."""
    return next(iter(known.test.get("outcomes") or {}), None)


def _fairness(known: Evidence) -> Answer:
    axes = known.test.get("groups") or {}
    if not axes:
        return Unavailable(reason="the report holds no figures by group.")
    said = [
        f"{axis}: {'; '.join(map(_group, titles, titles.values()))}."
        for axis, titles in axes.items()
    ]
    return " ".join([misjudged_groups(known) or "", *said]).strip()


def _group(title: str, entry: Mapping[str, Any]) -> str:
    ratio = entry.get("observed_to_expected")
    return f"{title} AUROC {number(entry['auroc'], 3)}{f', observed / expected {number(ratio, 2)}' if interval(ratio)[0] is not None else ''}"


def _outcomes_evaluation(known: Evidence) -> Answer:
    text = known.said("outcomes_evaluation")
    reason = known.said("outcomes_evaluation_reason")
    if text:
        return str(text)
    return Unavailable(reason=reason or "no evaluation of its use on outcomes is on record.")


def _local(known: Evidence) -> Answer:
    reason = known.said("local_reason")
    return Unavailable(
        reason=reason or "it can only be measured where the model is used, on that site's records."
    )


_ANSWERS: Mapping[str, Callable[[Evidence], Answer]] = {
    "(1)(i)": _developer,
    "(1)(ii)": _stated("funding"),
    "(1)(iii)": _output,
    "(1)(iv)": _stated("output_type"),
    "(2)(i)": _stated("intended_use"),
    "(2)(ii)": population,
    "(2)(iii)": _stated("intended_users"),
    "(2)(iv)": _stated("decision_role"),
    "(3)(i)": _cautions,
    "(3)(ii)": _risks,
    "(4)(i)": _criteria,
    "(4)(ii)": _variables,
    "(4)(iii)": _representativeness,
    "(4)(iv)": _stated("relevance"),
    "(5)(i)": _fairness_approach,
    "(5)(ii)": _stated("bias"),
    "(6)(i)": _external_source,
    "(6)(ii)": _external("party"),
    "(6)(iii)": _external_people,
    "(6)(iv)": _external("process"),
    "(7)(i)": _internal_validity,
    "(7)(ii)": _internal_fairness,
    "(7)(iii)": _external_validity,
    "(7)(iv)": _external_fairness,
    "(7)(v)": _outcomes_evaluation,
    "(8)(i)": _stated("maintenance", "validity"),
    "(8)(ii)": _local,
    "(8)(iii)": _stated("maintenance", "fairness"),
    "(8)(iv)": _local,
    "(9)(i)": _stated("maintenance", "updates"),
    "(9)(ii)": _stated("maintenance", "correction"),
}
