"""`qazyna ledger`: what an operator does to the ledger itself: found it, act on it, book, restore."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.operator_cli import check_tables
from ledger.records import hash_struct, reject
from ledger.target import Target, open_target, read

if TYPE_CHECKING:
    from gateway.acts import Stand
    from ledger.rules import Proposal, State

app = typer.Typer(
    no_args_is_help=True,
    help="The ledger itself: found it, act on it, book what the treasury paid, restore it.",
)

Payees = Annotated[
    Path | None, typer.Option(help="papers of the payees in the file: IBAN and BIN in the clear")
]
StateBodies = Annotated[Path | None, typer.Option(help="your own list of state bodies by BIN")]
Dry = Annotated[bool, typer.Option("--dry-run", help="write nothing: say what would be")]


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
    payees: Payees = None,
    state_bodies: StateBodies = None,
    is_dry: Dry = False,
) -> None:
    """Record the founding acts of a fresh ledger, as far as there are signatures; ask again at any time.

    Leaves a file of typed data in to-sign/ for each proposal that waits; put what `qazyna sign` prints of it
    into signed/ and ask again. No worker may be the writer meanwhile.
    """
    from gateway.acts_file import check_payees
    from gateway.contracts_cli import load_founding
    from gateway.founding import Founder, first_round, read_acts
    from gateway.server import Server
    from gateway.settings import Settings
    from gateway.signing_folder import SigningFolder
    from ledger.audit.papers import STATE_BODIES
    from ledger.following import Follower
    from ledger.writer import Writer, only_writer

    settings = Settings()
    with Server(settings) as server, ExitStack() as stack:
        check_tables(server)
        legal, rounds = read_acts(acts, server.plan)
        check_payees(rounds, payees, state_bodies or STATE_BODIES, server.clock())
        rounds.insert(0, first_round(load_founding(founding), server.plan, legal))
        now = server.clock()
        place = SigningFolder(folder or settings.folder / "found", now)
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
        for path in place.write_requests(writer.state, stand.waiting):
            print(f"to sign: {path}")
        _tell(len(rounds), stand.rounds, len(stand.waiting), "")
        if stand.waiting and stand.rounds == len(rounds):
            reject("found", "rounds", f"{len(stand.waiting)} proposals wait after {stand.rounds} rounds")


@app.command()
def act(
    acts: Annotated[Path, typer.Argument(help="the acts in rounds, as of the founding, without Genesis")],
    folder: Annotated[
        Path | None,
        typer.Option(
            help="where `to-sign` and `signed` are; without: acts/<the file's name> in the city's folder"
        ),
    ] = None,
    payees: Payees = None,
    state_bodies: StateBodies = None,
    wait: Annotated[int, typer.Option(help="seconds in which the worker is to answer")] = 30,
    is_dry: Dry = False,
) -> None:
    """Have acts of a founded city recorded, as far as there are signatures; ask again at any time.

    The running worker records them. Leaves a file of typed data in to-sign/ for each proposal that waits; put
    what `qazyna sign` prints of it into signed/ and ask again.
    """
    from gateway.acts import Acts, Inbox, read_acts, state_of
    from gateway.acts_file import check_payees
    from gateway.server import Server
    from gateway.settings import Settings
    from gateway.signing_folder import SigningFolder
    from ledger.audit.papers import STATE_BODIES

    settings = Settings()
    with Server(settings) as server:
        check_tables(server)
        rounds, now = read_acts(acts, server.plan), server.clock()
        check_payees(rounds, payees, state_bodies or STATE_BODIES, now)
        place = SigningFolder(folder or settings.folder / "acts" / acts.stem, now)
        follow = state_of(server.engine, server.heads)
        inbox = None if is_dry else Inbox(server.engine, server.clock, wait)
        doing = Acts(rounds, place, _dry if is_dry else print, server.engine, follow, inbox, now)
        stand = doing.go_on()
        _tell_acts(doing.state, stand, len(rounds), now, is_dry=is_dry)
        if not is_dry:
            for path in place.write_requests(doing.state, stand.waiting):
                print(f"to sign: {path}")


@app.command()
def restore(
    bundle: Annotated[
        str, typer.Option(help="the public bundle: a folder, an address of /log, or a URL of fsspec")
    ] = "",
) -> None:
    """Bring a lost or older database up to the public bundle; without --bundle, the one of the settings.

    Every record goes through the rules again and must lead to the signed root. Run it again if it dies: it
    goes on. No worker may be the writer meanwhile. What is not public does not come back: evidence, invoices,
    merchants, what still waited.
    """
    from gateway.server import Server
    from gateway.settings import Settings
    from ledger.restore import restore as restore_ledger
    from ledger.writer import Writer, only_writer

    settings = Settings()
    with Server(settings) as server, ExitStack() as stack:
        keys = server.log_keys()
        source = _source(bundle) if bundle else open_target(settings.bundle_place)
        # Before there is a table: a bundle that is not there costs nothing.
        read(source, "checkpoint")
        server.upgrade()
        stack.enter_context(only_writer(server.engine, settings.folder / "writer.lock"))
        came = restore_ledger(server.engine, server.heads, source, keys, keys.verifiers(), _Twentieths())
        # As any writer starts: what it takes up must be what was signed.
        writer = Writer(server.engine, server.heads, keys, server.clock)
        size, root = writer.tree.size, writer.tree.root().hex()
        print(f"restored: {came} records came back, the ledger has {size}, root {root}")
        for index, rule in sorted(writer.state.breaches.items()):
            how = "acknowledged" if index in writer.state.acknowledged else "which no act acknowledges"
            print(f"breach: record {index} breaks {rule}, {how}")


@app.command()
def book(
    order: Annotated[str, typer.Argument(metavar="HASH", help="0x and the order's hashStruct")],
    transaction: Annotated[str, typer.Argument(help="0x and the transaction that executed it")],
    pull: Annotated[
        str, typer.Option(help="0x and a later pull, where the payee could not receive and was credited")
    ] = "",
) -> None:
    """Have the ledger book an order that the Treasury contract has paid; the writer records it.

    Asked for again, nothing comes of it twice. What the ledger refused is asked for again, once a day.
    """
    from gateway.budget.acts import ask_to_book, payment
    from gateway.rails.evm.receipts import final_logs
    from gateway.server import Server
    from gateway.settings import Settings
    from ledger.following import Follower

    named, places = _hash(order, "HASH"), [_hash(transaction, "TRANSACTION")]
    places += [_hash(pull, "--pull")] if pull else []
    with Server(Settings()) as server:
        check_tables(server)
        logs = [log for place in places for log in final_logs(server.pool, place)]
        record, document = payment(Follower(server.engine, server.heads).follow(), logs, named)
        id = ask_to_book(server.engine, record, document, server.clock())
    moved = f"{record.amount} {record.asset} from {record.credit} to {record.debit}"
    print(f"asked: transfer 0x{id.hex()} of {moved}; the writer records it")


def _hash(text: str, where: str) -> bytes:
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
        reject("book", where, f"{text[:80]!a} has {len(text)} characters, expected 0x and 32 bytes in hex")
    return bytes.fromhex(text[2:])


class _Twentieths:
    """Says how far long work is, at most twenty times for each part of it."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        part = 20 * done // total if total else 20
        if part > self._said.get(what, 0):
            self._said[what] = part
            print(f"{what}: {done} of {total} records", file=sys.stderr)


class _Readable:
    """A bundle behind an address, or in a folder of somebody else's: it is read, and never written."""

    def __init__(self, place: str) -> None:
        from ledger.audit.source import open_source

        self._source = open_source(place)

    def find(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        return self._source.read(path)

    def write(self, path: str, content: bytes) -> None:  # noqa: ARG002 - of a Target
        """Nothing of a bundle that is read is written."""
        raise AssertionError(path)


def _source(place: str) -> Target:
    is_ours = "://" in place and not place.startswith(("http://", "https://"))
    return open_target(place) if is_ours else _Readable(place)


def _dry(line: str) -> None:
    print(f"would be: {line}")


def _tell(rounds: int, done: int, waiting: int, how: str) -> None:
    if done == rounds:
        print(f"founded: all {rounds} rounds {how}in effect")
    else:
        print(f"waiting: {done} of {rounds} rounds {how}in effect, {waiting} proposals need signatures")


def _tell_acts(state: State, stand: Stand, rounds: int, now: int, *, is_dry: bool) -> None:
    """Say what is in effect and what waits for whom; a rehearsal has no hashes that anybody could use."""
    from gateway.acts import in_force_s, missing_signatures
    from gateway.kz import business_date

    def named(one: Proposal) -> str:
        kind = f"record {one.index} {type(one.record).__name__}"
        return kind if is_dry else f"{kind} 0x{hash_struct(one.record).hex()}"

    def moment(time_s: int) -> str:
        return f"{business_date(time_s).isoformat()} in Almaty (second {time_s} UTC)"

    how = "would be " if is_dry else ""
    for one in stand.effective:
        start = in_force_s(state, one)
        print(f"{how}in effect: {named(one)}" + (f", in force from {moment(start)}" if start > now else ""))
    for one in stand.waiting:
        roles = missing_signatures(state, one, now).items()
        told = ", ".join(
            f"{role} {max(needed - given, 0)} more of {needed}" for role, (given, needed) in roles
        )
        print(f"{how}to be signed: {named(one)}: {told}")
    done = f"{stand.rounds} of {rounds} rounds {how}in effect"
    if stand.waiting:
        print(f"waiting: {done}, {len(stand.waiting)} proposals need signatures")
    elif stand.rounds < rounds:
        print(f"waiting: {done}, round {stand.rounds + 1} is proposed from {moment(stand.until_s)} on")
    else:
        print(f"acts: all {rounds} rounds {how}in effect")
