"""What the ledger shows to everybody: tiles, checkpoint, documents, manifest, receipts.

The format is docs/bundle.md. Files that are there with the same bytes are not written again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import store
from ledger.database import Engine, reading
from ledger.proof import (
    ED25519,
    ML_DSA_44,
    TILE_WIDTH,
    Checkpoint,
    Receipt,
    Verifier,
    add_signatures,
    encode_bundle,
    format_checkpoint,
    format_note,
    format_receipt,
    format_vkey,
    leaf_hash,
    parse_checkpoint,
    parse_note,
    sign,
    tile_path,
)
from ledger.records import WORD, Unavailable, reject
from ledger.target import Folder, Target, open_target, read
from ledger.tree import consistency_proof, inclusion_proof, root_from_tiles, tiles_to_write

MANIFEST_TITLE = "qazyna manifest v1"
# A multiple of the tile width: a page ends with a whole tile.
PAGE = 64 * TILE_WIDTH


@dataclass(frozen=True)
class LogKeys:
    """The log's private keys; the name of both is the origin."""

    origin: str
    ed25519: Ed25519PrivateKey = field(repr=False)
    ml_dsa: MLDSA44PrivateKey = field(repr=False)

    def verifiers(self) -> list[Verifier]:
        """The public half, Ed25519 first."""
        return [
            Verifier(self.origin, ED25519, self.ed25519.public_key().public_bytes_raw()),
            Verifier(self.origin, ML_DSA_44, self.ml_dsa.public_key().public_bytes_raw()),
        ]

    def sign_checkpoint(self, size: int, root: bytes, now: int) -> bytes:
        """The checkpoint as a note with both signatures."""
        text = format_checkpoint(Checkpoint(self.origin, size, root))
        lines = (
            sign(text, self.origin, ED25519, self.ed25519),
            sign(text, self.origin, ML_DSA_44, self.ml_dsa, now),
        )
        return format_note((text, lines))

    def sign_manifest(self, text: str) -> bytes:
        """The manifest as a note; its title keeps it from being read as a checkpoint."""
        return format_note((text, (sign(text, self.origin, ED25519, self.ed25519),)))


@dataclass(frozen=True)
class Trust:
    """What trust.json says: whom to believe, and which contracts count."""

    ledger: bytes
    chain_id: int
    contracts: dict[str, bytes]
    verifiers: Sequence[Verifier]
    # Of these witnesses so many must have cosigned a head; an auditor counts them (D20).
    witnesses: Sequence[str] = ()
    needed: int = 0


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


class Publisher:
    """Writes the public bundle of one log into a folder, or wherever else a target leads."""

    def __init__(self, where: Path | str | Target, keys: LogKeys, trust: Trust) -> None:
        """where: a folder, a URL of fsspec, or a target."""
        self.target = open_target(where) if isinstance(where, Path | str) else where
        self.keys, self.trust = keys, trust
        self._kept_tile = lru_cache(maxsize=512)(self._read_tile)
        # Documents and states that are there, and documents that a record names among those read so far.
        self._sent: set[bytes] = set()
        self._named: set[bytes] = set()
        self._scanned = 0

    @property
    def folder(self) -> Path:
        """The folder of a bundle that is on this machine."""
        assert isinstance(self.target, Folder), "the bundle is not in a folder"
        return self.target.folder

    def _write(self, path: str, content: bytes) -> None:
        if self.target.find(path) != content:
            self.target.write(path, content)

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """A published hash tile; a full one serves where a partial one was asked for."""
        # No tile of a level and width ever changes. Above the lowest level, and at the edge, there are few,
        # and every proof needs them.
        if level == 0 and width == TILE_WIDTH:
            return read(self.target, tile_path(level, index))
        return self._kept_tile(level, index, width)

    def _read_tile(self, level: int, index: int, width: int) -> bytes:
        found = self.target.find(tile_path(level, index, width))
        return read(self.target, tile_path(level, index))[: 32 * width] if found is None else found

    def _checkpoint(self) -> bytes:
        return read(self.target, "checkpoint")

    def published(self) -> int:
        """The size of the checkpoint that stands there; 0 if there is none."""
        note = self.target.find("checkpoint")
        return 0 if note is None else parse_checkpoint(parse_note(note)[0]).size

    def publish(self, engine: Engine, note: bytes) -> None:
        """Write tiles and entries, then the checkpoint that needs them.

        Dies in between: the old checkpoint stands, and its tiles are all still there.
        """
        size = parse_checkpoint(parse_note(note)[0]).size
        old = self.published()
        if old == size:
            return
        # A page of records at a time, so that memory is bounded however much is new.
        for start in range(old, size, PAGE):
            self._write_tiles(engine, start, min(start + PAGE, size))
        with store.asking(), reading(engine) as connection:
            for name in store.document_names(connection):
                path = f"documents/{name.hex()}"
                # Its name is its hash and nobody writes it but whole, so one that is there is right.
                if name not in self._sent and self.target.find(path) is None:
                    self.target.write(path, store.document(connection, name))
                self._sent.add(name)
        self._write_states(engine, size)
        self._write("checkpoint", note)

    def _write_states(self, engine: Engine, size: int) -> dict[str, bytes]:
        """Write the states of the years that are closed by then; returns their SHA-256 by path."""
        found = {}
        with store.asking(), reading(engine) as connection:
            for year, digest in store.closed_years(connection, size):
                path = f"states/{year}.json"
                found[path] = digest
                # A year is closed once, so a state that was written stays what it is.
                if digest not in self._sent:
                    self._write(path, store.closing_state(connection, year))
                    self._sent.add(digest)
        return found

    def _write_tiles(self, engine: Engine, old: int, size: int) -> None:
        """Write entries and hashes of the records from old to before size."""
        whole = old - old % TILE_WIDTH
        entries = list(store.records(engine, whole, size))
        for at in range(0, len(entries), TILE_WIDTH):
            bundle = entries[at : at + TILE_WIDTH]
            self._write(tile_path("entries", (whole + at) // TILE_WIDTH, len(bundle)), encode_bundle(bundle))
        leaves = [leaf_hash(data) for data in entries[old - whole :]]
        for level, index, width, tile in tiles_to_write(old, leaves, self.read_tile):
            self._write(tile_path(level, index, width), tile)

    def add_cosignature(self, line: bytes) -> None:
        """Add a watcher's line to the checkpoint; only keys that trust.json names are taken.

        A key that has signed this head keeps its first line: a watcher that was asked again
        states another time, and two lines would be one too many for a strict reader.
        """
        note = self._checkpoint()
        signed = {signature.key for signature in parse_note(note)[1]}
        added = parse_note(add_signatures(note, line, self.trust.verifiers))
        kept = tuple(s for s in added[1][len(signed) :] if s.key not in signed)
        self._write("checkpoint", format_note((added[0], parse_note(note)[1] + kept)))

    def finish(self, engine: Engine) -> None:
        """Write anchors and trust, and last the manifest that names what nothing else covers."""
        with store.asking(), reading(engine) as connection:
            anchors = store.anchors(connection)
            names = store.document_names(connection)
        names = self._unnamed(engine, names)
        self._write("anchors.json", _json([_anchor_json(anchored) for anchored in anchors]))
        self._write("trust.json", _json(self._trust_json()))
        paths = ["anchors.json", "checkpoint", "trust.json", *(f"documents/{name.hex()}" for name in names)]
        named = {path: sha256(read(self.target, path)).digest() for path in paths}
        # What is large and never changes is not read again for each head.
        named |= self._write_states(engine, self.published())
        lines = [f"{named[path].hex()} {path}" for path in sorted(named)]
        text = "\n".join([MANIFEST_TITLE, self.keys.origin, str(self.published()), *lines]) + "\n"
        self._write("manifest", self.keys.sign_manifest(text))

    def mirror(self, engine: Engine, others: Sequence[Publisher]) -> list[Unavailable]:
        """Bring the same bundle to other places, each for itself; returns what did not answer.

        A place that was away, or is new, gets all that it lacks.
        """
        silent = []
        for other in others:
            try:
                note = self._checkpoint()
                other.publish(engine, note)
                # Of the same size it may have got cosignatures since.
                other._write("checkpoint", note)  # noqa: SLF001 - another of its own kind
                other.finish(engine)
            except Unavailable as error:
                silent.append(error)
        return silent

    def _unnamed(self, engine: Engine, names: list[bytes]) -> list[bytes]:
        """Documents that no published record names: the manifest has no room for all of them for ever."""
        known, size = set(names), self.published()
        for data in store.records(engine, self._scanned, size):
            words = (data[at : at + WORD] for at in range(WORD, len(data), WORD))
            self._named.update(known.intersection(words))
        self._scanned = max(self._scanned, size)
        return [name for name in names if name not in self._named]

    def _trust_json(self) -> dict[str, object]:
        quorum = {"needed": str(self.trust.needed), "names": list(self.trust.witnesses)}
        return {
            "origin": self.keys.origin,
            "vkeys": [format_vkey(verifier) for verifier in self.trust.verifiers],
            "ledger": "0x" + self.trust.ledger.hex(),
            "chainId": str(self.trust.chain_id),
            "contracts": {name: "0x" + address.hex() for name, address in self.trust.contracts.items()},
            **({"witnesses": quorum} if self.trust.needed else {}),
        }

    def root(self, size: int) -> bytes:
        """The root of the published tree at a size that it has or had."""
        return root_from_tiles(size, self.read_tile, self.published())

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency path between two published sizes."""
        return consistency_proof(old, size, self.read_tile)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The inclusion path of a record in the published tree of this size."""
        return inclusion_proof(index, size, self.read_tile)

    def receipt(self, index: int, record: bytes) -> bytes:
        """The tlog-proof of a record against the checkpoint that stands in the folder (L4).

        The record itself rides in the extra line, so that the receipt can be read and checked
        years later without the log; the proof is what vouches for it.
        """
        note = self._checkpoint()
        size = parse_checkpoint(parse_note(note)[0]).size
        if index >= size:
            reject("X14", "receipt", f"record {index} is not published yet, the checkpoint has {size}")
        return format_receipt(Receipt(index, tuple(self.inclusion(index, size)), note, record))


def _anchor_json(anchored: store.Anchored) -> dict[str, str]:
    return {
        "chainId": str(anchored.chain_id),
        "contract": "0x" + anchored.contract.hex(),
        "size": str(anchored.size),
        "root": "0x" + anchored.root.hex(),
        "transaction": "0x" + anchored.transaction_hash.hex(),
        "block": str(anchored.block),
        "blockHash": "0x" + anchored.block_hash.hex(),
        "time": str(anchored.time_s),
    }
