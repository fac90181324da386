"""The outbox in /metrics: what the store says at that moment, whichever worker is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cds_service.errors import StoreUnavailable
from cds_service.routes import health
from cds_service.store import Store
from tests.conftest import NOW, ROOT
from tests.fakes.records import a_message, an_assessment, an_audit_entry
from tests.service import Service


def keep(store: Store, *, minutes_old: int) -> None:
    assessment = an_assessment()
    entry = an_audit_entry(recorded_at=NOW.replace(hour=11, minute=60 - minutes_old))
    store.record(assessment, [], entry, a_message(assessment))


def test_depth_and_age_are_those_of_the_store(app_client: Service) -> None:
    keep(app_client.parts.store, minutes_old=10)
    keep(app_client.parts.store, minutes_old=30)
    said = app_client.metrics()
    assert 'cds_outbox_messages{state="ready"} 2.0' in said
    for state in ("claimed", "delivered", "dead", "discarded"):
        assert f'cds_outbox_messages{{state="{state}"}} 0.0' in said
    assert "cds_outbox_oldest_seconds 1800.0" in said
    assert said.count("# TYPE cds_outbox_messages gauge") == 1


def test_deliveries_are_counted_by_outcome(app_client: Service) -> None:
    app_client.parts.metrics.count_delivery("created")
    assert 'cds_deliveries_total{outcome="created"} 1.0' in app_client.metrics()


def test_a_store_that_is_down_costs_the_outboxs_figures_only(
    app_client: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(Store, "outbox_figures", away)
    said = app_client.metrics()
    assert "cds_http_requests_total" in said
    assert "cds_outbox" not in said


def test_a_store_that_is_slow_does_not_keep_the_monitor_waiting(
    app_client: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "OUTBOX_SECONDS", 0.1)

    def slow(*_: Any, **__: Any) -> Any:
        time.sleep(1)
        raise StoreUnavailable

    monkeypatch.setattr(Store, "outbox_figures", slow)
    assert "cds_http_requests_total" in app_client.metrics()


# prometheus_client decides when it is imported whether a process counts for itself.
WORKER = """
import sys
from cds_service.metrics import new_metrics
from cds_service.store import MessageState, OutboxFigures
metrics = new_metrics()
metrics.count_delivery("created")
depth = {state: 3 for state in MessageState}
figures = OutboxFigures(depth=depth, discarded=1, oldest_ready_seconds=7.5)
sys.stdout.write(metrics.text(figures).decode())
"""


def test_workers_are_summed_and_the_outbox_is_not(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(3):
        command = [sys.executable, "-c", WORKER]
        ran = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert 'cds_deliveries_total{outcome="created"} 3.0' in ran.stdout
    assert 'cds_outbox_messages{state="ready"} 3.0' in ran.stdout
    assert "cds_outbox_oldest_seconds 7.5" in ran.stdout
