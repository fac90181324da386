"""The only place that touches XGBoost: bytes → booster, row → margin, row → exact TreeSHAP."""

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


def margins(booster: Booster, rows: Row) -> npt.NDArray[np.float64]:
    """Log-odds before calibration, one per row; NaN marks an absent feature."""
    out = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
    return np.asarray(out, dtype=np.float64)


def shap_values(booster: Booster, rows: Row) -> npt.NDArray[np.float64]:
    """Exact TreeSHAP on the margin: one column per feature, the last is the expected margin.

    https://arxiv.org/abs/1802.03888; XGBoost computes it in C++ and needs a DMatrix for it.
    """
    matrix = xgboost.DMatrix(rows, nthread=1, feature_names=booster.feature_names)
    return np.asarray(booster.predict(matrix, pred_contribs=True), dtype=np.float64)
