"""`qazyna erase`: erase what is personal at a request, and again after a restore (docs/erasure.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.erasure.listing import Reason
from ledger.records import reject

if TYPE_CHECKING:
    from gateway.erasure.service import Erasure, Found
    from gateway.server import Server

app = typer.Typer(no_args_is_help=True, help="Erase what is personal, and keep it erased.")

Why = Annotated[Reason, typer.Option("--reason", help="why it is erased")]
Filed = Annotated[str, typer.Option("--request", help="the reference of the request; no name, no number")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
Files = Annotated[bool, typer.Option("--remove-files", help="remove the bank's files that tell of it, too")]


@app.command()
def payment(
    invoice: Annotated[str, typer.Argument(help="the invoice's id")],
    reason: Why,
    request: Filed,
    words: Annotated[bool, typer.Option(help="also the title and reference that a merchant wrote")] = False,
    remove_files: Files = False,
    yes: Yes = False,
) -> None:
    """Erase what is personal about the payment of an invoice; proofs and money stay."""
    with _server() as server:
        erasure = server.erasure
        _carry_out(erasure, erasure.payment(invoice, words=words), reason, request, remove_files, yes)


@app.command()
def person(reason: Why, request: Filed, remove_files: Files = False, yes: Yes = False) -> None:
    """Erase what names a person, who is asked for and not given here: commands are remembered by shells."""
    with _server() as server:
        typed = typer.prompt("IBAN, IIN or BIN, telephone or e-mail (not shown)", hide_input=True)
        erasure = server.erasure
        _carry_out(erasure, erasure.person(typed), reason, request, remove_files, yes)


@app.command()
def again() -> None:
    """Erase whatever is on the list and is in the database again; every start does this by itself."""
    with _server() as server:
        print(f"{server.erasure.again()} rows erased again")


def _server() -> Server:
    from gateway.operator_cli import check_tables
    from gateway.server import Server
    from gateway.settings import Mode, Settings

    settings = Settings()
    if settings.mode is Mode.PRODUCTION and settings.erasures is None:
        why = "name a file that no backup of the folder or of the database brings back"
        reject("settings", "QAZYNA_ERASURES", why)
    server = Server(settings)
    check_tables(server)
    return server


def _carry_out(
    erasure: Erasure, found: Found, reason: Reason, request: str, remove_files: bool, yes: bool
) -> None:
    for target in sorted(found.targets):
        print(f"erase  {target.what.value} {target.name}")
    for kept in found.kept:
        print(f"kept   {kept}: accounting, or what staff answer for (docs/erasure.md)")
    for path in found.files:
        print(f"{'remove' if remove_files else 'file'}   {path}")
    if not yes:
        typer.confirm("This cannot be undone. Go on?", abort=True)
    rows = erasure.carry_out(found, reason, request)
    if remove_files:
        for path in found.files:
            path.unlink(missing_ok=True)
    elif found.files:
        print("The bank's files above still tell of it: remove them once their day is closed.")
    print(f"{rows} rows erased; the request is on the list")
