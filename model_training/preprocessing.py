"""What happens to a row before the trees see it: imputation, scaling, one-hot; scikit-learn's, and
exported as plain numbers, so that serving needs none of it.

- `native`: absent values stay absent, XGBoost learns which way they go at every split.
- `median`: each absent value is the median of the people fitted on.
- `mice`: each absent value is regressed on all others, in chained rounds (van Buuren and
  Groothuis-Oudshoorn, J Stat Softw 2011;45(3)). To fit, several draws from the posterior are
  stacked, each with its share of a person's weight; to predict, the conditional means are taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import work
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model_training.dataset import DatasetError
from model_training.masking import WeightedRows
from model_training.recipe import FeatureSpec, Recipe
from model_training.sample import Floats, Values

IMPUTATIONS = ("native", "median", "mice")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessor:
    """A fitted ColumnTransformer; for `mice` also those whose draws the trees are fitted on."""

    imputation: str
    transformer: ColumnTransformer
    draws: tuple[ColumnTransformer, ...]
    features: tuple[FeatureSpec, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the booster's columns, in order."""
        return [name for name, _ in _columns(self.features)]

    @property
    def monotone(self) -> tuple[int, ...]:
        return tuple(sign for _, sign in _columns(self.features))

    def transform(self, values: Values) -> Values:
        return self._transformed(self.transformer, values)

    def rows_to_fit(self, rows: WeightedRows) -> WeightedRows:
        """For `mice` every row once per draw; else every row."""
        if not self.draws:
            return WeightedRows(
                values=self.transform(rows.values), events=rows.events, weights=rows.weights
            )
        count = len(self.draws)
        return WeightedRows(
            values=np.vstack([self._transformed(draw, rows.values) for draw in self.draws]),
            events=np.tile(rows.events, count),
            weights=np.tile(rows.weights / count, count),
        )

    def export(self) -> Json | None:
        """preprocessing.json; None where every feature is a column as it is."""
        if self.imputation == "native" and not any(map(one_hot, self.features)):
            return None
        return {"imputation": self._imputation(), "columns": list(self._exported_columns())}

    def _transformed(self, transformer: ColumnTransformer, values: Values) -> Values:
        made = np.asarray(
            transformer.transform(_as_served(values, self.features)), dtype=np.float32
        )
        if self.imputation == "native":
            self._mark_absent(values, made)
        return made

    def _mark_absent(self, values: Values, made: Values) -> None:
        """A category that is not known is not "none of them"."""
        names = self.columns
        for position, feature in enumerate(self.features):
            if one_hot(feature):
                absent = np.isnan(values[:, position])
                for name, _ in _indicators(feature):
                    made[absent, names.index(name)] = np.nan

    def _imputation(self) -> Json:
        numeric = [feature.name for feature in self.features if not one_hot(feature)]
        if self.imputation == "native":
            return {"method": "native"}
        imputer = self.transformer.named_transformers_["numeric"].named_steps["impute"]
        if self.imputation == "median":
            medians = (float(value) for value in imputer.statistics_)
            return {"method": "median", "values": dict(zip(numeric, medians, strict=True))}
        return {"method": "chained", **_chain(imputer, numeric)}

    def _exported_columns(self) -> Iterator[Json]:
        scaler = self._scaler()
        for position, feature in enumerate(f for f in self.features if not one_hot(f)):
            center, scale = (0.0, 1.0) if scaler is None else scaler[position]
            yield {
                "name": feature.name,
                "feature": feature.name,
                "center": center,
                "scale": scale,
            }
        for feature in filter(one_hot, self.features):
            for name, code in _indicators(feature):
                yield {"name": name, "feature": feature.name, "equals": code}

    def _scaler(self) -> list[tuple[float, float]] | None:
        if self.imputation == "native":
            return None
        scaler = self.transformer.named_transformers_["numeric"].named_steps["scale"]
        return [
            (float(center), float(scale))
            for center, scale in zip(scaler.mean_, scaler.scale_, strict=True)
        ]


def fit_preprocessor(
    values: Values, recipe: Recipe, imputation: str, rule: Mapping[str, Any]
) -> Preprocessor:
    """`rule`: seed, and for mice the number of `draws` and of `rounds` of chaining."""
    exact = _as_served(values, recipe.features)
    draws: tuple[ColumnTransformer, ...] = ()
    if imputation == "mice":
        draws = tuple(
            _fitted(_transformer(recipe, _chained(rule, draw)), exact)
            for draw in range(rule["draws"])
        )
    return Preprocessor(
        imputation=imputation,
        transformer=_fitted(_transformer(recipe, _imputer(imputation, rule)), exact),
        draws=draws,
        features=recipe.features,
    )


def one_hot(feature: FeatureSpec) -> bool:
    """Two categories are a number already."""
    return feature.categories is not None and len(feature.categories) > 2


def _as_served(values: Values, features: Sequence[FeatureSpec]) -> Floats:
    """At their decimals, in double precision: scaled in single precision, a value that is a cut of
    a tree would fall to the other side of it than in service."""
    exact = [
        np.round(values[:, position].astype(np.float64), feature.decimals)
        for position, feature in enumerate(features)
    ]
    return np.column_stack(exact)


def _fitted(transformer: ColumnTransformer, values: Floats) -> ColumnTransformer:
    with warnings.catch_warnings():
        # A fixed, small number of rounds is the recipe's choice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return transformer.fit(values)


def _transformer(recipe: Recipe, imputer: SimpleImputer | IterativeImputer | None) -> Any:
    numeric = [n for n, feature in enumerate(recipe.features) if not one_hot(feature)]
    categorical = [n for n, feature in enumerate(recipe.features) if one_hot(feature)]
    steps = Pipeline([("impute", imputer), ("scale", StandardScaler())])
    encoder = OneHotEncoder(
        categories=[[code for _, code in _indicators(recipe.features[n])] for n in categorical],
        handle_unknown="ignore",
        sparse_output=False,
    )
    return ColumnTransformer(
        [
            ("numeric", "passthrough" if imputer is None else steps, numeric),
            *([("categorical", encoder, categorical)] if categorical else []),
        ]
    )


def _imputer(imputation: str, rule: Mapping[str, Any]) -> SimpleImputer | IterativeImputer | None:
    match imputation:
        case "native":
            return None
        case "median":
            return SimpleImputer(strategy="median", keep_empty_features=True)
        case "mice":
            return _chained(rule, None)
    raise DatasetError(f"imputation {imputation!r} is none of {', '.join(IMPUTATIONS)}.")


def _chained(rule: Mapping[str, Any], draw: int | None) -> IterativeImputer:
    return IterativeImputer(
        max_iter=rule["rounds"],
        sample_posterior=draw is not None,
        random_state=rule["seed"] + (draw or 0),
        initial_strategy="median",
        keep_empty_features=True,
        tol=0.0 if draw is None else 1e-3,
    )


def _chain(imputer: IterativeImputer, names: list[str]) -> Json:
    """IterativeImputer.transform as numbers: where it starts, and its regressions in order."""
    low = np.broadcast_to(imputer._min_value, (len(names),))
    high = np.broadcast_to(imputer._max_value, (len(names),))
    return {
        "start": {
            name: float(value)
            for name, value in zip(names, imputer.initial_imputer_.statistics_, strict=True)
        },
        "steps": [
            {
                "feature": names[step.feat_idx],
                "intercept": float(step.estimator.intercept_),
                "coefficients": {
                    names[other]: float(coefficient)
                    for other, coefficient in zip(
                        step.neighbor_feat_idx, step.estimator.coef_, strict=True
                    )
                },
                "low": _bound(low[step.feat_idx]),
                "high": _bound(high[step.feat_idx]),
            }
            for step in imputer.imputation_sequence_
        ],
    }


def _bound(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _columns(features: tuple[FeatureSpec, ...]) -> Iterator[tuple[str, int]]:
    """Numbers first, then the categories: the ColumnTransformer's order."""
    for feature in features:
        if not one_hot(feature):
            yield feature.name, feature.monotone
    for feature in filter(one_hot, features):
        for name, _ in _indicators(feature):
            yield name, 0


def _indicators(feature: FeatureSpec) -> Iterator[tuple[str, float]]:
    for title, code in (feature.categories or {}).items():
        yield f"{feature.name}={title}", float(code)
