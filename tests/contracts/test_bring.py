"""Acts, orders, disputes and freezes brought to real contracts by commands, out of a public bundle alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner
from web3 import HTTPProvider, Web3

from gateway.cli import app
from ledger import proof
from ledger.records import (
    Acknowledgement,
    Approval,
    Invalid,
    Order,
    Parameter,
    Project,
    Record,
    Resolution,
    as_json,
    encode,
    hash_struct,
)
from tests import bundles, servers
from tests.city import ACT, Key, digest
from tests.contracts.world import (
    AUDITOR,
    AUTHORITY,
    BUILDER,
    COUNCIL,
    DAY,
    DEPLOYER,
    ETHER,
    LEDGER,
    OPERATOR,
    PAYER,
    RETENTION_END_S,
    World,
    found,
    founding,
    payable,
    wallet,
)


@dataclass
class Town:
    """A city on anvil, its log as a bundle, and the commands that bring what is in it."""

    world: World
    rpc: str
    folder: Path

    def record(self, record: Record, *signers: Key) -> str:
        """Put a record and its seats' approvals in the log; returns its hash."""
        world = self.world
        world.add(record)
        for approval in world.approve(record, signers, 60 * DAY):
            world.add(approval)
        return f"0x{hash_struct(record).hex()}"

    def signed(self, approvals: Sequence[Approval]) -> None:
        for approval in approvals:
            self.world.add(approval)

    def publish(self, *, anchored: bool = True) -> None:
        """Write the log as a bundle; what was anchored of it stands in anchors.json."""
        world = self.world
        if anchored:
            world.anchor()
        (bundle := self.folder / "bundle").mkdir(exist_ok=True)
        checkpoint = proof.Checkpoint(bundles.ORIGIN, len(world.log), world.root())
        text = proof.format_checkpoint(checkpoint)
        signature = proof.sign(text, bundles.ORIGIN, proof.ED25519, bundles.ED)
        files = {"checkpoint": proof.format_note((text, (signature,)))}
        for first in range(0, len(world.log), 256):
            part = world.log[first : first + 256]
            files[proof.tile_path("entries", first // 256, len(part))] = proof.encode_bundle(part)
        heads = world.city.heads_between(0, world.city.newest_block())
        place = world.city.deployment
        told = {"chainId": str(place.chain_id), "contract": f"0x{place.anchor.hex()}"}
        listed = [
            {**told, "size": str(head.size), "root": f"0x{head.root.hex()}", "block": str(head.block),
             "blockHash": f"0x{head.block_hash.hex()}", "transaction": f"0x{head.transaction.hex()}",
             "time": str(head.time)}
            for head in heads
        ]  # fmt: skip
        files["anchors.json"] = json.dumps(listed).encode()
        for path, content in files.items():
            (bundle / path).parent.mkdir(parents=True, exist_ok=True)
            (bundle / path).write_bytes(content)

    def run(self, command: str, *arguments: str, key: Key = PAYER, has_bundle: bool = True) -> str:
        """What a command says; Invalid where it is refused."""
        file = self.folder / key.name
        file.write_text(key.secret.to_hex())
        more = ["--bundle", str(self.folder / "bundle")] if has_bundle else []
        asked = [str(self.folder / "city.json"), *arguments, *more, "--key", str(file), "--rpc", self.rpc]
        done = CliRunner().invoke(app, ["contracts", command, *asked], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def founded() -> Iterator[tuple[World, str]]:
    with servers.anvil() as node:
        for key in (DEPLOYER, PAYER, OPERATOR, AUDITOR, BUILDER, COUNCIL[0]):
            node.call("anvil_setBalance", wallet(key).address, hex(100 * ETHER))
        world = found(Web3(HTTPProvider(node.url)))
        world.city.mint(wallet(DEPLOYER), world.token, world.city.deployment.treasury, 60_000_000)
        world.wait(14 * DAY + 1)
        yield world, node.url


@pytest.fixture
def town(founded: tuple[World, str], tmp_path: Path) -> Iterator[Town]:
    world, rpc = founded
    snapshot = world.ask("evm_snapshot")
    told = {"ledger": f"0x{LEDGER.hex()}", "retentionEnd": str(RETENTION_END_S)}
    city = {**told, "founding": [as_json(record) for record in founding()]}
    (tmp_path / "city.json").write_text(json.dumps(city))
    yield Town(replace(world, log=list(world.log)), rpc, tmp_path)
    world.ask("evm_revert", snapshot)


def ordered(town: Town) -> tuple[Order, str]:
    """An order that is in the log with its signatures, anchored and published."""
    asked = payable(town.world)
    town.signed([*asked.order_approvals, *asked.certificate_approvals])
    town.publish()
    return asked.order, f"0x{hash_struct(asked.order).hex()}"


def test_acts_come_into_force_by_a_command_and_an_act_of_too_few_does_not(town: Town) -> None:
    world, now = town.world, town.world.now()
    acts = [
        Project(now, "school-7", "water", "alatau-gate", 10**12, digest("school")),
        Parameter(now, "order_delay", 3 * DAY, now, ACT),
    ]
    good = [town.record(act, *COUNCIL[:3]) for act in acts]
    few = town.record(
        Project(now, "school-8", "water", "alatau-gate", 10**12, digest("school")), *COUNCIL[:2]
    )
    alone = town.record(Resolution(now, digest("commitment"), 0, digest("ruling")), *COUNCIL[:3])
    town.publish()
    said = town.run("enact", *good)
    assert [line.split(",")[0] for line in said.splitlines()] == [f"enacted: {each}" for each in good]
    world.wait(14 * DAY + 60)
    assert world.city.parameter("order_delay") == 3 * DAY
    with pytest.raises(
        Invalid, match=rf"C:bundle at record {few}: 2 seats of the council signed it .* 3 are needed"
    ):
        town.run("enact", few)
    with pytest.raises(Invalid, match="a Resolution like this one is the ledger's alone"):
        town.run("enact", alone)
    with pytest.raises(Invalid, match=r"^C:AlreadyEnacted"):
        town.run("enact", good[0])


def test_an_order_is_paid_by_whoever_has_the_bundle(town: Town) -> None:
    order, named = ordered(town)
    world = town.world
    with pytest.raises(Invalid, match=r"^C:OrderTooEarly at Treasury.execute: payableFrom \d+, time \d+"):
        town.run("execute", named)
    world.wait(DAY)
    had = world.city.balance(world.token, BUILDER.address)
    assert town.run("execute", named).startswith(f"paid: {named}, transaction 0x")
    assert world.city.is_order_paid(order)
    assert world.city.balance(world.token, BUILDER.address) == had + order.amount
    with pytest.raises(Invalid, match=r"^C:AlreadyPaid"):
        town.run("execute", named)
    with pytest.raises(Invalid, match="C:NothingCredited"):
        town.run("pull", f"0x{BUILDER.address.hex()}", f"0x{world.token.hex()}", has_bundle=False)


def test_an_order_that_is_not_anchored_or_not_what_was_anchored_is_named_before_anything_costs_gas(
    town: Town,
) -> None:
    asked = payable(town.world)
    named = f"0x{hash_struct(asked.order).hex()}"
    late = town.record(replace(asked.order, order="order-2"), AUTHORITY)
    town.publish(anchored=False)
    size = town.world.city.head().size
    with pytest.raises(Invalid, match=f"no head of chain .* has it: newest is {size}$"):
        town.run("execute", late)
    with pytest.raises(Invalid, match=r"0 seats of the authority signed it and count at .*, 1 are needed"):
        town.run("execute", named)
    with pytest.raises(Invalid, match=r"is a Commitment at .*, wanted is a Order"):
        town.run("execute", f"0x{hash_struct(asked.commitment).hex()}")
    with pytest.raises(Invalid, match=r"C:bundle at record 0x11.*is none of the \d+ records of"):
        town.run("execute", "0x" + "11" * 32)
    with pytest.raises(Invalid, match="C:bring at HASH: '0x11' has 4 characters"):
        town.run("execute", "0x11")
    # Another history with the same order in it.
    town.signed(asked.order_approvals)
    town.world.log[0], kept = encode(Project(1, "forged", "water", "alatau-gate", 1, ACT)), town.world.log[0]
    town.publish(anchored=False)
    with pytest.raises(
        Invalid, match=r"C:bundle at record \d+: at \d+ the records make 0x[0-9a-f]{64}, anchored is 0x"
    ):
        town.run("execute", named)
    town.world.log[0] = kept


@pytest.mark.parametrize("hides", ["none", "noise", "empty", "made up"])
def test_who_keeps_the_log_holds_no_order_back_by_what_anchors_json_says(town: Town, hides: str) -> None:
    """The chain says what is anchored; the file only says where to look first."""
    asked = payable(town.world)
    named = f"0x{hash_struct(asked.order).hex()}"
    town.signed(asked.order_approvals)
    town.signed(asked.certificate_approvals)
    town.publish()
    town.world.wait(DAY)
    path = town.folder / "bundle" / "anchors.json"
    (listed,) = [one for one in json.loads(path.read_text()) if one["size"] == str(len(town.world.log))]
    sizes = range(len(town.world.log) - 2, len(town.world.log))
    made_up = [{**listed, "size": str(size), "root": f"0x{size:064x}"} for size in sizes]
    told = {"noise": b'[{"size": NaN}', "empty": b"[]", "made up": json.dumps(made_up).encode()}
    path.unlink()
    if hides in told:
        path.write_bytes(told[hides])
    assert town.run("execute", named).startswith("paid: ")


def test_an_auditor_stops_an_order_by_a_command(town: Town) -> None:
    order, named = ordered(town)
    with pytest.raises(Invalid, match=r"^C:NotSeated"):
        town.run("stop", named)
    assert town.run("stop", named, key=AUDITOR).startswith(f"stopped: {named}")
    town.world.wait(DAY)
    with pytest.raises(Invalid, match=r"^C:OrderStopped"):
        town.run("execute", named)
    with pytest.raises(Invalid, match="is a Commitment, neither an Order nor a Refund"):
        town.run("stop", f"0x{order.commitment_hash.hex()}", key=AUDITOR)


def test_a_payee_holds_its_commitment_and_the_council_settles_it_by_commands(town: Town) -> None:
    order, named = ordered(town)
    commitment = f"0x{order.commitment_hash.hex()}"
    document = ("--document", f"0x{digest('complaint').hex()}")
    with pytest.raises(Invalid, match=r"^C:NoPartyOf"):
        town.run("dispute", commitment, *document)
    said = town.run("dispute", commitment, *document, key=BUILDER).splitlines()
    assert json.loads(said[0])["by"] == f"0x{BUILDER.address.hex()}"
    town.world.wait(DAY)
    with pytest.raises(Invalid, match=r"^C:CommitmentDisputed"):
        town.run("execute", named)
    settled = town.record(
        Resolution(town.world.now(), order.commitment_hash, 0, digest("ruling")), *COUNCIL[:3]
    )
    town.publish()
    assert town.run("resolve", settled).startswith(f"resolved: {settled}")
    assert town.run("execute", named).startswith("paid: ")


def test_a_seat_takes_its_signature_back_by_a_command(town: Town) -> None:
    act = Project(town.world.now(), "school-9", "water", "alatau-gate", 10**12, digest("school"))
    named = town.record(act, *COUNCIL[:3])
    town.publish()
    assert town.run("withdraw", named, key=COUNCIL[0], has_bundle=False).startswith(f"taken back: {named}")
    with pytest.raises(Invalid, match=r"^C:SignatureWithdrawn"):
        town.run("enact", named)


def test_a_freeze_ends_by_a_command_once_council_and_auditor_acknowledged_the_breach(town: Town) -> None:
    order, named = ordered(town)
    world = town.world
    # Whoever keeps the log left bytes in it that are no record; anybody reports them.
    world.log.append(digest("no kind of record") * 3)
    place = len(world.log) - 1
    world.anchor()
    town.publish(anchored=False)
    with pytest.raises(Invalid, match=r"C:report at O9: 1 records named; there is O1 of 1"):
        town.run("report", "O9", named)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "E1", str(place - 1))
    with pytest.raises(Invalid, match=rf"C:bundle at record {place + 1}: is none of the {place + 1} records"):
        town.run("report", "E1", str(place + 1))
    assert town.run("report", "E1", str(place)).startswith(f"reported: E1 of {place}, transaction 0x")
    assert world.city.frozen() == 1
    world.wait(DAY)
    with pytest.raises(Invalid, match=r"^C:Frozen"):
        town.run("execute", named)
    record = Acknowledgement(world.now(), place, "E1", ACT)
    lifted = town.record(record, *COUNCIL[:3])
    town.publish()
    with pytest.raises(Invalid, match=r"0 seats of the auditor signed it and count at .*, 1 are needed"):
        town.run("lift", lifted)
    town.signed(world.approve(record, [AUDITOR], 60 * DAY))
    town.publish(anchored=False)
    said = town.run("lift", lifted).splitlines()
    assert said[0].startswith(f"lifted: {lifted}, transaction 0x")
    assert said[1] == "left: 0 breaches of the log freeze the treasury"
    assert town.run("execute", named).startswith("paid: ")
    assert world.city.is_order_paid(order)


def test_two_orders_for_one_milestone_are_reported_by_a_command_and_freeze_their_commitment(
    town: Town,
) -> None:
    asked = payable(town.world)
    again = replace(asked.order, order="order-2")
    town.signed([*asked.order_approvals, *asked.certificate_approvals])
    later = town.record(again)
    town.publish()
    named = f"0x{hash_struct(asked.order).hex()}"
    with pytest.raises(
        Invalid, match=r"0 who ever sat in the authority signed it, 1 are needed: it proves nothing"
    ):
        town.run("report", "O6", named, later)
    # Signed twice, and no more valid: a report asks who ever sat.
    for valid_for in (60, 120):
        town.signed(town.world.approve(again, [AUTHORITY], valid_for))
    town.publish()
    town.world.wait(DAY)
    with pytest.raises(Invalid, match=r"^C:OrdersNotAscending"):
        town.run("report", "O6", later, named)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "O2", named)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "O3", named)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "O7", named, later)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "O1", named)
    with pytest.raises(Invalid, match=r"^C:NoBreach"):
        town.run("report", "H2", "0", "1")
    with pytest.raises(Invalid, match=r"is a Order at \d+, wanted is a Transfer"):
        town.run("report", "G7", named)
    assert town.run("report", "O6", named, later).startswith(f"reported: O6 of {named}, {later}, transaction")
    assert town.world.city.frozen(asked.commitment) == 1
    with pytest.raises(Invalid, match=r"^C:Frozen"):
        town.run("execute", named)
