"""/predict: plain features in the manifest's units; every fault names its feature."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.service import Service, patient_view

GOOD = {"age": 58, "sex": "female", "glucose": 141, "body_mass_index": 34.2}


def predict(service: Service, body: Any, query: str = "") -> Any:
    return service.request("POST", f"/predict{query}", json=body)


def test_the_figure_and_its_account_agree(app_client: Service) -> None:
    answer = predict(app_client, GOOD).json()
    assert 0 < answer["risk_score"] < 1
    assert answer["risk_level"] == "high"
    assert answer["model"]["name"] == "diabetes-undiagnosed"
    shares = [row["contribution"] for row in answer["explanation"]]
    assert shares == sorted(shares, key=abs, reverse=True)
    log_odds = answer["baseline"] + sum(shares) + answer["absent_contribution"]
    assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(answer["risk_score"], abs=1e-9)
    for row in answer["explanation"]:
        assert row["direction"] == ("raises" if row["contribution"] > 0 else "lowers")
    assert {row["feature"] for row in answer["explanation"]} == set(GOOD)
    assert set(GOOD).isdisjoint(answer["absent"])
    glucose = next(row for row in answer["explanation"] if row["feature"] == "glucose")
    assert (glucose["title"], glucose["value"], glucose["unit"]) == ("Glucose", 141, "mg/dL")


def test_it_is_the_figure_that_the_hook_gives(app_client: Service) -> None:
    app_client.call(patient_view())
    _, records = app_client.parts.store.search(count=1)
    assert predict(app_client, GOOD).json()["risk_score"] == pytest.approx(
        records[0].probability, abs=1e-12
    )


def test_a_category_is_its_name_or_its_number(app_client: Service) -> None:
    codes = app_client.parts.models["diabetes-undiagnosed"].model.manifest.raw["features"]
    sex = next(feature for feature in codes if feature["name"] == "sex")["categories"]
    by_name, by_number = (
        predict(app_client, {**GOOD, "sex": value}).json() for value in ("female", sex["female"])
    )
    assert by_name == by_number
    row = next(row for row in by_name["explanation"] if row["feature"] == "sex")
    assert row["category"] == "female"


def test_null_means_absent_and_resolution_is_the_records(app_client: Service) -> None:
    answer = predict(app_client, {**GOOD, "albumin": None, "glucose": 141.3})
    assert answer.json() == predict(app_client, GOOD).json()


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "required missing": ({"glucose": 100}, "age", "required"),
    "required null": ({**GOOD, "age": None}, "age", "required"),
    "none of a group": ({"age": 50}, "glucose", "one of glucose, body_mass_index"),
    "a string": ({**GOOD, "glucose": "141"}, "glucose", "number in mg/dL"),
    "true": ({**GOOD, "glucose": True}, "glucose", "number"),
    "a list": ({**GOOD, "glucose": [141]}, "glucose", "number"),
    "SI by mistake": ({**GOOD, "glucose": 7.8}, "glucose", "from 20 to 1500 mg/dL"),
    "too much": ({**GOOD, "glucose": 1e300}, "glucose", "from 20 to 1500 mg/dL"),
    "a child": ({**GOOD, "age": 17}, "age", "from 18 to 120"),
    "unknown category": ({**GOOD, "sex": "other"}, "sex", "'male' (0), 'female' (1)"),
    "category number": ({**GOOD, "sex": 2}, "sex", "one of"),
    "category true": ({**GOOD, "sex": True}, "sex", "one of"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_feature_is_400_that_names_it_and_its_range(app_client: Service, name: str) -> None:
    body, feature, said = BAD[name]
    answer = predict(app_client, body)
    assert answer.status_code == 400
    issue = answer.json()["issue"][0]
    assert issue["expression"] == [feature]
    assert said in issue["diagnostics"]


def test_an_unknown_name_is_400_that_names_the_known_ones(app_client: Service) -> None:
    answer = predict(app_client, {**GOOD, "Glucose ": 1})
    assert answer.status_code == 400
    said = answer.json()["issue"][0]["diagnostics"]
    assert f"Member {len(GOOD) + 1} is not a feature" in said
    assert "(is 'glucose' meant?)" in said
    assert "body_mass_index" in said
    assert "Glucose " not in said


def test_more_unknown_names_than_anyone_reads_are_told_of_in_part(app_client: Service) -> None:
    answer = predict(app_client, {f"x{number}" * 50: 1 for number in range(100)})
    assert answer.status_code == 400
    assert len(answer.json()["issue"]) == 20
    assert len(answer.content) < 20_000


def test_thousands_of_names_are_refused_by_their_number_alone(app_client: Service) -> None:
    most = 10 * len(app_client.parts.models["diabetes-undiagnosed"].model.manifest.features)
    names = {f"x{number}": None for number in range(most)}
    assert len(predict(app_client, names).json()["issue"]) == 20
    answer = predict(app_client, {**names, "one": "more"})
    assert answer.status_code == 400
    assert [issue["code"] for issue in answer.json()["issue"]] == ["too-long"]
    assert f"at most {most} members" in answer.json()["issue"][0]["diagnostics"]


def test_a_model_can_be_named(app_client: Service) -> None:
    assert predict(app_client, GOOD, "?model=diabetes-undiagnosed").status_code == 200
    answer = predict(app_client, GOOD, "?model=../../etc")
    assert answer.status_code == 404
    assert "etc" not in answer.text


def test_nothing_is_stored(app_client: Service) -> None:
    predict(app_client, GOOD)
    assert app_client.stored() == 0
