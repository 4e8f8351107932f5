"""`qazyna sign`: what a signature would mean, on a second device, before it is given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.budget.explain import explain, explain_papers, explain_typed
from gateway.budget.typed_data import Typed, message_hash, read_record_json, read_typed_data
from gateway.keyfile import read_key
from ledger.audit.papers import STATE_BODIES, read_papers, read_state_bodies
from ledger.records import Record, decode, hash_struct, reject

STDIN = Path("-")


def sign(
    file: Annotated[
        Path, typer.Argument(help="typed data as JSON, or a record's bytes or hex; - is standard input")
    ],
    explained: Annotated[bool, typer.Option("--explain", help="say what it means, and sign nothing")] = False,
    language: Annotated[str, typer.Option(help="kk, ru or en")] = "en",
    expect: Annotated[str, typer.Option(help="the hash that the wallet shows; another one is refused")] = "",
    papers: Annotated[
        Path | None, typer.Option(help="the payee's papers, IBAN and BIN in the clear: is it the republic?")
    ] = None,
    state_bodies: Annotated[Path | None, typer.Option(help="your own list of state bodies by BIN")] = None,
    key: Annotated[Path | None, typer.Option(help="the seat's key: a keystore (JSON), or hex")] = None,
) -> None:
    """Compute the hashes of what is to be signed again, say what it means, and sign it if a key is given."""
    asked = read_asked(file)
    if isinstance(asked, Typed):
        lines = explain_typed(asked, language)
        hashes = {asked.digest, message_hash(asked), asked.approves}
    else:
        lines, hashes = explain(asked, language), {hash_struct(asked)}
    if papers is not None:
        record = asked.record if isinstance(asked, Typed) else asked
        bodies = read_state_bodies(state_bodies or STATE_BODIES)
        # First, so that nobody signs before having read it.
        lines = [*explain_papers(record, read_papers(papers), bodies, language), *lines]
    print("\n".join(lines))
    if expect and expect.lower() not in {f"0x{each.hex()}" for each in hashes}:
        reject("FF58", "expect", f"{expect} is none of {', '.join(f'0x{each.hex()}' for each in hashes)}")
    if explained:
        return
    if key is None:
        reject("key", "sign", "--key FILE signs, --explain only explains")
    if not isinstance(asked, Typed):
        reject("key", "sign", "a record alone has no domain and no last second: typed data is what is signed")
    from contracts.bindings import sign_digest

    given = sign_digest(read_key(key), asked.digest, asked.valid_until)
    told = {"signer": f"0x{given.signer.hex()}", "approves": f"0x{asked.approves.hex()}"}
    told |= {"validUntil": str(given.valid_until), "v": str(given.v)}
    print(json.dumps({**told, "r": f"0x{given.r.hex()}", "s": f"0x{given.s.hex()}"}))


def read_asked(file: Path) -> Typed | Record:
    """What a file holds: JSON is typed data if it has `types`, else a record; other text is hex or bytes."""
    content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    text = content.strip()
    if text.startswith(b"{"):
        try:
            told = json.loads(text, parse_float=_no_float)
        except (ValueError, RecursionError) as error:
            reject("FF58", str(file), f"is no JSON: {error}")
        return read_typed_data(told) if "types" in told else read_record_json(told)
    if text.startswith(b"0x"):
        try:
            content = bytes.fromhex(text[2:].decode("ascii"))
        except (ValueError, UnicodeDecodeError) as error:
            reject("E1", str(file), f"is no hex: {error}")
    return decode(content)


def _no_float(text: str) -> NoReturn:
    reject("E2", "JSON", f"{text} is no integer")
