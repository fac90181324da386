"""How the model was made: what was chosen, on which people, why; and what the checks said."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_training.model_card.evidence import Evidence, Json
from model_training.model_card.performance import picture
from model_training.model_card.wording import (
    UNKNOWN,
    Figure,
    bullets,
    count,
    ended,
    interval,
    listed,
    number,
    section,
    signed,
    table,
    years,
)

_SETTINGS = {"complete": "AUROC, complete", "no_glucose": "AUROC, no glucose"}


def inputs_judged_section(known: Evidence) -> str:
    """What earned its place among the inputs and what did not: gains by outcome, side by side."""
    study = known.find("choices", "panels")
    if not study:
        return ""
    outcomes = [
        f"{entry['title']} ({count(entry['people'])} people, {count(entry['events'])} with it)"
        for entry in study["outcomes"]
    ]
    return section(
        "What earned its place",
        f"Each panel was judged on development people only, on {listed(outcomes)}. {ended(study['rule'])} An input that helps for one laboratory test and for no other may predict the test and not the disease.",
        _verdicts(study),
        "What each panel adds to the AUROC:",
        _gains(study),
    )


def making_section(known: Evidence) -> str:
    model, choices = known.find("model") or {}, known.find("choices") or {}
    if not model:
        return ""
    return section(
        "How it was made",
        _algorithm(known),
        _folds(choices.get("cross_validation")),
        bullets(_chosen(choices)),
        _methods("Absent values", choices.get("imputation")),
        _methods("Class weighting", choices.get("class_weighting")),
        _methods("Records with holes", choices.get("masking")),
        _methods("Calibration", choices.get("calibration")),
        _threshold_table(choices.get("thresholds")),
        known.said("making_note"),
    )


def race_section(known: Evidence) -> str:
    """What adding race and ethnicity would change, as evidence for leaving it out."""
    race = known.find("race")
    if not race:
        return ""
    return section(
        "Race and ethnicity",
        f"{known.said('race_note') or 'Not an input.'} {race_difference(race)}",
        _race_table(race),
        picture(known, "report/race.svg", "Observed / expected by group, without race and with it"),
        known.said("race_reading"),
    )


def race_difference(race: Json) -> str:
    """What the AUROC of a model with race and ethnicity would be, beside that without."""
    return (
        f"With it as an input, AUROC {number(race['with']['auroc'], 3)} instead of "
        f"{number(race['without']['auroc'], 3)}; difference {signed(race.get('difference'), 4)}."
    )


def checks_section(known: Evidence) -> str:
    said = [text for text in (_shuffled(known), _learning(known)) if text]
    return section("Checks", bullets(said) if said else None)


def gates_section(known: Evidence) -> str:
    gates = known.report.get("gates") or []
    rows = [
        [
            gate["title"],
            _plain(gate["measured"]),
            _required(gate),
            "passed" if gate["passed"] else "failed",
            gate.get("note") or "",
        ]
        for gate in gates
    ]
    if not rows:
        return ""
    return section(
        "Gates",
        "A version is published only when it passes the gates of its recipe.",
        table(["gate", "measured", "required", "result", "note"], rows),
    )


def _algorithm(known: Evidence) -> str:
    model = known.report["model"]
    trees = (
        f", {model['trees']} trees of depth at most {model['max_depth']}"
        if model.get("trees")
        else ""
    )
    calibration = model.get("calibration")
    software = ", ".join(
        f"{name} {version}" for name, version in (known.manifest.get("software") or {}).items()
    )
    said = [f"{model['algorithm']}{trees}, {model['features']} inputs."]
    if calibration:
        said.append(
            "Not recalibrated."
            if calibration in ("identity", "none")
            else f"Calibrated: {calibration}."
        )
    return " ".join([*said, f"Software: {software}."] if software else said)


def _folds(validation: Json | None) -> str | None:
    if not validation:
        return None
    folds = [listed([years([period]) for period in fold]) for fold in validation["folds"]]
    return f"Everything below was chosen on development people only, by cross-validation that leaves out whole periods ({'; '.join(folds)}). Criterion: {ended(validation['criterion'])}"


def _chosen(choices: Json) -> list[str]:
    said = []
    search = choices.get("search")
    if search:
        settings = ", ".join(f"{key} {_plain(value)}" for key, value in search["chosen"].items())
        said.append(
            f"Settings of the trees: best of {search['trials']} trials ({search['sampler']}): {settings}."
        )
    for title, key in (
        ("Absent values", "imputation"),
        ("Class weighting", "class_weighting"),
        ("Calibration", "calibration"),
    ):
        choice = choices.get(key)
        if choice:
            said.append(f"{title}: {_title_of(choice)}.")
    masking = choices.get("masking")
    if masking:
        said.append(
            f"Weight of the copies of each person with panels blanked out: {masking['chosen_share']:.0%}."
        )
    thresholds = choices.get("thresholds")
    if thresholds:
        used = [f"{level} by {rule}" for level, rule in thresholds["used"].items()]
        said.append(f"Thresholds: {listed(used)}.")
    return said


def _title_of(choice: Json) -> str:
    titles = {entry.get("id"): entry.get("title") for entry in choice.get("methods") or []}
    chosen = str(choice["chosen"])
    title = titles.get(chosen)
    return f"{chosen} ({title})" if title and title.lower() != chosen else chosen


def _methods(title: str, choice: Json | None) -> str | None:
    """The candidates of one choice and how they did; columns that nobody fills are left out."""
    methods = (choice or {}).get("methods") or []
    if not methods:
        return None
    rows = [_method(entry, (choice or {}).get("chosen")) for entry in methods]
    headings = [title, "log loss", "AUROC", *_SETTINGS.values(), "slope", "ICI", "choice"]
    return table(headings, rows)


def _method(entry: Json, chosen: Any) -> list[str]:
    auroc = entry.get("auroc")
    by_setting = auroc if isinstance(auroc, dict) else {}
    label = entry.get("title") or entry.get("id")
    if label is None:
        label = f"{entry['share']:.0%}" if "share" in entry else UNKNOWN
    return [
        str(label),
        number(entry.get("log_loss"), 5),
        UNKNOWN if isinstance(auroc, dict) else number(auroc, 3),
        *(number(by_setting.get(setting), 3) for setting in _SETTINGS),
        number(entry.get("slope"), 2),
        number(entry.get("ici"), 4),
        "taken" if chosen is not None and entry.get("id") == chosen else "",
    ]


def _threshold_table(thresholds: Json | None) -> str | None:
    candidates = (thresholds or {}).get("candidates") or []
    rows = [
        [
            entry["rule"],
            number(entry["cut"], 3),
            number(entry.get("alerts_per_1000"), 0),
            _share(entry.get("sensitivity")),
            _share(entry.get("ppv")),
        ]
        for entry in candidates
    ]
    headings = ["threshold rule", "cut", "alerts per 1,000", "sensitivity"]
    return table([*headings, "of those alerted, with outcome"], rows) if rows else None


def _verdicts(study: Json) -> str:
    rows = [
        [entry["title"], ", ".join(entry["inputs"]), entry["verdict"], entry["reason"]]
        for entry in study["panels"]
    ]
    return table(["panel", "inputs", "verdict", "why"], rows)


def _gains(study: Json) -> str:
    columns = [(setting, outcome) for setting in study["settings"] for outcome in study["outcomes"]]
    rows = [
        [
            entry["title"],
            *(_gain(entry["gain"], setting["id"], outcome["id"]) for setting, outcome in columns),
        ]
        for entry in study["panels"]
    ]
    headings = [f"{setting['title']}: {outcome['title']}" for setting, outcome in columns]
    return table(["panel", *headings], rows)


def _gain(gains: Json, setting: str, outcome: str) -> str:
    return signed((gains.get(setting) or {}).get(outcome), 4)


def _race_table(race: Json) -> str | None:
    fasting = _fasting(race)
    rows = [
        [
            group,
            *_without_with(entry.get("observed_to_expected"), 2),
            *_without_with(entry.get("sensitivity_at_moderate"), 2),
            *(number(ratios.get(group), 2) for ratios in fasting.values()),
        ]
        for group, entry in (race.get("groups") or {}).items()
    ]
    headings = ["group", "observed / expected", "with race", "sensitivity at moderate", "with race"]
    headings += [f"observed / expected for: {title}" for title in fasting]
    return table(headings, rows) if rows else None


def _fasting(race: Json) -> dict[str, dict[str, Figure]]:
    """Outcome → group → observed / expected without race, of models taught that outcome."""
    made: dict[str, dict[str, Figure]] = {}
    for title, entry in (race.get("fasting") or {}).items():
        if "observed_to_expected" in entry:  # one outcome only: its groups stand here themselves
            ratio = entry["observed_to_expected"]["without"]
            made.setdefault("fasting glucose", {})[title] = ratio
        else:
            made[title] = {group: each["observed_to_expected"] for group, each in entry.items()}
    return made


def _without_with(figures: Json | None, digits: int) -> tuple[str, str]:
    held = figures or {}
    return number(held.get("without"), digits), number(held.get("with"), digits)


def _shuffled(known: Evidence) -> str | None:
    shuffled = known.find("permutation")
    if not shuffled:
        return None
    return f"Fitted on shuffled labels {shuffled['repeats']} times, the pipeline gives an AUROC of {number(shuffled['mean'], 3)} on average; 0.5 is what no information must give."


def _learning(known: Evidence) -> str | None:
    curve: Sequence[Json] = known.find("learning_curve") or []
    if len(curve) < 2:
        return None
    half, whole = curve[-2], curve[-1]
    return f"Learning curve: cross-validated AUROC {number(half['auroc'], 3)} from {count(half['people'])} people, {number(whole['auroc'], 3)} from {count(whole['people'])}."


def _required(gate: Json) -> str:
    """at least 0.895"""
    required = gate["required"]
    if isinstance(required, list):
        return f"{_plain(required[0])} to {_plain(required[1])}"
    rule = str(gate.get("rule") or "")
    return f"{rule.replace('_', ' ')} {_plain(required)}".strip()


def _share(value: Figure) -> str:
    plain = interval(value)[0]
    return UNKNOWN if plain is None else f"{plain:.1%}"


def _plain(value: Any) -> str:
    """A setting or a bound as it is, without digits that mean nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN if value is None else str(value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
