"""The command `qazyna`."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway import (
    bringing_cli,
    contracts_cli,
    erasure_cli,
    keys_cli,
    ledger_cli,
    operator_cli,
    resumption_cli,
    signing_cli,
)
from ledger.proof import check_receipt, parse_receipt, parse_vkey
from ledger.records import Invalid, Unavailable, as_json, decode
from ledger.store import asking

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Payments and a public ledger for a city.",
)
bringing_cli.register(contracts_cli.app)
contracts_cli.app.add_typer(resumption_cli.app, name="resume")
app.add_typer(contracts_cli.app, name="contracts")
app.add_typer(erasure_cli.app, name="erase")
app.add_typer(keys_cli.app, name="keys")
app.add_typer(ledger_cli.app, name="ledger")
app.command()(signing_cli.sign)
console = Console(highlight=False)
DEMO_FOLDER = Path("var/demo")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where the city is built; it is emptied first")] = DEMO_FOLDER,
) -> None:
    """Run a city's day on the embedded default, and leave its public bundle in FOLDER/bundle."""
    from gateway.demo import DemoFailed, run_day

    if folder.exists():
        if any(folder.iterdir()) and not (folder / "keys.json").exists():
            raise Invalid("demo", str(folder), "this folder has something else than a demonstration in it")
        shutil.rmtree(folder)
    started = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {line}", soft_wrap=True)

    try:
        run_day(folder, say)
    except DemoFailed as failed:
        console.print(f"[red]failed:[/red] {failed}")
        raise typer.Exit(1) from None
    console.print(f"the public bundle: {folder / 'bundle'}   a resident's receipt: {folder / 'receipt.txt'}")


@app.command()
def serve(
    folder: Annotated[Path, typer.Option(help="a city made by `qazyna demo`")] = DEMO_FOLDER,
    host: str = "127.0.0.1",
    port: int = 8000,
    chain_port: Annotated[int, typer.Option(help="where the in-process chain answers JSON-RPC")] = 8545,
    mode: Annotated[str, typer.Option(help="sample, or server: by QAZYNA_... settings")] = "sample",
) -> None:
    """Serve a demo city: pages, API and the public log; it is made first if there is none."""
    import uvicorn

    if mode == "server":
        operator_cli.serve_city()
        return

    from gateway.app import create_app
    from gateway.embedded import Clock, EmbeddedCity
    from gateway.metrics import Health, registry_of
    from gateway.metrics import serve as serve_metrics
    from gateway.plan import Plan
    from gateway.sample_keys import sample_keys

    if not (folder / "plan.json").exists():
        demo(folder)
    public_url = f"http://{host}:{port}"
    with EmbeddedCity(folder, Clock.load(folder), chain_port=chain_port) as city:
        city.start(Plan.load(city.plan_path), public_url)
        stop = threading.Event()
        background = threading.Thread(target=city.run, args=(stop,), daemon=True)
        background.start()
        _say("the city", f"{public_url}/")
        _say("its log", f"{public_url}/log/")
        _say("its chain", city.outside.rpc_url)
        metrics = serve_metrics(registry_of(city.measures), Health(city.gateway.engine), "127.0.0.1", 0)
        _say("what an operator watches", f"http://127.0.0.1:{metrics.server_port}/metrics")
        keys = sample_keys(city.gateway, folder)
        _say("for a merchant, a cashier and an operator", f"{public_url}/sign-in")
        _say("their keys", str(keys))
        try:
            uvicorn.run(create_app(city.gateway), host=host, port=port, log_level="warning")
        finally:
            stop.set()
            background.join(30)
            metrics.shutdown()
            metrics.server_close()


def _say(what: str, where: str) -> None:
    # One thing a line, never broken: people copy it.
    console.print(f"{what}: {where}", soft_wrap=True)


@app.command()
def pay(
    invoice: Annotated[str, typer.Argument(help="the address of its page, or the invoice's id at its end")],
    folder: Annotated[Path, typer.Option(help="the demo city that is being served")] = DEMO_FOLDER,
    rpc: Annotated[str, typer.Option(help="its chain")] = "http://127.0.0.1:8545",
) -> None:
    """Pay an invoice of a served demo city as its payer would: by bank, or to its deposit address."""
    from gateway.sample_payer import pay_sample

    console.print(pay_sample(folder, invoice, rpc))


@app.command()
def show(
    receipt: Annotated[Path, typer.Argument(help="a receipt (tlog-proof)")],
    trust: Annotated[Path, typer.Option(help="trust.json with the keys that you believe")],
) -> None:
    """Check a receipt offline against keys that you trust, and show the record that it proves."""
    content = receipt.read_bytes()
    verifiers = [parse_vkey(vkey) for vkey in json.loads(trust.read_text())["vkeys"]]
    entry = parse_receipt(content).extra
    checkpoint = check_receipt(content, entry, verifiers, witnesses=1)
    told = as_json(decode(entry))
    for name, value in told.items():
        console.print(f"{name:>12}  {value}", soft_wrap=True)
    index = parse_receipt(content).index
    print(f"valid: record {index} of {checkpoint.size}, signed by the log and witnessed, {checkpoint.origin}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def audit(context: typer.Context) -> None:
    """Audit a public bundle: the same words as for `python -m ledger.audit`."""
    from ledger.audit.__main__ import main as audit_main

    raise typer.Exit(audit_main(context.args))


operator_cli.register(app)


def main() -> None:
    """Run a command; what is refused or unavailable is one line, never a traceback."""
    try:
        # A database that is not there is named like any other service that does not answer.
        with asking("database"):
            app()
    except Invalid as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(1)
    except Unavailable as error:
        print(f"unavailable: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
