"""`cds-service evaluate`: a published model, as the service scores, on people of elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from model_training.artifact import read_artifact
from model_training.as_served import recipe_of, service_predict, without_figure
from model_training.commands.evaluate_cli import evaluate
from model_training.comparison import auroc
from model_training.dataset import DatasetError
from model_training.outside import recipe_inside
from model_training.predictions import read_predictions
from model_training.recipe import Recipe, load_recipe
from model_training.sample import as_values
from model_training.sources.fhir_writer import write_nhanes_as_fhir
from model_training.sources.nhanes import read_cycle
from risk_model import Model, RiskEstimate, load_model, score
from tests.artifacts import SHIPPED, artifact_files, write_artifact
from tests.nhanes import cycle, write_cycle

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
NAME = "diabetes-undiagnosed"
RECIPE = Path(__file__).parents[2] / "model_training" / "recipes" / "diabetes_undiagnosed.toml"
YEARS = "2017-2020"
PEOPLE = 240

# As `cds-service` adds it.
program = typer.Typer()
program.add_typer(evaluate, name="evaluate")


@program.command()
def other() -> None:
    """A program of one command would not ask for its name."""


def said(*arguments: str | Path, code: int = 0) -> str:
    done = RUNNER.invoke(program, ["evaluate", *(str(argument) for argument in arguments)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def quick_recipe() -> bytes:
    """The shipped recipe with few replicates: intervals are not what is tested here."""
    text = RECIPE.read_text(encoding="utf-8")
    for slow, quick in (
        ("\nreplicates = 1000", "\nreplicates = 20"),
        ("fitted_replicates = 300", "fitted_replicates = 3"),
    ):
        assert slow in text
        text = text.replace(slow, quick)
    return text.encode()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9.0.0 is the shipped model with a recipe; 1.0.0 has none, as it was published."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, artifact_files(version="1.0.0"))
    write_artifact(folder, artifact_files(version="9.0.0", more={"recipe.toml": quick_recipe()}))
    return folder


@pytest.fixture(scope="module")
def nhanes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up people of a cycle that the model has not seen; the outcome follows glucose."""
    folder = tmp_path_factory.mktemp("data") / "nhanes"
    folder.mkdir()
    chance = np.random.default_rng(1)
    glucose = np.round(chance.normal(105, 18, PEOPLE))
    hba1c = np.round(5.4 + (glucose - 100) / 35 + chance.normal(0, 0.3, PEOPLE), 1)
    columns = {
        "RIDAGEYR": chance.integers(20, 80, PEOPLE),
        "RIAGENDR": chance.integers(1, 3, PEOPLE),
        "RIDRETH3": chance.choice([1, 2, 3, 4, 6, 7], PEOPLE),
        "SDMVSTRA": np.arange(PEOPLE) % 5 + 1,
        "SDMVPSU": np.arange(PEOPLE) // 5 % 2 + 1,
        "BMXBMI": np.round(chance.normal(29, 5, PEOPLE), 1),
        "LBXSGL": glucose,
        "LBXGH": hba1c,
    }
    write_cycle(folder, YEARS, PEOPLE, **{name: list(row) for name, row in columns.items()})
    return folder


@pytest.fixture(scope="module")
def evaluation(models: Path, nhanes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "evaluation"
    text = said(
        *(f"{NAME}/9.0.0", "--models", models, "--source", "nhanes"),
        *("--data", nhanes.parent, "--cycle", YEARS, "--out", out),
    )
    assert f"{NAME}/9.0.0 on nhanes: {PEOPLE}" in text
    assert f"Wrote {out / 'report.html'}" in text
    return out


def test_the_report_is_of_the_people_outside(evaluation: Path) -> None:
    report = json.loads((evaluation / "report.json").read_text(encoding="utf-8"))
    assert report["test"]["people"] == PEOPLE
    assert list(report["data"]["parts"]) == ["test"]
    assert report["data"]["parts"]["test"]["periods"] == [YEARS]
    assert report["model"]["version"] == "9.0.0"
    assert "choices" not in report
    assert "Logistic regression" not in report["test"]["comparators"]
    assert "<html" in (evaluation / "report.html").read_text(encoding="utf-8")


def test_its_figures_can_be_counted_again_from_its_predictions(evaluation: Path) -> None:
    test = json.loads((evaluation / "report.json").read_text(encoding="utf-8"))["test"]
    stored = read_predictions((evaluation / "predictions.csv.gz").read_bytes())
    assert int(stored.events.sum()) == test["events"]
    assert set(stored.scenarios) == set(test["scenarios"])
    for id_, probabilities in stored.scenarios.items():
        counted = auroc(probabilities, stored.events)
        assert test["scenarios"][id_]["auroc"][0] == pytest.approx(counted, abs=5e-5)
    flagged = stored.scenarios["complete"] >= 0.035
    at_moderate = test["levels"]["at_moderate"]
    assert at_moderate["cut"] == 0.035
    # Everybody in the made-up cycle has the same weight.
    assert at_moderate["flagged"][0] == pytest.approx(flagged.mean(), abs=5e-5)


def test_the_artifact_stays_as_it_was(models: Path, evaluation: Path) -> None:
    del evaluation
    read_artifact(models / NAME / "9.0.0")  # refuses any file that the manifest does not name


def test_the_same_people_as_fhir_get_the_same_probabilities(
    models: Path, nhanes: Path, evaluation: Path, tmp_path: Path
) -> None:
    """A Bulk Data export of the same records, read through the service's own mapping."""
    export, out = tmp_path / "export", tmp_path / "out"
    export.mkdir()
    artifact = read_artifact(models / NAME / "9.0.0")
    write_nhanes_as_fhir(read_cycle(nhanes, cycle(YEARS)), export, recipe_inside(artifact))
    arguments = (NAME, "--models", models, "--source", "fhir", "--data", export, "--out", out)
    said(*arguments)
    here, there = (
        read_predictions((folder / "predictions.csv.gz").read_bytes())
        for folder in (out, evaluation)
    )
    assert here.same_people(there)
    for id_, probabilities in there.scenarios.items():
        assert here.scenarios[id_].tolist() == probabilities.tolist()


# --------------------------------------------------------------------------------- as the service
@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(SHIPPED)


@pytest.fixture(scope="module")
def recipe(model: Model) -> Recipe:
    return recipe_of(model.manifest, load_recipe(RECIPE))


def golden_rows(model: Model, recipe: Recipe) -> Iterator[tuple[list[float], float]]:
    for case in json.loads((SHIPPED / "golden_scores.json").read_text())["cases"]:
        values = case["values"]
        yield [values.get(name, np.nan) for name in recipe.columns], case["probability"]


def test_many_rows_get_the_probabilities_that_the_service_gives_one_by_one(
    model: Model, recipe: Recipe
) -> None:
    rows, expected = zip(*golden_rows(model, recipe), strict=True)
    values = np.array(rows, dtype=np.float32)
    scored = service_predict(model, recipe)(values)
    assert scored == pytest.approx(np.array(expected), abs=1e-6)
    for row, probability in zip(values, scored, strict=True):
        estimate = score(model, as_values(row, recipe))
        assert isinstance(estimate, RiskEstimate)
        assert probability == pytest.approx(estimate.probability, abs=1e-12)


def test_records_on_which_the_service_gives_no_figure_are_scored_and_counted(
    model: Model, recipe: Recipe
) -> None:
    rows = np.full((2, len(recipe.columns)), np.nan, dtype=np.float32)
    rows[:, recipe.columns.index("age")] = 60
    rows[1, recipe.columns.index("glucose")] = 100
    assert without_figure(model, rows, recipe) == 1
    assert np.isfinite(service_predict(model, recipe)(rows)).all()


def test_a_value_that_the_service_would_refuse_is_refused(model: Model, recipe: Recipe) -> None:
    rows = np.full((1, len(recipe.columns)), np.nan, dtype=np.float32)
    rows[0, recipe.columns.index("glucose")] = 5000
    with pytest.raises(DatasetError, match="glucose: 5000 mg/dL lies outside"):
        service_predict(model, recipe)(rows)


def test_the_recipe_takes_over_what_the_manifest_asks_for(model: Model) -> None:
    recipe = load_recipe(RECIPE)
    without_sex = [entry for entry in model.manifest.raw["features"] if entry["name"] != "sex"]
    raw: dict[str, Any] = {**model.manifest.raw, "features": without_sex}
    taken = recipe_of(replace(model.manifest, raw=raw), recipe)
    assert taken.columns == [entry["name"] for entry in without_sex]
    assert {name for panel in taken.panels.values() for name in panel.features} <= {*taken.columns}
    age = taken.features[0]
    assert (age.plausible, age.clip_above, age.decimals) == ((18, 120), 80, 0)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["asthma", "--source", "nhanes"], "There is no model asthma"),
        ([f"{NAME}/1.0.0", "--source", "nhanes"], "holds no recipe.toml"),
        ([NAME, "--source", "fhir", "--cycle", YEARS], "--cycle is for NHANES"),
        ([NAME, "--source", "nhanes", "--cycle", "1066-1067"], "no cycle 1066-1067"),
        ([NAME, "--source", "nhanes"], "DEMO_I.XPT"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    models: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    out = tmp_path / "out"
    text = said(*arguments, "--models", models, "--data", tmp_path, "--out", out, code=2)
    assert words in text
    assert "Traceback" not in text
    assert not out.exists()


def test_a_folder_that_is_not_there_is_named(models: Path, tmp_path: Path) -> None:
    data = tmp_path / "nowhere"
    for source in ("nhanes", "fhir", "mimic3"):
        text = said(NAME, "--models", models, "--source", source, "--data", data, code=2)
        assert f"{data} is no folder" in text


def test_nothing_is_written_among_the_published_models(models: Path, nhanes: Path) -> None:
    out = models / NAME / "9.0.0" / "evaluation"
    arguments = (NAME, "--models", models, "--source", "nhanes", "--data", nhanes, "--out", out)
    assert "is among the published models" in said(*arguments, code=2)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_named_before_the_data_are_read(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    words = said(
        *(NAME, "--models", models, "--source", "nhanes", "--data", tmp_path),
        *("--out", tmp_path / "taken"),
        code=2,
    )
    assert f"{tmp_path / 'taken'} cannot be written" in words
    assert "Give another --out." in words
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_people_of_one_outcome_give_nothing_to_measure(models: Path, tmp_path: Path) -> None:
    write_cycle(tmp_path, YEARS, 5)
    arguments = (NAME, "--models", models, "--source", "nhanes", "--data", tmp_path)
    out = tmp_path / "out"
    text = said(*arguments, "--cycle", YEARS, "--out", out, code=2)
    assert "two classes are needed" in text
    assert not out.exists()


def test_its_help_shows_an_example_and_no_command_below_it() -> None:
    text = said("--help")
    assert "Example: cds-service evaluate diabetes-undiagnosed/" in text
    assert "COMMAND" not in text
