"""Hyperparameters: Optuna's TPE over the recipe's space, judged on people unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from model_training.calibration import Rows, calibrated, fit_calibration, rows_to_calibrate
from model_training.dataset import DatasetError, Reporter
from model_training.fitting import OutOfFold, Settings, out_of_fold, settings_from
from model_training.logistic import log_loss
from model_training.recipe import Recipe
from model_training.sample import Floats, Sample

Json = dict[str, Any]
CRITERION = (
    "survey-weighted log loss of people whom the model had not seen, after sigmoid calibration, "
    "mean of the kinds of record"
)
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best settings, and the report's choices.search."""

    settings: Settings
    section: Json


def search(development: Sample, recipe: Recipe, reporter: Reporter) -> Found:
    """Trials one after the other, so that the sampler's path is the same each time; the folds of
    a trial run side by side."""
    rule = recipe.raw["search"]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=rule["seed"]))
    start = settings_from(recipe)
    study.enqueue_trial({name: start.parameters[name] for name in rule["space"]})

    def objective(trial: optuna.Trial) -> float:
        settings = _with(start, _suggested(trial, rule["space"]))
        unseen = out_of_fold(development, settings, recipe, stop_early=True)
        trial.set_user_attr("rounds", unseen.rounds)
        try:
            loss = mean_loss(unseen, development, recipe)
        except DatasetError as fault:
            raise optuna.TrialPruned(str(fault)) from fault
        reporter.detail(f"trial {trial.number + 1} of {rule['trials']}: log loss {loss:.5f}")
        return loss

    study.optimize(objective, n_trials=rule["trials"])
    if all(trial.value is None for trial in study.trials):
        raise DatasetError("No settings were found whose scores rise with the outcome.")
    best = study.best_trial
    chosen = _with(start, best.params).changed(rounds=best.user_attrs["rounds"])
    return Found(settings=chosen, section=_section(study, chosen))


def settings_chosen(recipe: Recipe, section: Mapping[str, Any]) -> Settings:
    """The settings that an earlier search found, from its report: to build the same model again."""
    chosen = dict(section["chosen"])
    rounds = chosen.pop("rounds")
    return _with(settings_from(recipe), chosen).changed(rounds=rounds)


def mean_loss(unseen: OutOfFold, sample: Sample, recipe: Recipe) -> float:
    return float(np.mean(list(scenario_losses(unseen, sample, recipe).values())))


def scenario_losses(unseen: OutOfFold, sample: Sample, recipe: Recipe) -> dict[str, float]:
    """Scenario id → loss; one calibration for all kinds of record, as in service."""
    exported = fit_calibration(rows_to_calibrate(unseen, sample, recipe), "sigmoid")
    rows = {
        scenario.id: _rows(unseen.margins[scenario.id], sample) for scenario in recipe.scenarios
    }
    return {
        id_: log_loss(calibrated(exported, entry.margins), entry.events, entry.weights)
        for id_, entry in rows.items()
    }


def _rows(margins: Floats, sample: Sample) -> Rows:
    return Rows(margins=margins, events=sample.events.astype(np.float64), weights=sample.weights)


def _suggested(trial: optuna.Trial, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _suggest(trial, name, entry) for name, entry in space.items()}


def _suggest(trial: optuna.Trial, name: str, entry: Mapping[str, Any]) -> Any:
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    if entry["kind"] == "int":
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _with(settings: Settings, parameters: Mapping[str, Any]) -> Settings:
    return settings.changed(parameters={**settings.parameters, **parameters})


def _section(study: optuna.Study, chosen: Settings) -> Json:
    done = sorted(
        (trial for trial in study.trials if trial.value is not None), key=lambda t: t.value or 0.0
    )
    return {
        "trials": len(study.trials),
        "sampler": f"TPE (Optuna {optuna.__version__})",
        "chosen": {**study.best_params, "rounds": chosen.rounds},
        "table": [
            {
                "number": trial.number,
                "value": round(float(trial.value or 0.0), 6),
                "rounds": trial.user_attrs["rounds"],
                **trial.params,
            }
            for trial in done[:_SHOWN]
        ],
    }
