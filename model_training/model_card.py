"""The model card: what a clinician or an auditor reads, every figure from manifest and report."""

# ruff: noqa: E501 - one Markdown paragraph is one line, as the reader's window breaks it

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
Figure = Sequence[float | None]


def model_card(manifest: Json, report: Json) -> str:
    test = report["test"]
    sections = [
        _opening(manifest),
        _people(manifest),
        _inputs(manifest),
        _performance(manifest, test),
        _by_record(test),
        _calibration(test),
        _by_group(test),
        _comparators(test),
        _levels(manifest, test),
        _limits(manifest, test),
        _making(manifest, report),
    ]
    return "\n\n".join(sections) + "\n"


def _opening(manifest: Json) -> str:
    return f"""# {manifest["title"]}: model card

Model `{manifest["name"]}`, version {manifest["version"]}.

**Question.** {manifest["question"]}

**Answer.** A probability, a level (low, moderate, high) and what moved it. It is a reason to order an HbA1c, not a diagnosis: a diagnosis needs the laboratory, and without symptoms a second test.

**For whom.** Adults from {manifest["domain"]["minimum_age"]} years who are not known to have diabetes and are not pregnant. Not for children, in pregnancy, for people with known diabetes in any form (also in remission), nor for the dead: the service gives them no figure.

**Outcome it was trained on.** {manifest["cohort"]["outcome"]}."""


def _people(manifest: Json) -> str:
    cohort = manifest["cohort"]
    parts = [part for part in cohort if isinstance(cohort[part], Mapping)]
    flow = zip(*(cohort[part]["flow"] for part in parts), strict=True)
    steps = [
        [row[0]["kept"], *(f"{cell['people']:,} ({cell['events']:,})" for cell in row)]
        for row in flow
    ]
    headings = [f"{part}: {_span(cohort[part]['cycles'])}" for part in parts]
    return f"""## Data

{cohort["source"]}. Fitted on the first group, chosen and calibrated on the second, measured once on the third. In brackets: people with HbA1c of 6.5 % or more.

{_table(["kept", *headings], steps)}

People who were told of "borderline diabetes" stay: that is no diagnosis. So do the few who did not know or did not say. Race and ethnicity are not inputs."""


def _inputs(manifest: Json) -> str:
    rows = [
        [
            f"{entry['title']}{' (required)' if entry['required'] else ''}",
            entry["unit"],
            "–".join(f"{bound:g}" for bound in entry["plausible"]),
            {1: "rises", -1: "falls", 0: "free"}[entry["monotone"]],
        ]
        for entry in manifest["features"]
    ]
    groups = "; ".join(
        " or ".join(group).replace("_", " ") for group in manifest["sufficiency"]["at_least_one_of"]
    )
    return f"""## Inputs

The latest value of each within its look-back window (730 days for measurements). Age is required, and at least one of: {groups}. Everything else may be absent. A value outside its plausible range counts as absent. "Rises": the risk can only rise with the value, whatever else is known.

{_table(["input", "unit", "plausible", "risk"], rows)}"""


def _performance(manifest: Json, test: Json) -> str:
    complete = test["scenarios"]["complete"]
    return f"""## Performance

Measured once on {test["people"]:,} people ({test["events"]} with the outcome) of {manifest["performance"]["measured_on"].split(",")[0]}. Intervals are 95 %, from a bootstrap of the survey's sampling units. Survey-weighted figures speak for adults of the United States without known diabetes, unweighted ones for the people examined.

- AUROC {_show(complete["auroc"], 3)} unweighted, {_show(complete["auroc_weighted"], 3)} survey-weighted.
- Prevalence of the outcome {_percent(test["prevalence"])} survey-weighted, {test["prevalence_unweighted"]:.1%} of those examined.
- Counting also people who take glucose-lowering drugs without saying that they have diabetes ({test["with_treated"]["people"]:,} people, {test["with_treated"]["events"]} with the outcome): AUROC {_show(test["with_treated"]["auroc"], 3)}.

![ROC curve and calibration](report/performance.svg)"""


def _by_record(test: Json) -> str:
    rows = [
        [
            entry["title"],
            _show(entry["auroc"], 3),
            _show(entry["auroc_weighted"], 3),
            _show(entry["observed_to_expected"], 2),
            _percent(entry["at_moderate"]["flagged"]),
            _percent(entry["at_moderate"]["sensitivity"]),
        ]
        for entry in test["scenarios"].values()
    ]
    headings = ["record", "AUROC", "AUROC, weighted", "observed / expected"]
    headings += ["alerted (moderate or high)", "sensitivity there"]
    return f"""## What an incomplete record costs

The same people with whole panels taken away. Below 1, observed / expected means that risks are overstated; above 1, understated.

{_table(headings, rows)}"""


def _calibration(test: Json) -> str:
    calibration = test["calibration"]
    rows = [
        [
            str(number),
            f"{group['people']:,}",
            str(group["events"]),
            f"{group['predicted']:.2%}",
            f"{group['observed']:.2%}",
        ]
        for number, group in enumerate(calibration["groups"], start=1)
    ]
    return f"""## Calibration

Slope {calibration["slope"]:.2f} (1 is ideal), intercept in the large {calibration["intercept_in_the_large"]:+.2f} (0 is ideal), observed / expected {_show(calibration["observed_to_expected"], 2)}, Brier score {_show(calibration["brier"], 4)}. Tenths of the population by predicted risk, complete records:

{_table(["tenth", "people", "with outcome", "predicted", "observed"], rows)}"""


def _by_group(test: Json) -> str:
    rows = [
        [
            title,
            f"{entry['people']:,}",
            str(entry["events"]),
            _show(entry["auroc"], 3),
            _show(entry["observed_to_expected"], 2),
            _percent(entry["at_moderate"]["sensitivity"]),
        ]
        for title, entry in test["groups"].items()
    ]
    headings = ["group", "people", "with outcome", "AUROC", "observed / expected"]
    return f"""## By group

Small groups have wide intervals. Ethnicity, as NHANES asks it, is looked at here only.

{_table([*headings, "sensitivity at moderate"], rows)}"""


def _comparators(test: Json) -> str:
    rows = [
        [
            title,
            _show(entry["auroc"], 3),
            _show(entry["auroc_weighted"], 3),
            _show(entry["model_minus_comparator"], 3),
        ]
        for title, entry in test["comparators"].items()
    ]
    return f"""## Against simpler means

The same people, gaps filled with the median of the fit people.

{_table(["means", "AUROC", "AUROC, weighted", "this model minus it (unweighted)"], rows)}"""


def _levels(manifest: Json, test: Json) -> str:
    levels = test["levels"]
    bands = [
        [name, f"{entry['share']:.1%}", str(entry["events"]), _percent(entry["observed"])]
        for name, entry in levels["bands"].items()
    ]
    yields = [
        [title, f"{entry['cut']:g}"]
        + [_percent(entry[key]) for key in ("flagged", "sensitivity", "specificity", "ppv")]
        for title, entry in (
            ("moderate or high", levels["at_moderate"]),
            ("high", levels["at_high"]),
        )
    ]
    headings = ["alerted at", "from", "share of adults", "sensitivity", "specificity"]
    return f"""## Levels

{manifest["levels_rationale"]} On the test people:

{_table([*headings, "of those alerted, with outcome"], yields)}

{_table(["level", "share of adults", "with outcome", "observed risk"], bands)}

The baseline of a relative risk is {manifest["prevalence"]:.2%}. {manifest["prevalence_rationale"]}"""


def _limits(manifest: Json, test: Json) -> str:
    oldest = next(entry["clip"][1] for entry in manifest["features"] if entry["name"] == "age")
    without = test["scenarios"]["no_glucose"]
    return f"""## Limits

- **Age.** NHANES records ages above {oldest} as {oldest}. Older people are scored as if {oldest}.
- **Glucose.** Serum glucose of the biochemistry profile, in NHANES often fasting in the morning session and drawn under protocol. In practice a random or capillary value may be higher than the model was taught, and a delayed sample lower. CDC advises against calling diabetes from this measurement; here it is an input, HbA1c is the outcome.
- **One HbA1c.** Anaemia, haemoglobin variants, kidney failure and recent transfusion shift HbA1c, in the training data as in practice.
- **One moment.** All values of a person were taken on one day. In a record they may be up to two years apart.
- **Without glucose** the ranking is weaker (AUROC {_show(without["auroc"], 3)}) and the level less certain (observed / expected {_show(without["observed_to_expected"], 2)}).
- **Groups.** {_miscalibrated(test)} HbA1c differs between ethnic groups at the same glucose (Ziemer et al., Ann Intern Med 2010;152:770-777), and a model that is given glucose and not ethnicity cannot follow that. A low figure is no reason to withhold a test that is due by age, weight or family.
- **Population.** Civilian, non-institutionalised people of the United States, {_span(manifest["cohort"]["fit"]["cycles"])} to {_span(manifest["cohort"]["test"]["cycles"])}. Elsewhere, and in hospital, prevalence and calibration differ: check both on your own data before use.
- **Acute illness**, steroids and drugs that move an input are not known to the model.
- **Not measured:** whether showing the figure changes what is done or how patients fare."""


def _making(manifest: Json, report: Json) -> str:
    tuning = report["tuning"]
    rows = [[name, f"{entry['mean_log_loss']:.6f}"] for name, entry in tuning["candidates"].items()]
    return f"""## How it was made

Gradient-boosted trees (XGBoost {manifest["software"]["xgboost"]}), {report["model"]["trees"]} trees of depth at most {report["model"]["max_depth"]}, monotone where medicine knows the sign, fitted on people as recorded and on copies with panels blanked out, then calibrated (Platt) on the tune people. Creatinine of 1999–2000 and 2005–2006 is corrected as CDC advises. Chosen by: {tuning["criterion"]}.

{_table(["candidate", "mean log loss"], rows)}

Taken: `{tuning["chosen"]}`. `cds-service train nhanes --data DIR` rebuilds this folder to the same bytes; `report/report.json` holds every figure."""


def _miscalibrated(test: Json) -> str:
    """The groups for whom the whole interval of observed / expected lies on one side of 1."""
    figures = {title: entry["observed_to_expected"] for title, entry in test["groups"].items()}
    under = [title for title, (_, low, _) in figures.items() if low is not None and low > 1]
    over = [title for title, (_, _, high) in figures.items() if high is not None and high < 1]
    said = [
        f"The test people show risk {word} (observed / expected) in: "
        + "; ".join(f"{title} {_show(figures[title], 2)}" for title in titles)
        + "."
        for word, titles in (("understated", under), ("overstated", over))
        if titles
    ]
    return " ".join(said) or "No group's interval of observed / expected leaves out 1."


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _show(figure: Figure, digits: int) -> str:
    value, low, high = figure
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _percent(figure: Figure) -> str:
    value, low, high = figure
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.1%}"
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _span(cycles: Sequence[str]) -> str:
    return f"{cycles[0][:4]}–{cycles[-1][-4:]}"
