"""A whole run on made-up people: every part of the report is made, read, written and published."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_training.artifact import read_artifact
from model_training.dataset import (
    DEVELOPMENT,
    TEST,
    TREATED,
    Dataset,
    DatasetError,
    FlowStep,
    Part,
    Silent,
)
from model_training.logistic import logistic
from model_training.pipeline import Trained, steps, train
from model_training.publish import Published, publish
from model_training.recipe import Recipe
from model_training.sample import as_values, sample_from
from risk_model import RiskEstimate, load_model, score
from tests.people import drawn, in_this_process, made_up_people, small_recipe, true_log_odds

TEST_PERIOD = "2009-2010"
PANELS = [
    {"id": "bmi", "title": "BMI", "inputs": ["BMI"], "columns": ["body_mass_index"]},
    {"id": "kidney", "title": "Creatinine", "inputs": ["Creatinine"], "columns": ["creatinine"]},
]


class Steps:
    """A Reporter that remembers."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def step(self, title: str) -> None:
        self.titles.append(title)

    def detail(self, text: str) -> None:
        del text


def recipe() -> Recipe:
    return small_recipe(studies={"panels": PANELS}, search={"trials": 2})


def part(count: int, seed: int, *periods: str) -> Part:
    """People with a second outcome, known in two of three of them."""
    table = made_up_people(
        count, seed=seed, missing=0.1, **({"periods": periods} if periods else {})
    )
    filled = table.fillna(table[["glucose", "body_mass_index"]].mean())
    fasting = drawn(true_log_odds(filled), seed + 1)
    known = np.arange(count) % 3 > 0
    table = table.assign(
        event_fasting_glucose=np.where(known, fasting, np.nan),
        event_both=np.where(known, fasting * table["event"], np.nan),
        fasting_weight=np.where(known, table["weight"], np.nan),
    )
    flow = (FlowStep(kept="made up", people=count, events=int(table["event"].sum())),)
    return Part(periods=tuple(sorted(set(table["period"]))), people=table, flow=flow)


def dataset(**parts: Part) -> Dataset:
    return Dataset(
        source="made-up",
        description="People drawn at random",
        parts={
            DEVELOPMENT: part(900, 1),
            TEST: part(500, 2, TEST_PERIOD),
            TREATED: part(40, 3, TEST_PERIOD),
            **parts,
        },
        notes=("Nobody of them lives.",),
    )


@cache
def trained() -> Trained:
    with in_this_process():
        return train(dataset(), recipe(), Silent())


def test_every_part_of_the_report_is_made() -> None:
    report = trained().report
    assert [name for name, section in report.items() if not section and name != "forced"] == [
        "gates"
    ]
    assert set(report["choices"]) == {
        "cross_validation",
        "search",
        "calibration",
        "thresholds",
        "imputation",
        "class_weighting",
        "masking",
        "panels",
    }
    assert set(report["race"]) >= {"without", "with", "groups", "fasting", "both"}
    assert set(report["test"]["outcomes"]) == {"hba1c", "fasting_glucose", "both"}
    assert report["test"]["with_treated"]["people"] == 540


def test_page_card_and_pictures_are_made_of_it() -> None:
    files = trained().files
    assert {"report/report.html", "MODEL_CARD.md", "model_card.json", "recipe.toml"} <= set(files)
    pictures = [name for name in files if name.endswith(".svg")]
    assert {"report/race.svg", "report/race-fasting.svg"} <= set(pictures)
    assert len(pictures) > 15
    assert b"fasting glucose" in files["MODEL_CARD.md"]


def test_it_is_published_and_scores_as_it_was_measured(tmp_path: Path) -> None:
    run = trained()
    done = publish(run.files, tmp_path, "made-up", "1.0.0", results=run.gates)
    assert isinstance(done, Published)
    stored = read_artifact(done.folder).predictions
    assert stored is not None
    model, test = load_model(done.folder), sample_from(dataset().parts[TEST].people, recipe())
    assert list(stored.records) == test.records
    compared = 0
    for row, probability in zip(test.values, stored.scenarios["complete"], strict=True):
        got = score(model, as_values(row, recipe()))
        if isinstance(got, RiskEstimate):
            compared += 1
            assert got.probability == pytest.approx(probability, abs=1e-6)
    assert compared > 400


def test_the_risk_that_was_drawn_is_found() -> None:
    people = dataset().parts[TEST].people
    truth = logistic(true_log_odds(people.fillna(people[["glucose", "body_mass_index"]].mean())))
    given = trained().evaluation.predictions.scenarios["complete"]
    assert np.corrcoef(truth, given)[0, 1] > 0.8
    assert trained().report["test"]["scenarios"]["complete"]["auroc"][0] > 0.75


def test_settings_found_earlier_give_the_same_files_in_as_many_steps_as_the_bar_has() -> None:
    run, reporter = trained(), Steps()
    with in_this_process():
        again = train(dataset(), recipe(), reporter, chosen=run.report["choices"]["search"])
    assert [name for name in run.files if again.files[name] != run.files[name]] == []
    assert len(reporter.titles) == steps(recipe())


def test_the_model_does_not_depend_on_the_people_it_is_measured_on() -> None:
    other = dataset(**{TEST: part(300, 9, TEST_PERIOD)})
    with in_this_process():
        again = train(other, recipe(), Silent(), chosen=trained().report["choices"]["search"])
    for name in ("model.ubj", "calibration.json", "golden_scores.json"):
        assert again.files[name] == trained().files[name], name
    assert again.report["choices"] == trained().report["choices"]
    levels = [json.loads(run.files["manifest.json"])["levels"] for run in (again, trained())]
    assert levels[0] == levels[1]
    assert again.report["test"]["people"] == 300


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({TEST: part(60, 2, TEST_PERIOD)}, "nobody has the outcome"),
        ({DEVELOPMENT: part(60, 2)}, "nobody has the outcome"),
    ],
    ids=["test", "development"],
)
def test_one_class_is_a_sentence(parts: dict[str, Part], words: str) -> None:
    for name, one in parts.items():
        parts[name] = Part(periods=one.periods, people=one.people.assign(event=0), flow=one.flow)
    with pytest.raises(DatasetError, match=words):
        train(dataset(**parts), recipe(), Silent())


def test_a_part_that_is_not_there_is_a_sentence() -> None:
    whole: Any = dataset()
    alone = Dataset(source="made-up", description="", parts={TEST: whole.parts[TEST]})
    with pytest.raises(DatasetError, match="has no development part"):
        train(alone, recipe(), Silent())
