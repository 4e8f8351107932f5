"""A ledger founded by commands on a real database with its contracts on a chain; lost, restored, and gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from eth_account import Account as Wallet

from contracts.bindings import is_enactable
from gateway.server import Server
from gateway.settings import Settings
from ledger import proof, rules
from ledger.anchor import EvmAnchor
from ledger.audit import audit
from ledger.records import Invalid, Quorum, Seat, Transfer, Unavailable
from ledger.watcher import Watcher
from ledger.writer import Writer, only_writer, submit
from tests import servers
from tests.city import CODE, Key, digest
from tests.contracts.world import ETHER
from tests.gateway.test_founding import Operator, founded
from tests.gateway.test_founding import operator as operator  # noqa: PLC0414 - a fixture

NUMBERS = count(1)


@pytest.fixture(scope="module")
def anvil() -> Iterator[servers.Anvil]:
    """A chain on which a block is final two blocks later."""
    with servers.anvil("--slots-in-an-epoch", "1") as node:
        yield node


@pytest.fixture(params=["sqlite", "postgresql"], autouse=True)
def databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The settings name two empty databases; the names of those of PostgreSQL."""
    if request.param == "sqlite":
        yield []
        return
    server: servers.Postgres = request.getfixturevalue("postgres")
    names = [f"restoring_{what}_{next(NUMBERS)}" for what in ("city", "heads")]
    for name, setting in zip(names, ("DATABASE", "HEADS_DATABASE"), strict=True):
        server.execute(f"CREATE DATABASE {name}")
        monkeypatch.setenv(f"QAZYNA_{setting}", server.url(name))
    yield names
    for name in names:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Place:
    """An operator's machine: its ledger, its chain, and how it is lost."""

    def __init__(self, operator: Operator, anvil: servers.Anvil, destroy: Any) -> None:
        self.operator, self.anvil, self._destroy = operator, anvil, destroy
        # The seats of the founding are these keys, and not those that `keys new` made.
        for name in ("operator", "watcher"):
            path = operator.folder / "keys" / name
            path.write_text(Key(name).secret.to_hex())
            path.chmod(0o600)
        anvil.call(
            "anvil_setBalance", Wallet.from_key(Key("operator").secret.secret).address, hex(10 * ETHER)
        )

    @property
    def bundle(self) -> Path:
        return self.operator.folder / "bundle"

    def fee(self, mark: str, *, publish: bool = True) -> bytes:
        """A fee is recorded by the writer that a worker would be, published, watched and anchored; the root."""
        lock = self.operator.folder / "writer.lock"
        with Server(Settings()) as server, only_writer(server.engine, lock):
            writer = Writer(server.engine, server.heads, server.log_keys(), server.clock)
            rule = next(
                hash
                for hash, one in writer.state.proposals.items()
                if type(one.record).__name__ == "RevenueRule"
            )
            fee = Transfer(
                0,
                digest(f"fee {mark}"),
                "bank-kzt",
                "fees-kzt",
                "KZT",
                4_325_00,
                CODE,
                rule,
                digest(f"entry {mark}"),
            )
            with server.engine.begin() as connection:
                submit(connection, fee, server.clock())
            writer.drain()
            if publish:
                self.publish(server, writer)
            root: bytes = writer.tree.root()
            return root

    def publish(self, server: Server, writer: Writer) -> None:
        """Publish what there is, have it watched, and anchor it until the chain does not take it back."""
        seat, cosigner = server.keyring.seat("watcher"), server.keyring.cosigner()
        watcher = Watcher("watcher", server.log_keys().verifiers(), seat, cosigner, server.clock)
        anchor = EvmAnchor(server.city, server.keyring.account("operator"), server.clock)
        for _ in range(2):
            writer.publish(server.publisher, watcher, (anchor,))
            self.anvil.call("anvil_mine", "0x4")

    def enact(self) -> set[str]:
        """Bring the acts of the founding to the Council contract; of which kinds they were."""
        state, _ = rules.replay(self.operator.records())
        bound = (Seat, Quorum)
        acts = {
            f"0x{hash.hex()}": one.record
            for hash, one in state.proposals.items()
            if is_enactable(one.record, servers.CHAIN_ID) and not isinstance(one.record, bound)
        }
        folder = self.operator.folder
        asked = [str(folder / "founding.json"), *acts, "--bundle", str(self.bundle)]
        paid = ["--key", str(folder.parent / "deployer"), "--rpc", self.anvil.url]
        said = self.operator.run("contracts", "enact", *asked, *paid)
        assert said.count("enacted: ") == len(acts)
        return {type(record).__name__ for record in acts.values()}

    def audit(self) -> Any:
        return audit(self.bundle, rpcs=[self.anvil.url])

    def lose(self) -> None:
        """Both databases are gone."""
        self._destroy()


@pytest.fixture
def place(
    operator: Operator, anvil: servers.Anvil, databases: list[str], request: pytest.FixtureRequest
) -> Place:
    def destroy() -> None:
        for name in databases:
            server: servers.Postgres = request.getfixturevalue("postgres")
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
            server.execute(f"CREATE DATABASE {name}")
        for path in operator.folder.glob("*.db*"):
            path.unlink()

    return Place(operator, anvil, destroy)


def test_a_ledger_that_was_founded_by_commands_is_anchored_audited_with_its_chain_lost_and_restored(
    place: Place,
):
    founded(place.operator)
    place.fee("one")
    verdict = place.audit()
    assert (verdict.findings, verdict.pending, verdict.chain_checked) == ([], [], True)
    before, size = place.operator.records(), verdict.checkpoint.size
    assert size == len(before)

    # What the Council decided in the founding is brought to the chain out of the bundle.
    acts = place.enact()
    assert {"Contract", "Asset", "RevenueRule", "Account"} == acts

    place.lose()
    said = place.operator.run("ledger", "restore").splitlines()
    root = rules_root(before)
    assert f"restored: {size} records came back, the ledger has {size}, root {root.hex()}" in said
    assert f"read: {size} of {size} records" in said
    assert f"written: {size} of {size} records" in said
    assert place.operator.records() == before
    # A founding that is asked for again finds itself done; the ledger goes on, on its old anchors too.
    assert "founded: all 3 rounds in effect" in place.operator.found()
    place.fee("two")
    verdict = place.audit()
    assert (verdict.findings, verdict.pending, verdict.chain_checked) == ([], [], True)
    assert verdict.checkpoint.size == size + 1
    # Nothing is lost any more, so nothing comes back.
    assert f"restored: 0 records came back, the ledger has {size + 1}" in place.operator.run(
        "ledger", "restore"
    )


def rules_root(records: list[bytes]) -> bytes:
    return proof.root_of([proof.leaf_hash(data) for data in records])


def test_a_database_is_restored_from_an_address_as_from_a_folder_of_somebody_else(
    place: Place, tmp_path: Path
):
    founded(place.operator)
    place.fee("one")
    records = place.operator.records()
    kept = tmp_path / "kept"
    shutil.copytree(place.bundle, kept)
    handler = partial(SimpleHTTPRequestHandler, directory=str(kept))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        for source in (str(kept), f"http://127.0.0.1:{server.server_port}"):
            place.lose()
            said = place.operator.run("ledger", "restore", "--bundle", source)
            assert f"restored: {len(records)} records came back" in said
            assert place.operator.records() == records
        server.shutdown()
        thread.join()


def test_what_cannot_be_restored_is_refused_by_rule_and_place_and_nothing_is_written(
    place: Place, tmp_path: Path
):
    founded(place.operator)
    place.fee("one")
    old = tmp_path / "old"
    shutil.copytree(place.bundle, old)
    place.fee("two")
    records = place.operator.records()
    restore = partial(place.operator.run, "ledger", "restore", "--bundle")
    # The heads say that more was signed than this bundle has.
    with pytest.raises(
        Invalid, match=f"L9 at checkpoint: size {len(records)} was signed, the bundle has {len(records) - 1}"
    ):
        restore(str(old))
    with pytest.raises(Unavailable, match="checkpoint is missing"):
        restore(str(tmp_path))
    with pytest.raises(Unavailable, match="nowhere cannot be read"):
        restore(str(tmp_path / "nowhere"))
    with (
        Server(Settings()) as server,
        only_writer(server.engine, place.operator.folder / "writer.lock"),
        pytest.raises(Unavailable, match="another writer"),
    ):
        restore(str(place.bundle))
    assert place.operator.records() == records
    # A bundle in which a byte is another one.
    place.lose()
    (tile,) = (old / "tile" / "entries").rglob("*.p/*")
    content = bytearray(tile.read_bytes())
    content[-1] ^= 1
    tile.write_bytes(content)
    with pytest.raises(Invalid, match=rf"L9 at size {len(records) - 1}: the bundle's records make [0-9a-f]+"):
        restore(str(old))
    assert place.operator.records() == []
    said = restore(str(place.bundle))
    assert f"restored: {len(records)} records came back" in said
