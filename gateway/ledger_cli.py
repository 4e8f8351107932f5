"""`qazyna ledger`: what an operator does to the ledger itself."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ledger.records import reject

app = typer.Typer(no_args_is_help=True, help="The ledger itself: its founding.")


@app.callback()
def ledger() -> None:
    """The ledger itself."""


@app.command()
def found(
    founding: Annotated[Path, typer.Argument(help="founding.json, as for `qazyna contracts deploy`")],
    acts: Annotated[
        Path, typer.Option("--plan", help="acts.json: legalRef, and the Council's acts in rounds")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(help="where `to-sign` and `signed` are; without: found/ in the city's folder"),
    ] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="write nothing: say what would be")] = False,
) -> None:
    """Record the founding acts of a fresh ledger, as far as there are signatures; ask again at any time.

    Leaves a file of typed data in to-sign/ for each proposal that waits; put what `qazyna sign` prints of it
    into signed/ and ask again. No worker may be the writer meanwhile.
    """
    from gateway.contracts_cli import load_founding
    from gateway.founding import Founder, first_round, read_acts
    from gateway.operator_cli import check_tables
    from gateway.server import Server
    from gateway.settings import Settings
    from ledger.following import Follower
    from ledger.writer import Writer, only_writer

    settings = Settings()
    with Server(settings) as server, ExitStack() as stack:
        check_tables(server)
        legal, rounds = read_acts(acts, server.plan)
        rounds.insert(0, first_round(load_founding(founding), server.plan, legal))
        place, now = folder or settings.folder / "found", server.clock()
        if is_dry:
            state = Follower(server.engine, server.heads).follow()
            stand = Founder(rounds, place, _dry, None, now).go_on(state)
            _tell(len(rounds), stand.rounds, len(stand.waiting), "would be ")
            return
        stack.enter_context(only_writer(server.engine, settings.folder / "writer.lock"))
        writer = Writer(
            server.engine, server.heads, server.log_keys(), server.clock, timekeeper=server.timekeeper
        )
        founder = Founder(rounds, place, print, writer, now)
        stand = founder.go_on(writer.state)
        for path in founder.write_requests(writer.state, stand.waiting):
            print(f"to sign: {path}")
        _tell(len(rounds), stand.rounds, len(stand.waiting), "")
        if stand.waiting and stand.rounds == len(rounds):
            reject("found", "rounds", f"{len(stand.waiting)} proposals wait after {stand.rounds} rounds")


def _dry(line: str) -> None:
    print(f"would be: {line}")


def _tell(rounds: int, done: int, waiting: int, how: str) -> None:
    if done == rounds:
        print(f"founded: all {rounds} rounds {how}in effect")
    else:
        print(f"waiting: {done} of {rounds} rounds {how}in effect, {waiting} proposals need signatures")
