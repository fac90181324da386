"""Prometheus metrics, in a registry of the application's own.

Labels hold route templates, service ids, states and named outcomes only: never a path, a patient
or a caller. An unknown path is counted under one label, so that a scanner cannot grow the registry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from cds_service.store import OutboxFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# CDS Hooks asks for an answer "on the order of 500 ms": the buckets are densest around that.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)

Count = Callable[[], None]
Observe = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The counters and histograms of one application; thread-safe.

    What is counted in every call is kept by its labels: to look it up takes longer than to count.
    There is no more of it than there are series.
    """

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    cards: Counter
    assessments: Counter
    unaudited: Counter
    deliveries: Counter
    _requests: dict[tuple[str, str, int], tuple[Count, Observe]] = field(
        default_factory=dict, init=False
    )
    _cards: dict[tuple[str, str], Count] = field(default_factory=dict, init=False)
    _assessments: dict[tuple[str, str], Count] = field(default_factory=dict, init=False)

    def count_request(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request; `route` is a template such as `/fhir/RiskAssessment/{id}`."""
        verb = method if method in METHODS else "other"
        found = self._requests.get((route, verb, status))
        if found is None:
            found = self._requests[route, verb, status] = (
                self.requests.labels(route=route, method=verb, status=str(status)).inc,
                self.seconds.labels(route=route, method=verb).observe,
            )
        count, observe = found
        count()
        observe(seconds)

    def count_card(self, *, service: str, kind: str) -> None:
        """One card shown; `kind` is the card's kind in `cards.py`."""
        count = self._cards.get((service, kind))
        if count is None:
            count = self.cards.labels(service=service, kind=kind).inc
            self._cards[service, kind] = count
        count()

    def count_assessment(self, *, service: str, outcome: str) -> None:
        """One call assessed; `outcome` is a name out of `assess.py`'s short list."""
        count = self._assessments.get((service, outcome))
        if count is None:
            count = self.assessments.labels(service=service, outcome=outcome).inc
            self._assessments[service, outcome] = count
        count()

    def count_unaudited(self, *, calls: int, answered: bool) -> None:
        """Calls without an audit row; an answer that could not be put on record became a 503."""
        self.unaudited.labels(call="answered" if answered else "refused").inc(calls)

    def count_delivery(self, outcome: str) -> None:
        """One try of one message; `outcome` is one of `delivery.worker.Outcome`."""
        self.deliveries.labels(outcome=outcome).inc()

    def text(self, outbox: OutboxFigures | None = None) -> bytes:
        """The registry in Prometheus text format, summed over workers where there are several.

        `outbox` is what the store says at this moment, the same whichever worker asks: it is not
        summed. None: the store did not say, and of the outbox there are no figures.
        """
        text = generate_latest(self._collected())
        if outbox is None:
            return text
        registry = CollectorRegistry()
        registry.register(_Outbox(outbox))
        return text + generate_latest(registry)

    def _collected(self) -> CollectorRegistry:
        # `cds-service serve --workers` sets this before it starts its workers:
        # https://prometheus.github.io/client_python/multiprocess/
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


class _Outbox(Collector):
    def __init__(self, figures: OutboxFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        depth = GaugeMetricFamily("cds_outbox_messages", "Messages in the outbox", labels=["state"])
        for state, number in self._figures.depth.items():
            depth.add_metric([state.value], number)
        depth.add_metric(["discarded"], self._figures.discarded)
        yield depth
        yield GaugeMetricFamily(
            "cds_outbox_oldest_seconds",
            "Age of the oldest message that is neither delivered nor dead",
            value=self._figures.oldest_ready_seconds,
        )


def new_metrics() -> Metrics:
    """Fresh metrics in a registry of their own: two applications in one process do not mix."""
    registry = CollectorRegistry()
    return Metrics(
        registry=registry,
        requests=Counter(
            "cds_http_requests",
            "HTTP requests answered",
            ["route", "method", "status"],
            registry=registry,
        ),
        seconds=Histogram(
            "cds_http_request_seconds",
            "Time from request to answer",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        ),
        cards=Counter("cds_cards", "Cards shown", ["service", "kind"], registry=registry),
        assessments=Counter(
            "cds_assessments", "Calls assessed", ["service", "outcome"], registry=registry
        ),
        unaudited=Counter(
            "cds_unaudited_calls",
            "Calls whose audit row could not be written",
            ["call"],
            registry=registry,
        ),
        deliveries=Counter(
            "cds_deliveries",
            "Tries to deliver a message of the outbox, by what came of them",
            ["outcome"],
            registry=registry,
        ),
    )
