"""The only place that touches XGBoost: bytes → booster, rows → margins and exact TreeSHAP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Lets imports inside the block find these packages absent, unless already imported.

    xgboost/compat.py (3.2.0) imports scikit-learn and pandas whenever they are installed, for
    wrappers that scoring never calls: 1.2 s and 95 MB in an environment that also trains. With
    them absent it takes the branch that a serving-only environment takes anyway.
    """
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "not importable"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden("pandas", "sklearn"):
    import xgboost

Row = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Leaves = npt.NDArray[np.int32]
Booster = xgboost.Booster


def load_booster(content: bytes) -> Booster:
    """UBJ bytes → booster on one thread; raises ValueError for bytes that are no model."""
    try:
        booster = xgboost.Booster(params={"nthread": 1})
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError as fault:
        raise ValueError(str(fault).strip().splitlines()[0]) from fault
    # Loading takes over the number of threads of the machine that trained.
    booster.set_param({"nthread": 1})
    return booster


def part_of(booster: Booster, begin: int, end: int) -> Booster:
    """The booster of its trees `begin` up to but not including `end`, one round each; one thread.

    It has all the columns.
    """
    part = booster[begin:end]
    # As after loading: the number of threads is not among what is taken over.
    part.set_param({"nthread": 1})
    return part


def margins_and_shap_values(booster: Booster, rows: Row) -> tuple[Floats, Floats]:
    """Log-odds before calibration, and exact TreeSHAP of them; NaN marks an absent feature.

    One margin per row; one column per feature, the last is the expected margin. XGBoost computes
    TreeSHAP (https://arxiv.org/abs/1802.03888) in C++ and needs a DMatrix for it; with that at
    hand, predicting from it costs a quarter of inplace_predict.
    """
    # Column names were compared when the model was loaded; passing them costs 50 µs a call.
    matrix = xgboost.DMatrix(rows, nthread=1)
    margins = booster.predict(matrix, output_margin=True, validate_features=False)
    shap_values = booster.predict(matrix, pred_contribs=True, validate_features=False)
    return np.asarray(margins, dtype=np.float64), np.asarray(shap_values, dtype=np.float64)


def leaves_and_shap_values(booster: Booster, rows: Row) -> tuple[Leaves, Row]:
    """[rows, trees] each tree's leaf, by its node's number, and [rows, columns] exact TreeSHAP."""
    matrix = xgboost.DMatrix(rows, nthread=1)
    leaves = booster.predict(matrix, pred_leaf=True, validate_features=False)
    shap_values = booster.predict(matrix, pred_contribs=True, validate_features=False)
    return np.asarray(leaves, dtype=np.int32).reshape(len(rows), -1), shap_values[:, :-1]
