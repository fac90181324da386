"""Preprocessing: what is exported of scikit-learn's pipeline does what the pipeline does."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import work
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from risk_model import (
    ArtifactError,
    InsufficientData,
    RiskEstimate,
    load_model,
    parse_preprocessing,
    preprocess_rows,
    score,
)
from tests.manifests import raw_manifest

Floats = npt.NDArray[np.float64]
FEATURES = ["age", "sex", "body_mass_index", "glucose", "hdl_cholesterol"]
NUMBERS = [0, 2, 3, 4]
CODES = [0.0, 1.0]


def people(seed: int, count: int = 400) -> Floats:
    """Correlated values, a good third of them absent; age always known."""
    random = np.random.default_rng(seed)
    age = random.uniform(18, 90, count)
    bmi = 22 + 0.05 * age + random.normal(0, 4, count)
    glucose = 70 + 0.4 * age + 0.8 * (bmi - 25) + random.normal(0, 12, count)
    hdl = 70 - 0.6 * (bmi - 25) + random.normal(0, 9, count)
    rows = np.column_stack([age, random.integers(0, 2, count), bmi, glucose, hdl])
    # Age, the first, stays.
    rows[:, 1:][random.random((count, 4)) < 0.35] = np.nan
    return rows


def numeric(name: str, center: float = 0.0, scale: float = 1.0) -> dict[str, Any]:
    return {"name": name, "feature": name, "center": center, "scale": scale}


def one_hot(feature: str, value: float) -> dict[str, Any]:
    return {"name": f"{feature}={value:g}", "feature": feature, "equals": value}


def as_they_are() -> list[dict[str, Any]]:
    return [numeric(name) for name in FEATURES]


def fitted_chain(rows: Floats) -> tuple[Any, dict[str, Any]]:
    """An IterativeImputer, and the same as `imputation` of preprocessing.json."""
    imputer = IterativeImputer(
        BayesianRidge(),
        sample_posterior=False,
        initial_strategy="median",
        max_iter=4,
        tol=0,
        min_value=[18, -np.inf, 10, 20, 2],
        max_value=[120, np.inf, 120, 1500, 250],
        random_state=3,
    ).fit(rows)
    steps = [
        {
            "feature": FEATURES[triplet.feat_idx],
            "intercept": float(triplet.estimator.intercept_),
            "coefficients": {
                FEATURES[k]: float(c)
                for k, c in zip(triplet.neighbor_feat_idx, triplet.estimator.coef_, strict=True)
            },
            "low": None if triplet.feat_idx == 1 else float(imputer._min_value[triplet.feat_idx]),
            "high": None if triplet.feat_idx == 1 else float(imputer._max_value[triplet.feat_idx]),
        }
        for triplet in imputer.imputation_sequence_
    ]
    start = dict(zip(FEATURES, imputer.initial_imputer_.statistics_.tolist(), strict=True))
    return imputer, {"method": "chained", "start": start, "steps": steps}


@pytest.fixture(scope="module")
def chain() -> tuple[Any, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "stopping criterion not reached": tol is 0
        return fitted_chain(people(1))


def median_pipeline(rows: Floats) -> tuple[Any, dict[str, Any]]:
    """A ColumnTransformer, and the same as preprocessing.json."""
    transformer = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            (
                "codes",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False)
                ),
                [1],
            ),
        ]
    ).fit(rows)
    simple, scaler = transformer.named_transformers_["numbers"]
    frequent = transformer.named_transformers_["codes"][0]
    names = [FEATURES[k] for k in NUMBERS]
    values = dict(zip(names, simple.statistics_.tolist(), strict=True))
    columns = [
        numeric(name, center, scale)
        for name, center, scale in zip(
            names, scaler.mean_.tolist(), scaler.scale_.tolist(), strict=True
        )
    ]
    return transformer, {
        "imputation": {
            "method": "median",
            "values": values | {"sex": float(frequent.statistics_[0])},
        },
        "columns": [*columns, *(one_hot("sex", code) for code in CODES)],
    }


def test_medians_scaling_and_one_hot_are_scikit_learns() -> None:
    transformer, raw = median_pipeline(people(1))
    own = parse_preprocessing(raw, FEATURES)
    fresh = people(2)
    assert preprocess_rows(own, fresh) == pytest.approx(transformer.transform(fresh), abs=1e-9)


def test_chained_imputation_is_scikit_learns(chain: tuple[Any, dict[str, Any]]) -> None:
    imputer, imputation = chain
    own = parse_preprocessing({"imputation": imputation, "columns": as_they_are()}, FEATURES)
    fresh = people(2)
    assert preprocess_rows(own, fresh) == pytest.approx(imputer.transform(fresh), abs=1e-9)


def test_a_chained_value_stays_inside_its_bounds(chain: tuple[Any, dict[str, Any]]) -> None:
    imputation = json.loads(json.dumps(chain[1]))
    for step in imputation["steps"]:
        if step["feature"] == "glucose":
            step["high"] = 90.0
    own = parse_preprocessing({"imputation": imputation, "columns": as_they_are()}, FEATURES)
    fresh = people(2)
    absent = np.isnan(fresh[:, 3])
    filled = preprocess_rows(own, fresh)[:, 3]
    assert filled[absent].max() == 90.0
    assert (filled[~absent] == fresh[~absent, 3]).all()


def test_a_row_alone_is_what_it_is_among_others(chain: tuple[Any, dict[str, Any]]) -> None:
    raw = {"imputation": chain[1], "columns": median_pipeline(people(1))[1]["columns"]}
    own = parse_preprocessing(raw, FEATURES)
    fresh = people(2)
    together = preprocess_rows(own, fresh)
    alone = np.vstack([preprocess_rows(own, row[None, :]) for row in fresh])
    assert (together == alone).all()


def test_without_imputation_an_absent_feature_is_absent_in_each_of_its_columns() -> None:
    raw = {
        "imputation": {"method": "native"},
        "columns": [one_hot("sex", 1.0), numeric("glucose", 100, 20), one_hot("sex", 0.0)],
    }
    own = parse_preprocessing(raw, ["sex", "glucose"])
    rows = np.array([[1.0, 140.0], [np.nan, 90.0], [0.0, np.nan]])
    expected = [[1.0, 2.0, 0.0], [math.nan, -0.5, math.nan], [0.0, math.nan, 1.0]]
    assert preprocess_rows(own, rows) == pytest.approx(np.array(expected), nan_ok=True)


def test_where_others_are_imputed_an_unknown_category_is_none_of_them() -> None:
    raw = {
        "imputation": {"method": "median", "values": {"glucose": 99.0}},
        "columns": [one_hot("sex", 1.0), one_hot("sex", 0.0), numeric("glucose")],
    }
    own = parse_preprocessing(raw, ["sex", "glucose"])
    assert preprocess_rows(own, np.array([[np.nan, np.nan]])).tolist() == [[0.0, 0.0, 99.0]]


def test_the_rows_given_are_left_as_they_were(chain: tuple[Any, dict[str, Any]]) -> None:
    own = parse_preprocessing({"imputation": chain[1], "columns": as_they_are()}, FEATURES)
    given = people(2)
    preprocess_rows(own, given)
    assert np.array_equal(given, people(2), equal_nan=True)


# ------------------------------------------------------------------------------ as an artifact


def publish(
    folder: Path, preprocessing: dict[str, Any] | None, booster: Any, golden: list[dict[str, Any]]
) -> Path:
    contents = {
        "model.ubj": bytes(booster.save_raw("ubj")),
        "calibration.json": b'{"method": "beta", "a": 1.2, "b": 0.7, "c": -0.3}',
        "golden_scores.json": json.dumps({"cases": golden}).encode(),
    }
    if preprocessing is not None:
        contents["preprocessing.json"] = json.dumps(preprocessing).encode()
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in contents.items()
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(raw_manifest(files=files)))
    return folder


def trained(columns: Floats, names: list[str]) -> Any:
    random = np.random.default_rng(5)
    came = random.random(len(columns)) < expit(np.nan_to_num(columns[:, 0]))
    matrix = xgboost.DMatrix(columns.astype(np.float32), label=came, feature_names=names, nthread=1)
    parameters = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 1}
    return xgboost.train(parameters, matrix, num_boost_round=30)


def calibrated(margins: Floats) -> Floats:
    p = expit(margins)
    return np.asarray(expit(1.2 * np.log(p) - 0.7 * np.log1p(-p) - 0.3))


def values_of(row: Floats) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in zip(FEATURES, row, strict=True)
        if not math.isnan(value)
    }


def golden_of(rows: Floats, probabilities: Floats) -> list[dict[str, Any]]:
    return [
        {"name": f"person {n}", "values": values_of(row), "probability": float(probability)}
        for n, (row, probability) in enumerate(zip(rows, probabilities, strict=True))
        if not (math.isnan(row[2]) and math.isnan(row[3]))
    ]


def artifact_of_pipeline(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """What scikit-learn and XGBoost trained, exported; golden scores by their own predictions."""
    transformer, raw = median_pipeline(people(1))
    names = [column["name"] for column in raw["columns"]]
    booster = trained(transformer.transform(people(1)), names)
    fresh = people(2, 60)
    matrix = xgboost.DMatrix(
        transformer.transform(fresh).astype(np.float32), feature_names=names, nthread=1
    )
    golden = golden_of(fresh, calibrated(booster.predict(matrix, output_margin=True)))
    return publish(folder, raw, booster, golden), golden


def test_the_exported_artifact_scores_as_the_pipeline_that_was_trained(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    model = load_model(folder)
    assert len(golden) > 40
    for case in golden:
        got = score(model, case["values"])
        assert isinstance(got, RiskEstimate)
        assert got.probability == pytest.approx(case["probability"], abs=1e-6)


def test_one_hot_columns_are_explained_as_the_feature_that_they_come_from(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    model = load_model(folder)
    for case in golden:
        got = score(model, case["values"])
        assert isinstance(got, RiskEstimate)
        assert sorted(entry.feature for entry in got.contributions) == sorted(FEATURES)
        total = got.baseline + sum(entry.log_odds for entry in got.contributions)
        log_odds = math.log(got.probability / (1 - got.probability))
        assert total == pytest.approx(log_odds, abs=1e-9)


def test_shares_of_several_columns_are_added_up(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    model = load_model(folder)
    transformer, raw = median_pipeline(people(1))
    row = np.array([[case_value(golden[0], name) for name in FEATURES]])
    columns = [column["feature"] for column in raw["columns"]]
    matrix = xgboost.DMatrix(
        transformer.transform(row).astype(np.float32),
        feature_names=[column["name"] for column in raw["columns"]],
        nthread=1,
    )
    shares = model.booster.predict(matrix, pred_contribs=True)[0]
    scale = model.calibration.scale(float(shares.sum()), float(shares[-1]))
    got = score(model, golden[0]["values"])
    assert isinstance(got, RiskEstimate)
    for entry in got.contributions:
        own = sum(
            float(share)
            for share, name in zip(shares, columns, strict=False)
            if name == entry.feature
        )
        assert entry.log_odds == pytest.approx(scale * own, abs=1e-5)


def case_value(case: dict[str, Any], name: str) -> float:
    return float(case["values"].get(name, math.nan))


def test_columns_that_are_the_features_cost_nothing_and_change_nothing(tmp_path: Path) -> None:
    rows = people(1)
    booster = trained(rows, FEATURES)
    matrix = xgboost.DMatrix(rows.astype(np.float32), feature_names=FEATURES, nthread=1)
    golden = golden_of(rows, calibrated(booster.predict(matrix, output_margin=True)))[:20]
    plain, spelled_out = tmp_path / "plain", tmp_path / "spelled out"
    plain.mkdir()
    spelled_out.mkdir()
    raw = {"imputation": {"method": "native"}, "columns": as_they_are()}
    one = load_model(publish(plain, None, booster, golden))
    other = load_model(publish(spelled_out, raw, booster, golden))
    assert one.preprocessing is None
    assert other.preprocessing is None
    assert [score(one, case["values"]) for case in golden] == [
        score(other, case["values"]) for case in golden
    ]


def test_a_model_that_imputes_still_asks_for_what_it_requires(tmp_path: Path) -> None:
    folder, _ = artifact_of_pipeline(tmp_path)
    assert score(load_model(folder), {"sex": 1}) == InsufficientData(
        missing=("age",), groups=(("glucose", "body_mass_index"),)
    )


def test_columns_other_than_the_boosters_are_refused(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    raw = json.loads((folder / "preprocessing.json").read_text())
    raw["columns"].reverse()
    booster = xgboost.Booster(model_file=folder / "model.ubj")
    with pytest.raises(ArtifactError, match=r"preprocessing\.json says") as caught:
        load_model(publish(folder, raw, booster, golden))
    assert caught.value.file == "model.ubj"


def test_another_median_is_noticed_by_the_golden_scores(tmp_path: Path) -> None:
    folder, golden = artifact_of_pipeline(tmp_path)
    raw = json.loads((folder / "preprocessing.json").read_text())
    raw["imputation"]["values"]["glucose"] += 40
    booster = xgboost.Booster(model_file=folder / "model.ubj")
    with pytest.raises(ArtifactError) as caught:
        load_model(publish(folder, raw, booster, golden))
    assert caught.value.file == "golden_scores.json"


def with_column(**change: Any) -> dict[str, Any]:
    column = {name: value for name, value in (numeric("b") | change).items() if value != "left out"}
    return {"imputation": {"method": "native"}, "columns": [numeric("a"), column]}


def with_step(start: Any = None, **change: Any) -> dict[str, Any]:
    step = {"feature": "b", "intercept": 1, "coefficients": {"a": 2}, "low": 0, "high": 9}
    kept = {name: value for name, value in (step | change).items() if value != "left out"}
    known = {"a": 1, "b": 2} if start is None else start
    return {
        "imputation": {"method": "chained", "start": known, "steps": [kept]},
        "columns": [numeric("a"), numeric("b")],
    }


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "the file is [], not an object"),
        ({}, "the file lacks columns, imputation"),
        ({"imputation": {"method": "native"}}, "the file lacks columns"),
        (with_column() | {"version": 2}, "the file has version, which this version"),
        (with_column() | {"imputation": {}}, "imputation method is None, none of"),
        (with_column() | {"imputation": "native"}, "imputation method is None"),
        (with_column() | {"imputation": {"method": "mice"}}, "imputation method is 'mice'"),
        (
            with_column() | {"imputation": {"method": "native", "values": {}}},
            "imputation has values, which this version does not know",
        ),
        (with_column() | {"imputation": {"method": "median"}}, "imputation lacks values"),
        (
            with_column() | {"imputation": {"method": "median", "values": {"waist": 3}}},
            "values names waist, no features",
        ),
        (
            with_column() | {"imputation": {"method": "median", "values": {"a": None}}},
            "values: a is None, not a finite number",
        ),
        (with_column() | {"imputation": {"method": "median", "values": 3}}, "values is 3"),
        (with_column() | {"columns": {}}, "columns is {}, not a list"),
        (with_column() | {"columns": []}, "no column reads a, b"),
        (with_column() | {"columns": [numeric("a")]}, "no column reads b"),
        (with_column() | {"columns": [3]}, "columns[0] is 3, not an object"),
        (with_column(name="a"), "two columns share a name"),
        (with_column(name=7), "columns[1]: name is 7"),
        (with_column(feature="waist"), "columns[1]: feature is 'waist', no feature"),
        (with_column(feature=["b"]), "columns[1]: feature is ['b'], no feature"),
        (with_column(scale=0), "columns[1]: scale 0.0 is not above 0"),
        (with_column(scale=math.inf), "columns[1]: scale is inf"),
        (with_column(center="5"), "columns[1]: center is '5'"),
        (with_column(center="left out"), "columns[1] lacks center"),
        (with_column(equals=1), "columns[1] has center, scale, which"),
        (with_column(equals=None, center="left out", scale="left out"), "equals is None"),
        (with_column(log=True), "columns[1] has log, which"),
        (with_step(low="left out"), "steps[0] lacks low"),
        (with_step(low=10), "steps[0]: low 10.0 is above high 9.0"),
        (with_step(feature="waist"), "steps[0]: feature is 'waist'"),
        (with_step(coefficients={"waist": 1}), "steps[0]: coefficients names waist"),
        (with_step(coefficients={"b": 1}), "steps[0]: b predicts itself"),
        (with_step(coefficients={"a": math.nan}), "steps[0]: coefficients: a is nan"),
        (with_step(intercept=None), "steps[0]: intercept is None"),
        (with_step(start={"b": 2}), "steps[0]: start lacks a"),
        (with_step(start={"a": 2}), "steps[0]: start lacks b"),
    ],
)
def test_preprocessing_that_cannot_be_used_says_why(raw: Any, words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_preprocessing(raw, ["a", "b"])
    assert caught.value.file == "preprocessing.json"
    assert words in caught.value.problem
    assert "Train the model again" in caught.value.remedy
