"""Writes a full and correct public bundle (docs/bundle.md) from the small city's log, for tests to break.

Its own small code: trees by their definition, so that it shares nothing with the publisher or the auditor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import rules
from ledger.proof import (
    COSIGNATURE,
    ED25519,
    ENTRIES,
    ML_DSA_44,
    TILE_WIDTH,
    Checkpoint,
    Verifier,
    encode_bundle,
    format_checkpoint,
    format_note,
    format_vkey,
    leaf_hash,
    node_hash,
    root_of,
    sign,
    split_of,
    tile_path,
    tiles_for_size,
)
from ledger.records import Order, Rate
from tests import city

ORIGIN = "alatau.qazyna/ledger"
WATCHER_NAME = "alatau.qazyna/watcher"
ED = Ed25519PrivateKey.from_private_bytes(city.digest("log ed25519"))
ML = MLDSA44PrivateKey.from_seed_bytes(city.digest("log ml-dsa"))
COSIGNER = Ed25519PrivateKey.from_private_bytes(city.digest("watcher ed25519"))
CONTRACTS = {"council": city.COUNCIL_CONTRACT, "anchor": city.ANCHOR, "treasury": city.TREASURY}
CONTRACTS_JSON = {name: "0x" + address.hex() for name, address in CONTRACTS.items()}
# The texts whose SHA-256 the city's records name, as far as they are public.
PUBLIC = ("act", "project", "contract", "milestone", "survey", "evidence usdt 1")


def vkeys() -> list[str]:
    """The verifier keys that trust.json names."""
    keys = (
        Verifier(ORIGIN, ED25519, ED.public_key().public_bytes_raw()),
        Verifier(ORIGIN, ML_DSA_44, ML.public_key().public_bytes_raw()),
        Verifier(WATCHER_NAME, COSIGNATURE, COSIGNER.public_key().public_bytes_raw()),
    )
    return [format_vkey(key) for key in keys]


def witness(name: str) -> tuple[str, Ed25519PrivateKey]:
    """A witness's name and its key."""
    return f"{name}.example", Ed25519PrivateKey.from_private_bytes(city.digest(f"witness {name}"))


def witness_vkey(name: str) -> str:
    """The verifier key of a witness."""
    full, key = witness(name)
    return format_vkey(Verifier(full, COSIGNATURE, key.public_key().public_bytes_raw()))


def trust(**changed: object) -> dict[str, object]:
    """What trust.json says."""
    said = {
        "origin": ORIGIN,
        "vkeys": vkeys(),
        "ledger": "0x" + city.digest("ledger").hex(),
        "chainId": str(city.CHAIN_ID),
        "contracts": CONTRACTS_JSON,
    }
    return said | changed


def as_bytes(thing: object) -> bytes:
    """JSON as a publisher may write it."""
    return (json.dumps(thing, indent=1, sort_keys=True) + "\n").encode()


def root_at(records: Sequence[bytes], size: int) -> bytes:
    """The root of the first records."""
    return root_of([leaf_hash(data) for data in records[:size]])


def roots_at(records: Sequence[bytes], sizes: Sequence[int]) -> dict[int, bytes]:
    """The roots of many sizes by their definition, each whole subtree once."""
    leaves = [leaf_hash(data) for data in records]

    @cache
    def root(start: int, end: int) -> bytes:
        if end - start == 1:
            return leaves[start]
        middle = start + split_of(end - start)
        return node_hash(root(start, middle), root(middle, end))

    return {size: root(0, size) for size in sizes}


def anchor(records: Sequence[bytes], size: int, root: bytes | None = None, **changed: str) -> dict[str, str]:
    """An entry of anchors.json: anchored a minute after its newest record."""
    root = root_at(records, size) if root is None else root
    time = int.from_bytes(records[size - 1][32:64], "big") + 60
    return {
        "chainId": str(city.CHAIN_ID),
        "contract": "0x" + city.ANCHOR.hex(),
        "size": str(size),
        "root": "0x" + root.hex(),
        "transaction": "0x" + city.digest(f"anchor transaction {size}").hex(),
        "block": str(10 + size),
        "blockHash": "0x" + city.digest(f"block {10 + size}").hex(),
        "time": str(time),
    } | changed


def anchors(records: Sequence[bytes], every_s: int = 1) -> list[dict[str, str]]:
    """An anchor wherever time moved on by so much since the last one, and one at the end."""
    times = [int.from_bytes(data[32:64], "big") for data in records]
    sizes, last = [], times[0]
    for at in range(1, len(times)):
        if times[at] >= last + every_s or times[at] - times[at - 1] > rules.DAY:
            sizes.append(at)
            last = times[at]
    roots = roots_at(records, [*sizes, len(records)])
    return [anchor(records, size, root) for size, root in roots.items()]


def documents(*more: bytes) -> dict[str, bytes]:
    """Public documents by their paths."""
    contents = [*(text.encode() for text in PUBLIC), *more]
    return {f"documents/{sha256(content).hexdigest()}": content for content in contents}


def rate_sources(time_s: int) -> tuple[bytes, bytes]:
    """What two exchanges said of the small city's rate, in the form that an auditor reads."""
    said = [{"symbol": "USDT/KZT", "price": price, "time": time_s} for price in ("512.34", "512.30")]
    return json.dumps(said[0]).encode(), json.dumps(said[1]).encode()


def certified(amount: int = 40_000_000) -> tuple[city.Log, Order]:
    """The city with its work certified, by a rate whose sources a bundle publishes."""
    return city.certified(amount, rate_sources)


def paid() -> city.Log:
    """The whole way of the money, by that rate."""
    return city.paid(certified)


def sources_of(records: Sequence[bytes]) -> list[bytes]:
    """The sources of the rates in a log, as far as they are ours."""
    rates = [data for data in records if data[:32] == Rate.type_hash]
    told = [body for data in rates for body in rate_sources(int.from_bytes(data[32:64], "big"))]
    return [body for body in told if any(sha256(body).digest() in data for data in rates)]


@dataclass
class Written:
    """A bundle on disk, with what a test needs to sign parts of it again."""

    folder: Path
    records: list[bytes]
    unnamed: set[str] = field(default_factory=set)

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def sign_checkpoint(
        self,
        *,
        size: int | None = None,
        root: bytes | None = None,
        leave_out: str = "",
        witnesses: Sequence[str] = (),
    ) -> None:
        """Sign a checkpoint; leave_out: which of ed, ml and watcher does not sign; witnesses: who do too."""
        size = len(self.records) if size is None else size
        text = format_checkpoint(Checkpoint(ORIGIN, size, root or root_at(self.records, size)))
        now = city.START_S
        lines = {
            "ed": sign(text, ORIGIN, ED25519, ED),
            "ml": sign(text, ORIGIN, ML_DSA_44, ML, now),
            "watcher": sign(text, WATCHER_NAME, COSIGNATURE, COSIGNER, now),
        }
        for name in witnesses:
            full, key = witness(name)
            lines[full] = sign(text, full, COSIGNATURE, key, now)
        lines.pop(leave_out, None)
        self.write("checkpoint", format_note((text, tuple(lines.values()))))

    def sign_manifest(
        self, *, size: int | None = None, origin: str = ORIGIN, title: str = "qazyna manifest v1"
    ) -> None:
        """Name every file but tiles and those that are left unnamed, and sign that."""
        paths = sorted(
            path
            for place in self.folder.rglob("*")
            if place.is_file() and not (path := place.relative_to(self.folder).as_posix()).startswith("tile/")
        )
        lines = [
            f"{sha256((self.folder / path).read_bytes()).hexdigest()} {path}"
            for path in paths
            if path != "manifest" and path not in self.unnamed
        ]
        size = len(self.records) if size is None else size
        text = "\n".join([title, origin, str(size), *lines]) + "\n"
        self.write("manifest", format_note((text, (sign(text, ORIGIN, ED25519, ED),))))

    def write_tiles(self, size: int | None = None) -> None:
        """Every tile of the tree of this size, and its entry bundles."""
        size = len(self.records) if size is None else size
        levels = [[leaf_hash(data) for data in self.records[:size]]]
        while len(levels[-1]) >= TILE_WIDTH:
            below = levels[-1]
            whole = range(0, len(below) - len(below) % TILE_WIDTH, TILE_WIDTH)
            levels.append([root_of(below[at : at + TILE_WIDTH]) for at in whole])
        for level, index, width in tiles_for_size(size):
            start = index * TILE_WIDTH
            self.write(tile_path(level, index, width), b"".join(levels[level][start : start + width]))
            if level == 0:
                entries = encode_bundle(self.records[start : start + width])
                self.write(tile_path(ENTRIES, index, width), entries)

    def files(self) -> list[str]:
        """Every path in order."""
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())


def write(
    folder: Path,
    records: Sequence[bytes] | city.Log,
    *,
    anchored: object = None,
    trusted: Mapping[str, object] | None = None,
    public: Mapping[str, bytes] | None = None,
) -> Written:
    """Write a bundle; anchored and trusted replace what anchors.json and trust.json say."""
    done = Written(folder, list(records.records if isinstance(records, city.Log) else records))
    done.write("trust.json", as_bytes(trust() if trusted is None else trusted))
    done.write("anchors.json", as_bytes(anchors(done.records) if anchored is None else anchored))
    for path, content in (documents(*sources_of(done.records)) if public is None else public).items():
        done.write(path, content)
    done.write_tiles()
    done.sign_checkpoint()
    done.sign_manifest()
    return done


def busy(records: int) -> city.Log:
    """The paid city, and so much revenue more that the log has this many records."""
    log = paid()
    while len(log.records) < records:
        log.wait(rules.DAY // 100)
        log.add(city.revenue(log, 1_000 + len(log.records), mark=f"more {len(log.records)}"))
    return log
