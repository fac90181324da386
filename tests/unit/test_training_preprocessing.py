"""What was fitted with scikit-learn and XGBoost is what is served without scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import risk_model
from model_training.calibration import Rows, fit_calibration
from model_training.dataset import DEVELOPMENT, TEST, Dataset, DatasetError, Part, Silent
from model_training.evaluation import evaluate
from model_training.export import Calibrated, manifest_of, model_files
from model_training.fitting import Fitted, fit_model, settings_from
from model_training.masking import WeightedRows
from model_training.pipeline import data_section
from model_training.preprocessing import IMPUTATIONS, Preprocessor, fit_preprocessor
from model_training.publish import seal
from model_training.recipe import Recipe
from model_training.sample import Sample, Values, as_values, sample_from
from model_training.thresholds import Cuts
from risk_model import parse_preprocessing, preprocess_rows
from tests.artifacts import write_artifact
from tests.people import PERIODS, made_up_people, made_up_sample, small_recipe

CALIBRATIONS = ("none", "sigmoid", "beta", "isotonic")
CUTS = Cuts(moderate=0.2, high=0.5)


@cache
def fitted_on_gaps(imputation: str, *, one_hot: bool) -> tuple[Preprocessor, Values, Recipe]:
    """A preprocessor, and rows it has not seen: with gaps, one of them with nothing known."""
    recipe = small_recipe(one_hot=one_hot)
    learned = made_up_sample(recipe, 300, missing=0.3)
    rows = made_up_sample(recipe, 80, seed=2, missing=0.4).values
    rows[0] = np.nan
    made = fit_preprocessor(learned.values, recipe, imputation, recipe.raw["preprocessing"])
    return made, rows, recipe


def exported(preprocessor: Preprocessor, rows: Values, recipe: Recipe) -> Any:
    parsed = parse_preprocessing(json.loads(json.dumps(preprocessor.export())), recipe.columns)
    assert list(parsed.column_names) == preprocessor.columns
    return preprocess_rows(parsed, rows.astype(np.float64))


def as_entered(rows: Values, recipe: Recipe) -> Any:
    """As the service is given them: decimal numbers in double precision."""
    entered = [as_values(row, recipe) for row in rows]
    return np.array([[row.get(name, np.nan) for name in recipe.columns] for row in entered])


@pytest.mark.parametrize("one_hot", [False, True], ids=["numbers", "with-categories"])
@pytest.mark.parametrize("imputation", IMPUTATIONS)
def test_exported_preprocessing_is_the_fitted_one(imputation: str, one_hot: bool) -> None:
    preprocessor, rows, recipe = fitted_on_gaps(imputation, one_hot=one_hot)
    if preprocessor.export() is None:
        assert imputation == "native"
        assert np.array_equal(preprocessor.transform(rows), rows, equal_nan=True)
        return
    exact = as_entered(rows, recipe)
    served = exported(preprocessor, exact, recipe)
    # scikit-learn itself knows no unknown category: those are compared below.
    told = ~np.isnan(served)
    assert_allclose(
        served[told], preprocessor.transformer.transform(exact)[told], rtol=0, atol=1e-9
    )
    # The trees read single precision, and read the very same numbers.
    assert np.array_equal(served.astype(np.float32), preprocessor.transform(rows), equal_nan=True)


def test_only_features_that_are_columns_as_they_are_need_no_file() -> None:
    for imputation in IMPUTATIONS:
        for one_hot in (False, True):
            preprocessor, _, _ = fitted_on_gaps(imputation, one_hot=one_hot)
            needless = imputation == "native" and not one_hot
            assert (preprocessor.export() is None) == needless


def test_an_unknown_category_is_unknown_to_native_trees_and_none_of_them_to_others() -> None:
    for imputation in IMPUTATIONS:
        preprocessor, rows, _ = fitted_on_gaps(imputation, one_hot=True)
        made = preprocessor.transform(rows[:1])[0]
        indicators = [n for n, name in enumerate(preprocessor.columns) if "=" in name]
        assert len(indicators) == 3
        if imputation == "native":
            assert np.isnan(made).all()
        else:
            assert made[indicators].tolist() == [0, 0, 0]
            assert not np.isnan(made).any()


def test_each_category_has_a_column_that_says_whether_it_is_this_one() -> None:
    preprocessor, rows, recipe = fitted_on_gaps("native", one_hot=True)
    codes = rows[:, recipe.columns.index("admission_type")]
    made = preprocessor.transform(rows)
    for code, title in enumerate(("ELECTIVE", "URGENT", "EMERGENCY")):
        column = made[:, preprocessor.columns.index(f"admission_type={title}")]
        assert (column[codes == code] == 1).all()
        assert (column[~np.isnan(codes) & (codes != code)] == 0).all()
        assert np.isnan(column[np.isnan(codes)]).all()


def test_signs_follow_their_columns() -> None:
    preprocessor, _, _ = fitted_on_gaps("native", one_hot=True)
    signs = dict(zip(preprocessor.columns, preprocessor.monotone, strict=True))
    assert signs == {
        "age": 1,
        "sex": 0,
        "glucose": 1,
        "body_mass_index": 1,
        "creatinine": 0,
        **{f"admission_type={title}": 0 for title in ("ELECTIVE", "URGENT", "EMERGENCY")},
    }


def test_scaled_columns_have_mean_nought_and_spread_one_in_the_people_fitted_on() -> None:
    recipe = small_recipe()
    values = made_up_sample(recipe, 300).values
    made = fit_preprocessor(values, recipe, "median", recipe.raw["preprocessing"])
    columns = made.transform(values)
    assert columns.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-5)
    assert columns.std(axis=0) == pytest.approx(np.ones(5), abs=1e-5)


def test_draws_share_the_weight_of_a_row_and_differ_only_where_it_has_gaps() -> None:
    preprocessor, rows, _ = fitted_on_gaps("mice", one_hot=False)
    n = len(rows)
    given = WeightedRows(values=rows, events=np.arange(n) % 2, weights=np.arange(1.0, n + 1))
    made = preprocessor.rows_to_fit(given)
    assert made.weights.reshape(2, n).sum(axis=0) == pytest.approx(given.weights)
    assert made.events.reshape(2, n).tolist() == [given.events.tolist()] * 2
    one, other = (
        draw.named_transformers_["numeric"].named_steps["scale"].inverse_transform(values)
        for draw, values in zip(preprocessor.draws, made.values.reshape(2, n, -1), strict=True)
    )
    absent = np.isnan(rows)
    assert_allclose(one[~absent], rows[~absent], rtol=1e-5, atol=1e-4)
    assert_allclose(other[~absent], rows[~absent], rtol=1e-5, atol=1e-4)
    assert np.abs(one[absent] - other[absent]).mean() > 0.1


def test_chained_imputation_knows_more_than_the_median() -> None:
    """Where BMI is nearly told by glucose, the chained value is near it and the median is not."""
    recipe = small_recipe()
    table = made_up_people(300)
    table["body_mass_index"] = (10 + table["glucose"] / 5).round(1)
    values = sample_from(table, recipe).values
    at = recipe.columns.index("body_mass_index")
    gaps = values.copy()
    gaps[:50, at] = np.nan
    off = {}
    for method in ("median", "mice"):
        made = fit_preprocessor(gaps, recipe, method, recipe.raw["preprocessing"])
        parsed = parse_preprocessing(made.export(), recipe.columns)
        raw = preprocess_rows(parsed, gaps.astype(np.float64)) * parsed.scale + parsed.center
        off[method] = float(np.abs(raw[:50, at] - values[:50, at]).mean())
    assert off["mice"] < 0.2 < 2 < off["median"]


def test_medians_are_exported_as_somebody_might_have_written_them() -> None:
    """27.3, not the single-precision number nearest to it."""
    preprocessor, _, recipe = fitted_on_gaps("median", one_hot=False)
    exported_values = (preprocessor.export() or {})["imputation"]["values"]
    for feature in recipe.features:
        # Of an even number of people it may lie halfway between two of them.
        twice = 2 * exported_values[feature.name]
        assert twice == pytest.approx(round(twice, feature.decimals), abs=1e-12)


def test_a_method_that_does_not_exist_is_named() -> None:
    recipe = small_recipe()
    with pytest.raises(DatasetError, match="'knn' is none of native, median, mice"):
        fit_preprocessor(made_up_sample(recipe, 20).values, recipe, "knn", {})


def test_a_feature_that_nobody_has_is_no_obstacle() -> None:
    recipe = small_recipe()
    values = made_up_sample(recipe, 60).values
    values[:, recipe.columns.index("creatinine")] = np.nan
    for imputation in IMPUTATIONS:
        made = fit_preprocessor(values, recipe, imputation, recipe.raw["preprocessing"])
        if imputation != "native":
            assert_allclose(exported(made, values, recipe), made.transform(values), atol=1e-5)


# ------------------------------------------------------------------------- the whole artifact


@cache
def people_of(*, one_hot: bool) -> tuple[Recipe, Sample, Sample]:
    recipe = small_recipe(one_hot=one_hot)
    learned = made_up_sample(recipe, 400, missing=0.2)
    return recipe, learned, made_up_sample(recipe, 150, seed=2, missing=0.3)


@cache
def fitted_with(imputation: str) -> Fitted:
    recipe, learned, _ = people_of(one_hot=True)
    return fit_model(learned, settings_from(recipe, imputation=imputation), recipe)


def trained(imputation: str, calibration: str) -> Calibrated:
    _, learned, _ = people_of(one_hot=True)
    fitted = fitted_with(imputation)
    margins = fitted.margins(learned.values)
    rows = Rows(margins=margins, events=learned.events.astype(float), weights=learned.weights)
    return Calibrated(
        fitted=fitted, calibration=fit_calibration(rows, calibration), cuts=CUTS, prevalence=0.2
    )


@cache
def manifest() -> dict[str, Any]:
    recipe, _, test = people_of(one_hot=True)
    table = made_up_people(150, seed=2, missing=0.3)
    part = Part(periods=PERIODS, people=table, flow=())
    dataset = Dataset(
        source="made-up", description="Nobody.", parts={DEVELOPMENT: part, TEST: part}
    )
    model = trained("native", "sigmoid")
    measured = evaluate(model.predict, test, recipe, CUTS, Silent())
    report = {"data": data_section(dataset, recipe), "test": measured.test}
    return manifest_of(model, dataset, report, recipe)


def saved(folder: Path, model: Calibrated) -> Path:
    recipe, learned, _ = people_of(one_hot=True)
    return write_artifact(folder, seal(model_files(model, learned, recipe), manifest()))


def answered(model: risk_model.Model, values: Values, recipe: Recipe) -> list[float]:
    """The probability of each row on which the service gives one; NaN for the others."""
    answers = [risk_model.score(model, as_values(row, recipe)) for row in values]
    return [
        answer.probability if isinstance(answer, risk_model.RiskEstimate) else np.nan
        for answer in answers
    ]


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("imputation", IMPUTATIONS)
def test_the_service_answers_what_the_trained_model_predicts(
    imputation: str, calibration: str, tmp_path: Path
) -> None:
    """Also at values that are cuts of the trees: people fitted on are scored, too."""
    recipe, learned, unseen = people_of(one_hot=True)
    model = trained(imputation, calibration)
    served = risk_model.load_model(saved(tmp_path, model))
    values = np.vstack([unseen.values, learned.values[:150]])
    got, expected = np.array(answered(served, values, recipe)), model.predict(values)
    known = ~np.isnan(got)
    assert known.mean() > 0.8
    assert_allclose(got[known], expected[known], rtol=0, atol=1e-6)


def test_the_exported_artifact_serves_without_scikit_learn(tmp_path: Path) -> None:
    recipe, _, unseen = people_of(one_hot=True)
    model = trained("mice", "beta")
    row = next(r for r in unseen.values if np.isnan(r).any() and not np.isnan(r[:4]).any())
    # None in sys.modules is a module that is not installed.
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['sklearn', 'pandas', 'model_training']))\n"
        "import json, pathlib, risk_model\n"
        "model = risk_model.load_model(pathlib.Path(sys.argv[1]))\n"
        "print(risk_model.score(model, json.loads(sys.argv[2])).probability)\n"
    )
    given = (str(saved(tmp_path, model)), json.dumps(as_values(row, recipe)))
    done = subprocess.run(
        [sys.executable, "-c", program, *given],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert float(done.stdout) == pytest.approx(float(model.predict(row[None, :])[0]), abs=1e-6)
