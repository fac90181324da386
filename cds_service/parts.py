"""What a running service is made of. `app.py` puts it together; everything else is handed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from cds_service.delivery.bell import Bell
from cds_service.hooks.definition import ServiceDefinition
from cds_service.metrics import Metrics
from cds_service.settings import Settings
from fhir_mapping import CompiledMapping
from risk_model import Model

if TYPE_CHECKING:
    from cds_service.clients import Clients
    from cds_service.fhir_client import FhirClient
    from cds_service.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A verified model and the mapping compiled from its manifest: the two agree."""

    model: Model
    mapping: CompiledMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`services` by id, `models` by model name; `clock` gives the present as aware UTC.

    `bell` is rung when a message is committed, for the worker of this process.
    """

    settings: Settings
    services: dict[str, ServiceDefinition]
    models: dict[str, LoadedModel]
    store: Store
    clients: Clients
    fhir: FhirClient
    clock: Callable[[], datetime]
    metrics: Metrics
    bell: Bell = field(default_factory=Bell)

    def model_of(self, definition: ServiceDefinition) -> LoadedModel:
        """The model that serves `definition`; it was loaded before the service took a call."""
        return self.models[definition.model]
