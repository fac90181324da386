"""The composition root: the only place where the parts are put together."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import ArgumentError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from cds_service import delivery
from cds_service.audit.calls import AuditCalls, keep_writing
from cds_service.audit.refusals import Refusals
from cds_service.clients import Clients, ClientsFileError
from cds_service.clients.replay import TokensSeenByAll
from cds_service.cors import Cors
from cds_service.errors import ServiceError, StoreUnavailable
from cds_service.fhir_client import FhirClient
from cds_service.hooks import HooksFileError, ServiceDefinition, read_hooks_file
from cds_service.limits.calls import Calls
from cds_service.limits.connection import HEAD_SECONDS, MOST_CONNECTIONS
from cds_service.log import configure_logging
from cds_service.metrics import new_metrics
from cds_service.observe import Observe
from cds_service.parts import LoadedModel, Parts
from cds_service.routes import discovery, feedback, fhir, health, pages, predict, services
from cds_service.routes.answers import (
    answer_http_exception,
    answer_service_error,
    answer_validation_error,
)
from cds_service.settings import Settings, SettingsError, unknown_variables
from cds_service.store import Store, rekey
from cds_service.store.sealing import Sealing
from fhir_mapping import MappingError, compile_mapping, load_catalog, prefetch_templates
from risk_model import ArtifactError, load_model

log = structlog.get_logger(__name__)

# FastAPI can report every request to OpenTelemetry, URLs and exception texts included. What this
# service tells about a request is written in observe.py, and nowhere else.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class StartRefused(Exception):
    """The parts do not fit together. The message says which, and what to do."""


# Everything that can be wrong with what an operator wrote; each message says where.
START_FAULTS = (StartRefused, SettingsError, HooksFileError, ClientsFileError)


def utc_now() -> datetime:
    """The present; everything inside is given it."""
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> FastAPI:
    """The service, ready to be served; raises one of START_FAULTS."""
    return application(assemble(settings, clock))


def create_app_from_environment() -> FastAPI:
    """The factory that each worker calls: `uvicorn --factory cds_service.app:…`."""
    settings = Settings.from_environment(os.environ)
    configure_logging(settings.log_level)
    warn_of(settings)
    app = create_app(settings)
    # What was loaded lives as long as the process: the garbage collector need not go over it again
    # in the middle of calls. https://docs.python.org/3/library/gc.html#gc.freeze
    gc.collect()
    gc.freeze()
    return app


def warn_of(settings: Settings) -> None:
    """Say in the log what an operator may not have meant."""
    warn_of_variables()
    if settings.demo:
        log.warning("demo profile: calls without a JWT are answered; never use it for patients")
    elif settings.clients_file is None:
        log.warning("CDS_CLIENTS_FILE is not set: no client can call")


def warn_of_variables() -> None:
    """Say in the log which `CDS_` variables nobody reads."""
    for name in unknown_variables(os.environ):
        log.warning("a variable that nobody reads", variable=name)


def assemble(settings: Settings, clock: Callable[[], datetime]) -> Parts:
    """Every part, opened, verified and held against the others."""
    definitions = read_hooks_file(settings.hooks_file)
    models = load_models(settings, definitions)
    for definition in definitions.values():
        check_prefetch(definition, models[definition.model])
        check_wording(definition, models[definition.model])
    return replace(assemble_delivery(settings, clock), services=definitions, models=models)


def assemble_delivery(settings: Settings, clock: Callable[[], datetime]) -> Parts:
    """What delivery needs: no service and no model."""
    store = open_store(settings)
    check_store_keys(settings, store)
    seen = TokensSeenByAll(store)
    clients = Clients.from_file(settings.clients_file, settings.profile, seen=seen)
    return Parts(
        settings=settings,
        services={},
        models={},
        clients=clients,
        store=store,
        fhir=FhirClient(reach=clients.reach, clock=clock),
        clock=clock,
        metrics=new_metrics(),
    )


def open_store(settings: Settings) -> Store:
    """The store, tables made where they are missing; raises StartRefused."""
    try:
        return Store.open(settings.database_url, Sealing(settings.store_keys))
    except (ValueError, ArgumentError, ModuleNotFoundError, StoreUnavailable) as fault:
        raise StartRefused(f"CDS_DATABASE_URL: {fault}") from fault


def check_store_keys(settings: Settings, store: Store) -> None:
    """Whoever serves or delivers must be able to open what is stored; raises StartRefused.

    Commands that read the audit log or count messages need no key.
    """
    try:
        in_use = rekey.keys_in_use(store)
    except StoreUnavailable as fault:
        store.close()
        raise StartRefused(f"CDS_DATABASE_URL: {fault}") from fault
    missing = sorted(in_use - store.sealing.fingerprints - {*settings.store_keys_lost})
    if missing:
        store.close()
        held = ", ".join(sorted(store.sealing.fingerprints)) or "none"
        raise StartRefused(
            f"CDS_STORE_KEYS: the store has rows sealed with {', '.join(missing)}; given: {held}. "
            "Give the missing keys too, after the first if another is to seal. A key that is lost "
            "for good is named in CDS_STORE_KEYS_LOST: its rows stay unreadable."
        )


def load_models(
    settings: Settings, definitions: dict[str, ServiceDefinition]
) -> dict[str, LoadedModel]:
    """Model name -> model, for every model that hooks.json names; raises StartRefused."""
    versions: dict[str, str] = {}
    for definition in definitions.values():
        served = versions.setdefault(definition.model, definition.model_version)
        if served != definition.model_version:
            raise StartRefused(
                f"{settings.hooks_file}: two versions of model '{definition.model}' are named, "
                f"{served} and {definition.model_version}; one process serves one of them"
            )
    if not versions:
        raise StartRefused(f"{settings.hooks_file}: no service is defined")
    return {name: load(settings, name, version) for name, version in versions.items()}


def load(settings: Settings, name: str, version: str) -> LoadedModel:
    """One verified artifact and the mapping compiled from its manifest; raises StartRefused."""
    directory = settings.model_dir / name / version
    try:
        model = load_model(directory)
        mapping = compile_mapping(load_catalog(), model.manifest.raw)
    except (ArtifactError, MappingError) as fault:
        raise StartRefused(f"{directory}: {fault}") from fault
    found = (model.manifest.name, model.manifest.version)
    if found != (name, version):
        raise StartRefused(f"{directory}: the manifest is that of {found[0]} {found[1]}")
    return LoadedModel(model=model, mapping=mapping)


def check_prefetch(definition: ServiceDefinition, loaded: LoadedModel) -> None:
    """hooks.json must ask for what the mapping reads: `cds-service hooks write` makes it so."""
    wanted = prefetch_templates(loaded.mapping)
    differing = sorted(
        key
        for key in wanted.keys() | definition.prefetch.keys()
        if wanted.get(key) != definition.prefetch.get(key)
    )
    if differing:
        raise StartRefused(
            f"service '{definition.id}': its prefetch templates {differing} are not those of model "
            f"{definition.model} {definition.model_version}; run `cds-service hooks write`"
        )


def check_wording(definition: ServiceDefinition, loaded: LoadedModel) -> None:
    """hooks.json may only word what its model can say; a misspelt level would show no card."""
    manifest = loaded.model.manifest
    levels = {band.level for band in manifest.levels}
    bands = {band["id"] for rule in manifest.raw.get("settled_by", ()) for band in rule["bands"]}
    wording = definition.wording
    strangers = sorted({*wording.levels} - levels | {*wording.settled} - bands)
    if strangers:
        raise StartRefused(
            f"service '{definition.id}': hooks.json words {strangers}, which model "
            f"{definition.model} {definition.model_version} never says"
        )


def application(parts: Parts) -> FastAPI:
    """The ASGI application around `parts`. Middleware is listed from the outside in."""
    refusals = Refusals()
    app = FastAPI(
        title="cds-service",
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        middleware=[
            Middleware(Cors, settings=parts.settings),
            Middleware(Observe, metrics=parts.metrics),
            Middleware(AuditCalls, parts=parts, refusals=refusals),
            Middleware(Calls, settings=parts.settings),
            Middleware(services.HookCalls, parts=parts),
        ],
        exception_handlers={
            ServiceError: answer_service_error,
            HTTPException: answer_http_exception,
            RequestValidationError: answer_validation_error,
        },
    )
    app.state.parts, app.state.refusals = parts, refusals
    for routes in (discovery, services, feedback, predict, fhir, health, pages):
        app.include_router(routes.router(parts))
    return app


# What delivery may take to finish what is in flight; a message that is cut off here is due again
# when its lease ends.
STOP_SECONDS = 25.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
    """Delivery runs while the service does, unless it runs apart; then the connections are
    closed."""
    parts: Parts = app.state.parts
    make_room_for_threads(parts.settings)
    stop = asyncio.Event()
    running = [asyncio.create_task(keep_writing(parts, app.state.refusals, stop))]
    if parts.settings.delivery == "in-process":
        worker = asyncio.create_task(delivery.run(parts, stop))
        worker.add_done_callback(tell_end)
        running.append(worker)
    log.info(
        "started",
        profile=parts.settings.profile,
        services=list(parts.services),
        delivery=parts.settings.delivery,
    )
    try:
        yield {
            HEAD_SECONDS: parts.settings.read_timeout_ms / 1000,
            MOST_CONNECTIONS: parts.settings.max_connections,
        }
    finally:
        stop.set()
        _, unfinished = await asyncio.wait(running, timeout=STOP_SECONDS)
        for task in unfinished:
            task.cancel()
        await parts.fhir.close()
        await parts.clients.close()
        await to_thread.run_sync(parts.store.close)


# For what runs in threads beside the calls: monitors, delivery.
SPARE_THREADS = 8


def make_room_for_threads(settings: Settings) -> None:
    """Each call may have a thread, and a full house must not keep a monitor waiting."""
    threads = to_thread.current_default_thread_limiter()
    wanted = settings.max_concurrent_calls + SPARE_THREADS
    threads.total_tokens = max(threads.total_tokens, wanted)


def tell_end(worker: asyncio.Task[None]) -> None:
    """Delivery ends when it is told to. If it dies before, calls are still answered and stored."""
    if not worker.cancelled() and (fault := worker.exception()) is not None:
        log.error("delivery worker ended", exc_info=fault)
