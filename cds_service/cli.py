"""`cds-service`: the one program. Offline commands of other packages join it by entry point."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.text import Text

from cds_service import __version__
from cds_service.app import START_FAULTS, assemble, create_app_from_environment, utc_now
from cds_service.audit_cli import audit
from cds_service.demo.cli import demo
from cds_service.hooks_file import hooks
from cds_service.limits.connection import LARGEST_HEAD_BYTES, bounded_protocol
from cds_service.log import configure_logging
from cds_service.outbox_cli import outbox
from cds_service.replay_cli import replay
from cds_service.score import score
from cds_service.settings import Settings
from cds_service.store_cli import store

COMMANDS = "cds_service.commands"
# Beyond the longest that a call may take: what is in flight at SIGTERM is answered.
GRACE_SECONDS = 10
# A worker says nothing before everything is imported. uvicorn's five seconds are too few on a busy
# machine: it would be killed and begun anew, again and again.
WORKER_SECONDS = 60

program = typer.Typer(
    help="Clinical decision support for risk prediction, over CDS Hooks and FHIR.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they could hold a patient's record
)
program.add_typer(audit, name="audit")
program.add_typer(demo, name="demo")
program.add_typer(hooks, name="hooks")
program.add_typer(outbox, name="outbox")
program.add_typer(store, name="store")
program.command(epilog="Example: cds-service score request.json")(score)
program.command(epilog="Example: cds-service replay --all --since 2026-11-01")(replay)


@program.callback(invoke_without_command=True)
def _program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@program.command(epilog="Example: CDS_PROFILE=demo cds-service serve --port 8000")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes to serve with.", show_default="CDS_WORKERS, or 1", min=1),
    ] = None,
) -> None:
    """Start the service; its settings come from the environment (CDS_…)."""
    os.environ.setdefault("CDS_PUBLIC_URL", f"http://{reachable(host)}:{port}")
    settings = Settings.from_environment(os.environ)
    count = workers or settings.workers
    if count == 1:
        app = create_app_from_environment()
        announce(settings)
        listen(app, host, port, grace=grace_of(settings))
        return
    # Once here, so that what is wrong is said once and not by every worker again and again.
    configure_logging(settings.log_level)
    assemble(settings, utc_now).store.close()
    announce(settings)
    with tempfile.TemporaryDirectory(prefix="cds-metrics-") as directory:
        # Each worker counts for itself; /metrics adds them up through this folder.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", directory)
        factory = "cds_service.app:create_app_from_environment"
        listen(factory, host, port, grace=grace_of(settings), workers=count)


def grace_of(settings: Settings) -> int:
    """Seconds that calls in flight have to finish when a signal says stop."""
    return settings.call_timeout_ms // 1000 + GRACE_SECONDS


def listen(
    app: FastAPI | str, host: str, port: int, *, grace: int, workers: int | None = None
) -> None:
    """Serve until a signal says stop; what is in flight then is finished. A str is a factory."""
    uvicorn.run(
        app,
        factory=isinstance(app, str),
        workers=workers,
        host=host,
        port=port,
        # Ours has the route and the outcome; uvicorn's has the query, and with it the patient.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=grace,
        timeout_worker_healthcheck=WORKER_SECONDS,
        http=bounded_protocol(),
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
        ws="none",
    )


def reachable(host: str) -> str:
    """The host of a URL under which a listener on `host` is found on this machine."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 (compared with, not listened on)
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def announce(settings: Settings) -> None:
    """The URL to open, for a person at a terminal; the log goes to stderr."""
    console = Console()
    if settings.demo:
        console.print(Text.assemble(("Open ", "bold"), (f"{settings.public_url}/", "bold cyan")))
        console.print("Demo profile: calls without a JWT are answered. Made-up patients only.")
    else:
        console.print(Text(f"CDS Hooks discovery: {settings.public_url}/cds-services"))


# What the list says of commands that are not loaded for it.
_OFFLINE = {
    "data": "Fetch public data to train on.",
    "evaluate": "Measure a published model on other people than those it was made from.",
    "models": "List, show and compare published models.",
    "train": "Train a model on NHANES, MIMIC-III or FHIR records, measure it, and publish it.",
}


def add_offline_commands(to: typer.Typer, arguments: list[str]) -> None:
    """Commands of other packages. One is imported only when it is called: training code takes
    seconds and hundreds of megabytes to load, and may not be installed where the service runs."""
    for entry in entry_points(group=COMMANDS):
        if arguments[:1] == [entry.name]:
            add_offline_command(to, entry)
        else:
            said = _OFFLINE.get(entry.name, f"See `cds-service {entry.name} --help`.")
            to.command(entry.name, help=said)(_listed)


def add_offline_command(to: typer.Typer, entry: EntryPoint) -> None:
    """The command itself, or one that says what to install for it."""
    try:
        to.add_typer(entry.load(), name=entry.name)
    except ModuleNotFoundError as fault:
        needs = (
            f"`cds-service {entry.name}` needs packages that the service itself does without "
            f"({fault.name} is missing). Install them: pip install 'cds-service[training]'"
        )
        anything = {"ignore_unknown_options": True, "allow_extra_args": True}

        def tell() -> None:
            typer.echo(needs, err=True)
            raise typer.Exit(2)

        to.command(entry.name, help=needs, context_settings=anything)(tell)


def _listed() -> None:
    """Never called: a command that is called is the command itself."""


def main() -> None:
    """The program's entry point."""
    add_offline_commands(program, sys.argv[1:])
    try:
        program(prog_name="cds-service")
    except START_FAULTS as fault:
        Console(stderr=True).print(Text(str(fault), style="red"), soft_wrap=True)
        sys.exit(2)
