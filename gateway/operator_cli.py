"""The operator's commands: serve, work, bring the database up to date. Settings come from the environment."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from ledger.records import reject

if TYPE_CHECKING:
    from gateway.exports.tables import Shape
    from gateway.server import Server

console = Console(highlight=False)
database = typer.Typer(no_args_is_help=True, help="The databases' tables.")
export = typer.Typer(no_args_is_help=True, help="Take everything out.")
bring = typer.Typer(no_args_is_help=True, help="Bring everything in again.")
Only = Annotated[list[str] | None, typer.Option("--only", help="a step; again for each; without: all")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(worker)
    app.add_typer(database, name="db")
    app.add_typer(export, name="export")
    app.add_typer(bring, name="import")


def worker(
    only: Only = None,
    list_steps: Annotated[bool, typer.Option("--list", help="name the steps and end")] = False,
) -> None:
    """Do the gateway's work until SIGTERM: watch chains and bank, book, record, publish, send webhooks."""
    from gateway.metrics import Health, registry_of, serve
    from gateway.server import Server
    from gateway.settings import Settings
    from gateway.steps.loop import Loop

    _log()
    with Server(Settings()) as server:
        check_tables(server)
        server.erasure.again()
        steps = server.steps(only or [])
        if list_steps:
            for step in steps:
                told = "any number at once" if step.shared else "one at a time"
                console.print(f"{step.name:10} every {step.every_s:g} s, within {step.budget_s:g} s, {told}")
            return
        loop = Loop(server.engine, steps)
        stop = _until_told()
        server.measures.loop = loop
        health = Health(server.engine, loop, stop)
        settings = server.settings
        served = serve(registry_of(server.measures), health, settings.metrics_host, settings.metrics_port)
        console.print(
            f"working: {', '.join(step.name for step in steps)}; metrics at "
            f"http://{settings.metrics_host}:{served.server_port}/metrics",
            soft_wrap=True,
        )
        try:
            loop.run(stop)
        finally:
            served.shutdown()
            served.server_close()
    console.print("stopped")


def serve_city() -> None:
    """Serve pages, API and the public log by the settings, until SIGTERM."""
    import uvicorn

    from gateway.metrics import Health, serve
    from gateway.server import Server
    from gateway.settings import Settings

    _log()
    with Server(Settings()) as server:
        check_tables(server)
        server.erasure.again()
        settings, app = server.settings, server.application()
        served = serve(server.registry, Health(server.engine), settings.metrics_host, settings.metrics_port)
        console.print(
            f"serving {settings.public_url}/ on {settings.host}:{settings.port}; metrics at "
            f"http://{settings.metrics_host}:{served.server_port}/metrics",
            soft_wrap=True,
        )
        # Uvicorn ends gracefully and then raises the signal again: from there on it is ours, and no death.
        _until_told()
        try:
            uvicorn.run(
                app,
                host=settings.host,
                port=settings.port,
                log_level="warning",
                timeout_graceful_shutdown=30,
            )
        finally:
            served.shutdown()
            served.server_close()


@database.command()
def upgrade() -> None:
    """Bring the databases to the tables of this version; an empty one gets all of them."""
    from gateway.server import Server
    from gateway.settings import Settings

    with Server(Settings()) as server:
        server.upgrade()
        for name, found, wanted in server.versions():
            console.print(f"{name}: {found} of {wanted}")


@database.command()
def check() -> None:
    """Say at which step the databases' tables are; refused where they are not of this version."""
    from gateway.server import Server
    from gateway.settings import Settings

    with Server(Settings()) as server:
        for name, found, wanted in server.versions():
            console.print(f"{name}: {found} of {wanted}")
        check_tables(server)


@export.command("tables")
def export_tables(
    folder: Annotated[Path, typer.Argument(help="an empty or new folder")],
    shape: Annotated[str, typer.Option(help="jsonl or csv")] = "jsonl",
    private: Annotated[bool, typer.Option("--private", help="with what is personal")] = False,
) -> None:
    """Write every table of gateway, ledger and signed heads into FOLDER, with a manifest."""
    from gateway.exports.tables import databases, export_all
    from gateway.server import Server
    from gateway.settings import Settings

    if shape not in {"jsonl", "csv"}:
        reject("export", "shape", f"jsonl or csv, not {shape[:20]!a}")
    with Server(Settings()) as server:
        check_tables(server)
        server.erasure.again()
        sources = databases(server.engine, server.heads)
        export_all(sources, folder, cast("Shape", shape), console.print, private=private)


@bring.command("tables")
def import_tables(folder: Annotated[Path, typer.Argument(help="made by `qazyna export tables`")]) -> None:
    """Fill the empty databases of the settings from FOLDER; the tables are made first."""
    from gateway.exports.tables import databases, import_all
    from gateway.server import Server
    from gateway.settings import Settings

    with Server(Settings()) as server:
        server.upgrade()
        import_all(databases(server.engine, server.heads), folder, console.print)
        # Nothing has been served from it yet.
        console.print(f"erased again: {server.erasure.again()} rows")


def check_tables(server: Server) -> None:
    """Refuse databases whose tables are not of this version."""
    for name, found, wanted in server.versions():
        if found != wanted:
            reject(
                "database", name, f"its tables are of step {found}, wanted is {wanted}: `qazyna db upgrade`"
            )


def _until_told() -> threading.Event:
    """An event that SIGTERM and SIGINT set; what is under way is finished first."""
    stop = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: stop.set())
    return stop


def _log() -> None:
    shape = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=shape, stream=sys.stderr)
    # One line for each request to a node or a rate source is too many, and a URL can hold a node's key.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
