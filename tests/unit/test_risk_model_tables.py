"""What is looked up in tables is what XGBoost computes, bit for bit; what they cannot hold, or
round otherwise, is left to XGBoost, and what is wrong is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost

from model_training.artifact import folders
from model_training.model_card.quote import ARTIFACTS
from risk_model import ArtifactError, Model, RiskEstimate, load_model, score, scoring, tables
from risk_model.booster import Booster, load_booster, margins_and_shap_values
from risk_model.tables import Tables, tabulate
from tests.shipped import SHIPPED, shipped_json
from tests.unit.test_risk_model_preprocessing import artifact_of_pipeline

Row = npt.NDArray[np.float32]


def computed_by_xgboost(model: Model) -> Model:
    return replace(model, tables=None)


def rows_for(found: Tables, count: int, seed: int = 1) -> Row:
    """Values at a cut, next to one on either side, between and outside them, and absent ones."""
    random = np.random.default_rng(seed)
    columns = []
    for _, cuts in found.columns:
        own = np.array(cuts or [0.0], dtype=np.float32)
        at = random.choice(own, count)
        anywhere = random.uniform(own[0] - 5, own[-1] + 5, count)
        choices = [
            at,
            np.nextafter(at, np.float32(-1e30)),
            np.nextafter(at, np.float32(1e30)),
            anywhere,
            np.full(count, np.nan),
        ]
        columns.append(np.choose(random.integers(0, 5, count), choices))
    return np.column_stack(columns).astype(np.float32)


def assert_the_same_bits(found: Tables, booster: Booster, rows: Row) -> None:
    margins, shap_values = margins_and_shap_values(booster, rows)
    looked_up = [(*found.margin_and_shares(row), found.expected) for row in rows]
    computed = np.column_stack([margins, shap_values])
    own = np.array([[margin, *shares, expected] for margin, shares, expected in looked_up])
    # As integers, of which -0.0 and 0.0 are two.
    assert np.array_equal(own.view(np.int64), computed.view(np.int64))


# ------------------------------------------------------------------------------ published models


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(SHIPPED)


@pytest.mark.parametrize("folder", folders(ARTIFACTS), ids=lambda folder: folder.name)
def test_every_published_version_is_looked_up_with_the_bits_of_xgboost(folder: Path) -> None:
    model = load_model(folder)
    assert model.tables is not None
    assert model.tables.answers.nbytes < 10e6
    assert_the_same_bits(model.tables, model.booster, rows_for(model.tables, 4000))


def test_a_value_below_a_cut_in_64_bits_and_at_it_in_32_goes_as_with_xgboost(
    shipped: Model,
) -> None:
    """30.6 is less than the 32-bit number next to it, at which a tree splits."""
    assert shipped.tables is not None
    names = [feature.name for feature in shipped.manifest.features]
    cuts = shipped.tables.columns[names.index("body_mass_index")][1]
    decimals = [round(cut, 1) for cut in cuts if 15 < cut < 70]
    below = [value for value in decimals if value < np.float32(value).item() in cuts]
    assert len(below) > 5
    for value in below:
        values = {"age": 61, "body_mass_index": value}
        assert score(shipped, values) == score(computed_by_xgboost(shipped), values)


def test_a_model_with_preprocessing_is_looked_up_too(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    model = load_model(folder)
    assert model.preprocessing is not None
    assert model.tables is not None
    for case in golden:
        got = score(model, case["values"])
        assert got == score(computed_by_xgboost(model), case["values"])


# ----------------------------------------------------------------------------------- any booster


def trained(rounds: int = 25, columns: int = 6, label: str = "yes or no", **parameters: Any) -> Any:
    """A booster of columns with holes, the second with few values, the last one never there."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(600, columns)).astype(np.float32)
    rows[:, min(1, columns - 1)] = random.integers(0, 3, 600)
    signal = rows[:, 0] + np.sin(3 * rows[:, -2 if columns > 2 else 0]) * rows[:, columns // 2]
    rows[random.random(rows.shape) < 0.25] = np.nan
    if columns > 2:
        rows[:, -1] = np.nan
    labels = {
        "yes or no": signal + random.normal(size=600) > 0.5,
        "number": 50 + 10 * signal,
        "class": np.digitize(signal, [-0.5, 0.5]),
        "two numbers": np.column_stack([signal, -signal]),
    }
    given = {"objective": "binary:logistic", "nthread": 1, "seed": 1} | parameters
    if given.get("booster") != "gblinear":
        given = {"max_depth": 3} | given
    types = ["c" if given.get("max_cat_to_onehot") and n == 1 else "q" for n in range(columns)]
    matrix = xgboost.DMatrix(
        rows, labels[label], nthread=1, feature_types=types, enable_categorical=True
    )
    booster = xgboost.train(given, matrix, rounds)
    return load_booster(bytes(booster.save_raw("ubj")))


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_depth": 1},
        {"max_depth": 2, "learning_rate": 0.9},
        {"max_depth": 4, "rounds": 80},
        {"max_depth": 6, "rounds": 3},
        {"max_depth": 0, "max_leaves": 7, "grow_policy": "lossguide", "tree_method": "hist"},
        {"tree_method": "exact"},
        {"tree_method": "approx"},
        {"num_parallel_tree": 3, "subsample": 0.5, "rounds": 9},
        {"base_score": 0.03},
        {"objective": "reg:squarederror", "label": "number"},
        {"objective": "reg:gamma", "label": "number", "max_delta_step": 0.5},
        {"gamma": 25.0, "rounds": 12},
        {"gamma": 1e9, "rounds": 3},
        {"columns": 1},
        {"columns": 2},
        {"columns": 40, "rounds": 60, "colsample_bytree": 0.3},
        {"rounds": 1},
        {"monotone_constraints": "(1,0,0,0,0,0)"},
    ],
    ids=str,
)
def test_any_sum_of_trees_is_looked_up_with_the_bits_of_xgboost(parameters: dict[str, Any]) -> None:
    booster = trained(**parameters)
    found = tabulate(booster)
    assert found is not None
    assert_the_same_bits(found, booster, rows_for(found, 600))


def test_of_trees_without_a_split_only_the_margin_is_left() -> None:
    booster = trained(gamma=1e9, rounds=3)
    found = tabulate(booster)
    assert found is not None
    assert found.answers.shape == (4, 7)
    assert not found.answers[:, :-1].any()


@pytest.mark.parametrize(
    "parameters",
    [
        {"booster": "gblinear", "updater": "coord_descent"},
        {"booster": "dart", "rate_drop": 0.5},
        {"objective": "multi:softprob", "num_class": 3, "label": "class"},
        {
            "objective": "reg:squarederror",
            "label": "two numbers",
            "multi_strategy": "multi_output_tree",
        },
        {"objective": "reg:squarederror", "label": "two numbers"},
        {"max_cat_to_onehot": 1, "max_depth": 5, "tree_method": "hist"},
        {"max_depth": 12, "min_child_weight": 0, "rounds": 30},
        {"rounds": 0},
    ],
    ids=[
        "linear",
        "dropout",
        "classes",
        "trees of vectors",
        "targets",
        "categories",
        "deep trees",
        "no trees",
    ],
)
def test_what_tables_cannot_hold_is_left_to_xgboost(parameters: dict[str, Any]) -> None:
    assert tabulate(trained(**parameters)) is None


def test_a_threshold_at_the_end_of_32_bits_is_left_to_xgboost() -> None:
    booster = trained(rounds=1, max_depth=1)
    raw = json.loads(bytes(booster.save_raw("json")))
    tree = raw["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["split_conditions"][0] = -3.4e38
    assert tabulate(load_booster(json.dumps(raw).encode())) is None


# ------------------------------------------------------------------------------------ at loading


@pytest.mark.parametrize(("limit", "most"), [("MOST_ANSWERS", 50_000), ("MOST_CELLS", 1_000_000)])
def test_a_model_of_too_many_answers_loads_and_is_computed_by_xgboost(
    shipped: Model, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(tables, limit, most)
    model = load_model(SHIPPED)
    assert model.tables is None
    values = {"age": 61, "glucose": 121}
    assert score(model, values) == score(shipped, values)


def changed(change: Callable[[Tables], Tables]) -> Callable[[Booster], Tables]:
    def tabulated(booster: Booster) -> Tables:
        found = tabulate(booster)
        assert found is not None
        return change(found)

    return tabulated


@pytest.mark.parametrize(
    ("column", "error", "named"),
    [(2, 0.001, "baseline, glucose"), (2, np.nan, "baseline, glucose"), (-1, 0.001, "baseline")],
)
def test_tables_that_say_something_else_than_xgboost_are_refused(
    monkeypatch: pytest.MonkeyPatch, column: int, error: float, named: str
) -> None:
    def wrong(found: Tables) -> Tables:
        answers = found.answers.copy()
        answers[0, column] += error
        return replace(found, answers=answers)

    monkeypatch.setattr(scoring, "tabulate", changed(wrong))
    with pytest.raises(ArtifactError) as caught:
        load_model(SHIPPED)
    assert caught.value.file == "golden_scores.json"
    first = shipped_json("golden_scores.json")["cases"][0]["name"]
    expected = f"case {first!r} has another {named} in tables than of XGBoost"
    assert caught.value.problem == expected
    assert "xgboost version" in caught.value.remedy


def test_tables_that_only_round_otherwise_are_not_used(
    shipped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replayed assessment is compared with what is stored, bit by bit."""

    def rounded(found: Tables) -> Tables:
        answers = found.answers.copy()
        answers[0, -1] = np.nextafter(answers[0, -1], np.float32(0))
        return replace(found, answers=answers)

    monkeypatch.setattr(scoring, "tabulate", changed(rounded))
    model = load_model(SHIPPED)
    assert model.tables is None
    values = {"age": 61, "glucose": 121}
    assert score(model, values) == score(shipped, values)


def test_an_artifact_of_deep_trees_loads_and_scores(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    shutil.copytree(SHIPPED, folder)
    names = [f.name for f in load_model(SHIPPED).manifest.features]
    booster = trained(columns=len(names), max_depth=14, min_child_weight=0, rounds=20)
    booster.feature_names = names
    booster.feature_types = None
    values = {"age": 61.0, "glucose": 121.0}
    row = np.array([[values.get(name, np.nan) for name in names]], dtype=np.float32)
    margins, _ = margins_and_shap_values(booster, row)
    probability = float(1 / (1 + np.exp(-margins[0])))
    files = {
        "model.ubj": bytes(booster.save_raw("ubj")),
        "calibration.json": b'{"method": "identity"}',
        "golden_scores.json": json.dumps(
            {"cases": [{"name": "one", "values": values, "probability": probability}]}
        ).encode(),
    }
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, content in files.items():
        (folder / name).write_bytes(content)
        digest = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest["files"][name] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    model = load_model(folder)
    assert model.tables is None
    estimate = score(model, values)
    assert isinstance(estimate, RiskEstimate)
    assert estimate.probability == pytest.approx(probability, abs=1e-12)
    assert {c.feature for c in estimate.contributions} == set(names)
