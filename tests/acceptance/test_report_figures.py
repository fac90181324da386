"""The report's figures, counted again from what each person was given, by other code.

Probabilities come from the artifact's predictions.csv.gz, weights, design, groups and outcomes from
CDC's own tables by the survey's number; scikit-learn and plain sums take the measures' place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from tests.data import data_folder
from tests.shipped import SHIPPED, needs_recipe, shipped_json

pytestmark = [needs_recipe, pytest.mark.xdist_group("report-figures")]
Floats = npt.NDArray[np.float64]
# Half of the last digit that a report has, and what floating point adds.
ROUNDED = 0.5e-4 + 1e-9
# A smooth curve fitted to a resample bends more than the one fitted to everybody: its distance
# from the diagonal, never negative, is larger in most replicates than in the people as they are.
BIASED = ("ici",)
FASTED = (8, 24)
GROUPS = {
    "Sex": {"Men": ("RIAGENDR", 1, 2), "Women": ("RIAGENDR", 2, 3)},
    "Age": {
        "18–39": ("RIDAGEYR", 18, 40),
        "40–59": ("RIDAGEYR", 40, 60),
        "60–69": ("RIDAGEYR", 60, 70),
        "70 and over": ("RIDAGEYR", 70, 200),
    },
    "Race and ethnicity": {
        "Mexican American": ("RIDRETH1", 1, 2),
        "Other Hispanic": ("RIDRETH1", 2, 3),
        "Non-Hispanic White": ("RIDRETH1", 3, 4),
        "Non-Hispanic Black": ("RIDRETH1", 4, 5),
        "Other or multiple": ("RIDRETH1", 5, 6),
    },
    "BMI": {
        "Under 25": ("BMXBMI", 0, 25),
        "25 to 29.9": ("BMXBMI", 25, 30),
        "30 to 34.9": ("BMXBMI", 30, 35),
        "35 and over": ("BMXBMI", 35, 200),
    },
}


@pytest.fixture(scope="module")
def report() -> Any:
    return shipped_json("report/report.json")


@pytest.fixture(scope="module")
def test(report: Any) -> Any:
    return report["test"]


@pytest.fixture(scope="module")
def given() -> pd.DataFrame:
    """What each person of the test part was given."""
    return pd.read_csv(SHIPPED / "report" / "predictions.csv.gz", dtype={"record": str})


@pytest.fixture(scope="module")
def people(report: Any, given: pd.DataFrame) -> pd.DataFrame:
    """`given` with CDC's own columns."""
    assert report["data"]["parts"]["test"]["periods"] == ["2015-2016"]
    folder = data_folder("nhanes")
    tables = ("DEMO_I", "GHB_I", "BMX_I", "GLU_I", "FASTQX_I")
    joined = given.assign(SEQN=given["record"].astype(int))
    for table in tables:
        columns = pd.read_csv(folder / f"{table}.csv.xz", encoding="latin-1")
        joined = joined.merge(columns, on="SEQN", how="left", suffixes=("", f"_{table}"))
    return joined


def scenarios(given: pd.DataFrame) -> list[str]:
    return [n for n in given if n not in ("record", "event") and not n.startswith("comparator:")]


def comparators(given: pd.DataFrame) -> dict[str, Floats]:
    return {
        name.removeprefix("comparator:"): given[name].to_numpy()
        for name in given
        if name.startswith("comparator:")
    }


def same(measured: float, figure: Any, *, digits: int = 4) -> bool:
    """Whether a figure, [value, low, high] or a plain number, is this one as it is rounded."""
    value = figure[0] if isinstance(figure, list) else figure
    return bool(abs(measured - value) <= 0.5 * 10**-digits + 1e-9)


def at_cut(events: Floats, p: Floats, cut: float, weights: Floats) -> dict[str, float]:
    """From the fourfold table."""
    alert, sick = p >= cut, events == 1
    true, false = weights[alert & sick].sum(), weights[alert & ~sick].sum()
    missed, rest = weights[~alert & sick].sum(), weights[~alert & ~sick].sum()
    return {
        "flagged": (true + false) / weights.sum(),
        "sensitivity": true / (true + missed),
        "specificity": rest / (rest + false),
        "ppv": true / (true + false) if true + false else math.nan,
    }


def differing(expected: dict[str, float], reported: Any) -> list[str]:
    """The names of figures that are not the report's; NaN there is null."""
    return [
        name
        for name, value in expected.items()
        if not (reported[name][0] is None if math.isnan(value) else same(value, reported[name]))
    ]


def of_scenario(events: Floats, p: Floats, weights: Floats) -> dict[str, float]:
    return {
        "auroc": roc_auc_score(events, p),
        "auroc_weighted": roc_auc_score(events, p, sample_weight=weights),
        "average_precision": average_precision_score(events, p),
        "average_precision_weighted": average_precision_score(events, p, sample_weight=weights),
        "brier": brier_score_loss(events, p),
        "brier_weighted": brier_score_loss(events, p, sample_weight=weights),
        "observed_to_expected": (weights * events).sum() / (weights * p).sum(),
    }


def slope(events: Floats, p: Floats, weights: Floats) -> float:
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(p)[:, None], events, weights)
    return float(fitted.coef_[0, 0])


def intercept(events: Floats, p: Floats, weights: Floats) -> float:
    """The shift of all log-odds at which as many are expected as were observed."""
    found = brentq(lambda shift: (weights * (expit(logit(p) + shift) - events)).sum(), -5, 5)
    return float(found)


# ------------------------------------------------------- from the stored predictions by themselves


def test_the_file_holds_everybody_once(test: Any, given: pd.DataFrame) -> None:
    assert len(given) == test["people"] == given["record"].nunique()
    assert given["event"].sum() == test["events"]
    assert scenarios(given) == list(test["scenarios"])
    assert list(comparators(given)) == list(test["comparators"])
    p = given[scenarios(given)].to_numpy()
    assert ((p > 0) & (p < 1)).all()


def test_figures_that_count_everybody_once_follow_from_the_file(
    test: Any, given: pd.DataFrame
) -> None:
    once = np.ones(len(given))
    wrong = {}
    for scenario, reported in test["scenarios"].items():
        counted = of_scenario(given["event"].to_numpy(), given[scenario].to_numpy(), once)
        kept = {name: counted[name] for name in ("auroc", "average_precision", "brier")}
        wrong[scenario] = differing(kept, reported)
    assert {scenario for scenario, names in wrong.items() if names} == set()


def test_the_comparison_with_simpler_means_follows_from_the_file(
    test: Any, given: pd.DataFrame
) -> None:
    events = given["event"]
    own = roc_auc_score(events, given["complete"])
    for title, scores in comparators(given).items():
        reported = test["comparators"][title]
        theirs = roc_auc_score(events, scores)
        assert same(theirs, reported["auroc"]), title
        assert same(average_precision_score(events, scores), reported["average_precision"]), title
        assert same(own - theirs, reported["model_minus_comparator"]), title


def test_unweighted_calibration_follows_from_the_file(test: Any, given: pd.DataFrame) -> None:
    events, p = given["event"].to_numpy(float), given["complete"].to_numpy()
    once = np.ones(len(given))
    reported = test["calibration"]["unweighted"]
    assert same(events.sum() / p.sum(), reported["observed_to_expected"])
    assert slope(events, p, once) == pytest.approx(reported["slope"][0], abs=2e-4)
    assert intercept(events, p, once) == pytest.approx(
        reported["intercept_in_the_large"][0], abs=2e-4
    )


def test_points_of_the_roc_curve_that_are_named_follow_from_the_file(
    test: Any, given: pd.DataFrame
) -> None:
    false, true, _ = roc_curve(given["event"], given["complete"], drop_intermediate=False)
    at_rate = test["sensitivity_at_false_positive_rate"]
    at_sensitivity = test["specificity_at_sensitivity"]
    assert (len(at_rate), len(at_sensitivity)) == (3, 3)
    for rate, figure in at_rate.items():
        assert same(true[false <= float(rate)].max(), figure), rate
    for wanted, figure in at_sensitivity.items():
        assert same(1 - false[true >= float(wanted) - 1e-12].min(), figure), wanted


def test_the_bands_hold_everybody_once(test: Any, given: pd.DataFrame) -> None:
    moderate, high = (test["levels"][name]["cut"] for name in ("at_moderate", "at_high"))
    band = pd.cut(
        given["complete"],
        [0, moderate, high, 1],
        right=False,
        labels=["low", "moderate", "high"],
    )
    counted = given.groupby(band, observed=False)["event"].agg(["size", "sum"])
    assert {
        name: (entry["people"], entry["events"]) for name, entry in test["levels"]["bands"].items()
    } == {str(name): (row["size"], row["sum"]) for name, row in counted.iterrows()}


def test_the_cuts_of_the_report_are_those_that_are_served(test: Any) -> None:
    levels = {
        entry["level"]: entry.get("below") for entry in shipped_json("manifest.json")["levels"]
    }
    assert levels == {
        "low": test["levels"]["at_moderate"]["cut"],
        "moderate": test["levels"]["at_high"]["cut"],
        "high": None,
    }


def test_the_manifest_repeats_the_report(test: Any) -> None:
    performance = shipped_json("manifest.json")["performance"]
    complete = test["scenarios"]["complete"]
    assert performance["auroc"] == complete["auroc"]
    assert performance["auroc_weighted"] == complete["auroc_weighted"]
    assert performance["calibration_slope"] == test["calibration"]["slope"]
    assert performance["levels"] == test["levels"]


def figures(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Everything of the form [value, low, high], and where it is."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from figures(inner, (*path, key))
    elif isinstance(node, list) and len(node) == 3 and all(_number(part) for part in node):
        yield path, node


def _number(part: Any) -> bool:
    return part is None or (isinstance(part, int | float) and not isinstance(part, bool))


def test_every_figure_lies_in_its_interval(test: Any) -> None:
    found = list(figures({**test, "decision_curve": None}))
    assert len(found) > 300
    known = [(path, figure) for path, figure in found if None not in figure]
    assert len(known) > 0.95 * len(found)
    outside = [
        "/".join(path)
        for path, (value, low, high) in known
        if path[-1] not in BIASED and not low <= value <= high
    ]
    assert outside == []


# -------------------------------------------------------------------------------- with CDC's tables


def test_the_stored_outcome_is_the_hba1c_of_cdcs_table(people: pd.DataFrame) -> None:
    assert people["LBXGH"].notna().all()
    assert (people["event"] == (people["LBXGH"] >= 6.5)).all()


def test_prevalence_is_that_of_the_weighted_people(test: Any, people: pd.DataFrame) -> None:
    assert same(np.average(people["event"], weights=people["WTMEC2YR"]), test["prevalence"])
    assert same(people["event"].mean(), test["prevalence_unweighted"])


def test_every_scenarios_figures_follow_from_the_file(test: Any, people: pd.DataFrame) -> None:
    events, weights = people["event"].to_numpy(), people["WTMEC2YR"].to_numpy()
    wrong = {}
    for scenario, reported in test["scenarios"].items():
        p = people[scenario].to_numpy()
        wrong[scenario] = differing(of_scenario(events, p, weights), reported)
        counted = at_cut(events, p, reported["at_moderate"]["cut"], weights)
        wrong[scenario] += differing(counted, reported["at_moderate"])
        wrong[scenario] += of_part(events, p, weights, reported)
    assert {scenario: names for scenario, names in wrong.items() if names} == {}


def of_part(events: Floats, p: Floats, weights: Floats, reported: Any) -> list[str]:
    """The names of a part's further figures that are not the report's.

    Calibration only where its fit has an answer: null there is looked at by the caller.
    """
    wrong = []
    false, true, _ = roc_curve(events, p, drop_intermediate=False)
    for rate, figure in reported["sensitivity_at_false_positive_rate"].items():
        if not same(true[false <= float(rate)].max(), figure):
            wrong.append(f"sensitivity at {rate}")
    for wanted, figure in reported["specificity_at_sensitivity"].items():
        if not same(1 - false[true >= float(wanted) - 1e-12].min(), figure):
            wrong.append(f"specificity at {wanted}")
    calibration = reported["calibration"]
    for weighting, known in ((weights, calibration), (np.ones(len(p)), calibration["unweighted"])):
        if not math.isclose(slope(events, p, weighting), known["slope"][0], abs_tol=2e-4):
            wrong.append("slope")
        shift = known["intercept_in_the_large"][0]
        if not math.isclose(intercept(events, p, weighting), shift, abs_tol=2e-4):
            wrong.append("intercept")
        expected = (weighting * p).sum()
        if not same((weighting * events).sum() / expected, known["observed_to_expected"]):
            wrong.append("observed over expected")
        ici = np.average(np.abs(smoothed(events, p, weighting) - p), weights=weighting)
        if not same(ici, known["ici"]):
            wrong.append("ICI")
    for entry in reported["alerts"]:
        counted = at_cut(events, p, entry["cut"], weights)
        if not same(1000 * counted["flagged"], entry["alerts_per_1000"], digits=1):
            wrong.append(f"alerts from {entry['cut']}")
        wrong += differing({n: counted[n] for n in ("ppv", "sensitivity")}, entry)
    drawn = reported["decision_curve"]
    for at, threshold in enumerate(drawn["thresholds"]):
        for title, alert in (("This model", p >= threshold), ("Test everybody", p >= 0)):
            net = net_benefit(events, alert, threshold, weights)
            if not same(net, drawn["curves"][title][at], digits=6):
                wrong.append(f"net benefit of {title} at {threshold}")
    return wrong


def smoothed(events: Floats, p: Floats, weights: Floats) -> Floats:
    """Observed risk by a natural cubic spline of the log-odds, fitted by scikit-learn.

    Harrell's four knots, and the basis of Hastie, Tibshirani and Friedman, Elements, equation 5.4,
    on one scale, with a ridge of 1e-6: few people with the outcome leave a curve without an end.
    """
    given = logit(p)
    knots = np.quantile(given, [0.05, 0.35, 0.65, 0.95])

    def bend(k: int) -> Floats:
        above = np.clip(given - knots[k], 0, None) ** 3 - np.clip(given - knots[-1], 0, None) ** 3
        return np.asarray(above / (knots[-1] - knots[k]))

    basis = np.column_stack([given, *(bend(k) - bend(2) for k in (0, 1))])
    scaled = (basis - basis.mean(axis=0)) / basis.std(axis=0)
    fitted = LogisticRegression(C=1e6, tol=1e-10, solver="newton-cholesky")
    fitted.fit(scaled, events, weights / weights.mean())
    return np.asarray(fitted.predict_proba(scaled)[:, 1])


def net_benefit(events: Floats, alert: Any, threshold: float, weights: Floats) -> float:
    """Vickers and Elkin 2006: true positives less false positives at the odds of the threshold."""
    shares = weights / weights.sum()
    true, false = shares[alert & (events == 1)].sum(), shares[alert & (events == 0)].sum()
    return float(true - threshold / (1 - threshold) * false)


def test_every_groups_figures_follow_from_the_file(test: Any, people: pd.DataFrame) -> None:
    assert {axis: list(groups) for axis, groups in test["groups"].items()} == {
        axis: list(groups) for axis, groups in GROUPS.items()
    }
    wrong = {}
    for axis, groups in GROUPS.items():
        for title, (column, low, high) in groups.items():
            members = people[(people[column] >= low) & (people[column] < high)]
            reported = test["groups"][axis][title]
            events, p = members["event"].to_numpy(), members["complete"].to_numpy()
            weights = members["WTMEC2YR"].to_numpy()
            assert (len(members), events.sum()) == (reported["people"], reported["events"]), title
            counted = at_cut(events, p, reported["at_moderate"]["cut"], weights)
            wrong[title] = differing(of_scenario(events, p, weights), reported)
            wrong[title] += differing(counted, reported["at_moderate"])
            wrong[title] += of_part(events, p, weights, reported)
    assert {title: names for title, names in wrong.items() if names} == {}


def test_levels_and_alerts_follow_from_the_file(test: Any, people: pd.DataFrame) -> None:
    events, p = people["event"].to_numpy(), people["complete"].to_numpy()
    weights = people["WTMEC2YR"].to_numpy()
    for name in ("at_moderate", "at_high"):
        reported = test["levels"][name]
        assert differing(at_cut(events, p, reported["cut"], weights), reported) == []
    ends = [0, test["levels"]["at_moderate"]["cut"], test["levels"]["at_high"]["cut"], 1]
    for low, high, band in zip(ends[:-1], ends[1:], test["levels"]["bands"].values(), strict=True):
        inside = (low <= p) & (p < high)
        assert same(weights[inside].sum() / weights.sum(), band["share"])
        assert same(np.average(events[inside], weights=weights[inside]), band["observed"])
    assert len(test["alerts"]) > 10
    for entry in test["alerts"]:
        counted = at_cut(events, p, entry["cut"], weights)
        assert same(1000 * counted["flagged"], entry["alerts_per_1000"], digits=1)
        shared = {name: counted[name] for name in ("ppv", "sensitivity")}
        assert differing(shared, entry) == [], entry["cut"]


def test_calibration_follows_from_the_file(test: Any, people: pd.DataFrame) -> None:
    events, p = people["event"].to_numpy(float), people["complete"].to_numpy()
    weights = people["WTMEC2YR"].to_numpy()
    reported = test["calibration"]
    counted = of_scenario(events, p, weights)
    assert same(counted["observed_to_expected"], reported["observed_to_expected"])
    assert same(counted["brier_weighted"], reported["brier"])
    assert slope(events, p, weights / weights.mean()) == pytest.approx(
        reported["slope"][0], abs=2e-4
    )
    assert intercept(events, p, weights) == pytest.approx(
        reported["intercept_in_the_large"][0], abs=2e-4
    )


def test_the_groups_of_risk_are_tenths_of_the_weighted_people(
    test: Any, people: pd.DataFrame
) -> None:
    groups = test["calibration"]["groups"]
    ordered = people.sort_values("complete", kind="stable")
    ends = np.cumsum([group["people"] for group in groups])
    assert (len(groups), ends[-1]) == (10, len(people))
    total = people["WTMEC2YR"].sum()
    for start, end, group in zip([0, *ends], ends, groups, strict=False):
        inside = ordered.iloc[start:end]
        weights = inside["WTMEC2YR"]
        # A tenth, but for the person who lies across the end.
        assert weights.sum() / total == pytest.approx(0.1, abs=2 * people["WTMEC2YR"].max() / total)
        assert inside["event"].sum() == group["events"]
        assert same(np.average(inside["complete"], weights=weights), group["predicted"])
        assert same(np.average(inside["event"], weights=weights), group["observed"])


def test_curves_lie_on_scikit_learns(test: Any, people: pd.DataFrame) -> None:
    known = people["event"], people["complete"]
    weighted = {"sample_weight": people["WTMEC2YR"], "drop_intermediate": False}
    false, true, _ = roc_curve(*known, **weighted)
    precision, recall, _ = precision_recall_curve(*known, **weighted)
    for curve, x, y in (("roc", false, true), ("precision_recall", recall, precision)):
        points = np.array(test[curve])
        assert points.shape == (101, 2)
        away = np.abs(points[:, None, :] - np.column_stack([x, y])[None]).max(axis=2).min(axis=1)
        # People of the same probability are alerted together, or not at all: a point of the report
        # may lie between two of scikit-learn's, one person from the nearer.
        step = people["WTMEC2YR"].max() / people.loc[people["event"] == 1, "WTMEC2YR"].sum()
        assert (away <= ROUNDED).mean() > 0.9, curve
        assert away.max() <= step, curve


def test_net_benefit_follows_from_the_file(test: Any, people: pd.DataFrame) -> None:
    events, p = people["event"].to_numpy(), people["complete"].to_numpy()
    weights = people["WTMEC2YR"].to_numpy()
    drawn = test["decision_curve"]
    assert len(drawn["thresholds"]) > 10
    for at, threshold in enumerate(drawn["thresholds"]):
        for title, alert in (("This model", p >= threshold), ("Test everybody", p >= 0)):
            net = net_benefit(events, alert, threshold, weights)
            assert same(net, drawn["curves"][title][at], digits=6), title


def test_weighted_figures_of_simpler_means_follow_from_the_file(
    test: Any, people: pd.DataFrame
) -> None:
    for title, scores in comparators(people).items():
        weighted = roc_auc_score(people["event"], scores, sample_weight=people["WTMEC2YR"])
        assert same(weighted, test["comparators"][title]["auroc_weighted"]), title


def test_glucose_alone_is_the_glucose_of_cdcs_table(people: pd.DataFrame) -> None:
    table = pd.read_csv(data_folder("nhanes") / "BIOPRO_I.csv.xz")
    glucose = people.merge(table[["SEQN", "LBXSGL"]], on="SEQN", how="left")["LBXSGL"]
    measured = glucose.notna()
    assert measured.mean() > 0.9
    assert (people.loc[measured, "comparator:Glucose alone"] == glucose[measured]).all()
    assert people.loc[~measured, "comparator:Glucose alone"].nunique() == 1


def test_other_definitions_of_the_disease_follow_from_the_file(
    test: Any, people: pd.DataFrame
) -> None:
    hours = people["PHAFSTHR"] + people["PHAFSTMN"].fillna(0) / 60
    fasted = (hours >= FASTED[0]) & (hours < FASTED[1])
    known = fasted & people["LBXGLU"].notna() & (people["WTSAF2YR"] > 0)
    high = people["LBXGLU"] >= 126
    outcomes = {
        "hba1c": (people["event"].notna(), people["event"]),
        "fasting_glucose": (known, high),
        "both": (known, high & (people["event"] == 1)),
    }
    assert list(test["outcomes"]) == list(outcomes)
    for id_, (asked, happened) in outcomes.items():
        reported = test["outcomes"][id_]
        events = happened[asked].astype(int)
        assert (len(events), events.sum()) == (reported["people"], reported["events"]), id_
        entries = {"complete": reported, **reported["scenarios"]}
        entries |= {f"comparator:{t}": entry for t, entry in reported["comparators"].items()}
        assert len(entries) > 4
        for column, entry in entries.items():
            scores = people.loc[asked, column]
            assert same(roc_auc_score(events, scores), entry["auroc"]), (id_, column)
            precision = average_precision_score(events, scores)
            assert same(precision, entry["average_precision"]), (id_, column)


def test_intervals_are_about_those_of_another_bootstrap(test: Any, people: pd.DataFrame) -> None:
    """Sampling units drawn within strata, one fewer than there are, by other code and chance."""
    chance = np.random.default_rng(99)
    weights = people["WTMEC2YR"].to_numpy()
    events, p = people["event"].to_numpy(), people["complete"].to_numpy()
    unit = people.groupby(["SDMVSTRA", "SDMVPSU"]).ngroup().to_numpy()
    stratum_of = people.groupby(unit)["SDMVSTRA"].first()
    drawn: dict[str, list[float]] = {"auroc": [], "observed_to_expected": []}
    for _ in range(300):
        times = np.zeros(len(stratum_of))
        for _, units in stratum_of.groupby(stratum_of):
            kept = chance.choice(units.index, len(units) - 1)
            np.add.at(times, kept, len(units) / (len(units) - 1))
        by = times[unit]
        drawn["auroc"].append(roc_auc_score(events, p, sample_weight=by))
        expected = (by * weights * p).sum()
        drawn["observed_to_expected"].append((by * weights * events).sum() / expected)
    for name, values in drawn.items():
        _, low, high = test["scenarios"]["complete"][name]
        ours = np.percentile(values, [2.5, 97.5])
        assert ours == pytest.approx([low, high], abs=(high - low) / 5), name
