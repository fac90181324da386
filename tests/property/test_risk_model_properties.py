"""Whatever is known of a person, an estimate that is looked up is the one that XGBoost computes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from risk_model import Model, RiskEstimate, load_model, score
from risk_model.manifest import Feature
from tests.shipped import SHIPPED

# One of each group that the manifest asks for, and what it requires.
ENOUGH = {"age", "glucose"}


@cache
def shipped() -> Model:
    return load_model(SHIPPED)


def values_of(feature: Feature, cuts: list[float]) -> st.SearchStrategy[float]:
    """Anything plausible, and more often than chance would have it what a tree splits at."""
    if feature.categories:
        return st.sampled_from(sorted(feature.categories.values()))
    low, high = feature.plausible
    inside = [cut for cut in cuts if low <= cut <= high]
    # What a record holds: 30.6, of which 32 bits make a number that is a little larger.
    recorded = [value for cut in inside if low <= (value := round(cut, 2)) <= high]
    return st.one_of(
        st.floats(low, high), *(st.sampled_from(some) for some in (inside, recorded) if some)
    )


@st.composite
def people(draw: st.DrawFn) -> dict[str, float]:
    model = shipped()
    assert model.tables is not None
    strategies = {
        feature.name: values_of(feature, cuts)
        for feature, (_, cuts) in zip(model.manifest.features, model.tables.columns, strict=True)
    }
    return draw(
        st.fixed_dictionaries(
            {name: strategies[name] for name in strategies if name in ENOUGH},
            optional={name: strategies[name] for name in strategies if name not in ENOUGH},
        )
    )


@given(people())
def test_an_estimate_is_the_same_with_tables_and_without(values: dict[str, float]) -> None:
    estimate = score(shipped(), values)
    assert isinstance(estimate, RiskEstimate)
    # Which tells -0.0 from 0.0.
    assert repr(estimate) == repr(score(replace(shipped(), tables=None), values))
