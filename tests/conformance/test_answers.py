"""What the service itself says passes the checker, and holds what the checker looks at."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from tests.service import Service, patient_view
from tests.wire import check_discovery, check_hook_answer


@pytest.fixture
def card(app_client: Service) -> dict[str, Any]:
    answer = app_client.call(patient_view())
    check_hook_answer(answer.json())
    (only,) = answer.json()["cards"]
    assert isinstance(only, dict)
    return only


@pytest.mark.proves(3, 45, 48, 49, 51, 52, 53, 54, 55, 56, 57, 59)
def test_a_card_has_every_part_that_the_checker_looks_at(card: dict[str, Any]) -> None:
    assert {"suggestions", "overrideReasons", "links", "detail", "selectionBehavior"} <= set(card)
    assert card["suggestions"][0]["actions"]
    assert card["source"]["topic"]["display"]


@pytest.mark.proves(4)
def test_the_resources_in_an_answer_are_fhir(card: dict[str, Any]) -> None:
    resources = [
        action["resource"] for suggestion in card["suggestions"] for action in suggestion["actions"]
    ]
    assert resources
    for resource in resources:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


@pytest.mark.proves(11, 14, 15, 16)
def test_discovery_has_the_fields_that_clients_of_both_versions_read(app_client: Service) -> None:
    answer = app_client.request("GET", "/cds-services")
    check_discovery(answer.json())
    for service in answer.json()["services"]:
        assert service["version"].split(".")[0] in ("2", "3"), "of the specification, not of ours"
        assert service["usageRequirements"]
        assert service["title"]


@pytest.mark.proves(47)
def test_a_summary_is_counted_in_characters_not_bytes(card: dict[str, Any]) -> None:
    check_hook_answer({"cards": [{**card, "summary": "é" * 139}]})
    with pytest.raises(AssertionError, match="140"):
        check_hook_answer({"cards": [{**card, "summary": "é" * 140}]})
