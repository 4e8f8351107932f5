"""The contracts as Python deploys and calls them, on the embedded chain and on a node, with the ledger's own proofs."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
from web3 import HTTPProvider, Web3

from contracts.bindings import COIN, City, Terms, deploy, is_enactable
from contracts.devchain import DevChain
from contracts.events import Anchored, Enacted, Executed, Flushed, Paid, Transfer, read_events
from contracts.transactions import explain
from ledger import proof, records
from ledger.records import (
    Account,
    Approval,
    Asset,
    Invalid,
    Order,
    Parameter,
    Project,
    Quorum,
    RevenueRule,
    Seat,
    Unavailable,
    address_word,
    decode,
    hash_struct,
    keccak256,
)
from tests import servers
from tests.city import ACT, Key, digest
from tests.contracts.world import (
    AUDITOR,
    AUTHORITY,
    BUILDER,
    COUNCIL,
    DAY,
    DEPLOYER,
    ETHER,
    FEE,
    FOREVER_S,
    GATEWAY,
    LEDGER,
    MERCHANT,
    OFFICES,
    OPERATOR,
    PAYER,
    RETENTION_END_S,
    SALE,
    START_S,
    World,
    allocation,
    founding,
    payable,
    quote_for,
    refused,
    wallet,
)

# --- one encoding -----------------------------------------------------------------------------------


def test_solidity_has_every_record_member_for_member_as_python_has_it() -> None:
    source = (servers.ROOT / "contracts" / "src" / "Records.sol").read_text(encoding="utf-8")
    structs = {
        name: re.findall(r"(\w+) (\w+);", body)
        for name, body in re.findall(r"struct (\w+) \{([^}]*)\}", source)
    }
    kinds = {kind.__name__: kind for kind in records.KINDS}
    assert len(structs) == 19
    del structs["Signature"]
    for name, members in structs.items():
        kind = kinds[name]
        assert members == [
            (solidity, records.member_name(attribute)) for attribute, solidity, _ in kind.members
        ]
    strings = set(re.findall(r'keccak256\(\s*"([^"]*)"\s*\)', source))
    plain = {kinds[name].type_string for name in structs}
    signed = {f"Approve({name} record,uint64 validUntil){kinds[name].type_string}" for name in structs}
    assert strings - signed == plain
    # Commitments and milestones are signed for the ledger only: on a chain the order vouches for them.
    assert signed - strings == {
        text for text in signed if text.startswith(("Approve(Comm", "Approve(Mile", "Approve(Tran"))
    }


def test_names_bounds_and_roles_of_the_rules_are_those_of_solidity() -> None:
    from ledger import rules

    source = (servers.ROOT / "contracts" / "src" / "Names.sol").read_text(encoding="utf-8")
    quoted = set(re.findall(r'"([^"]+)"', source)) - {"\\x00"}
    assert quoted >= rules.ROLES | rules.PLACES | rules.INFRASTRUCTURE | set(rules.PARAMETERS)
    spelled = {"": 1, "hours": 3_600, "days": DAY}
    constants = dict(re.findall(r'bytes32 internal constant (\w+) = "([^"]+)";', source))
    found = {}
    for name, *numbers in re.findall(r"if \(name == (\S+)\) return \(([^,]+), ([^,]+), ([^)]+)\);", source):
        words = [number.replace("_", "").partition(" ") for number in numbers]
        found[constants.get(name, name.strip('"'))] = tuple(
            int(count) * spelled[unit] for count, _, unit in words
        )
    # The cap of a day is in 1/10,000 of the commitment; the first order of a day is not held up by it (LEAKS 17).
    assert found == rules.PARAMETERS | {"commitment_day_cap": (100, 10_000, 5_000)}


def test_every_kind_of_record_is_known_to_the_watchdog_and_no_other() -> None:
    sources = servers.ROOT / "contracts" / "src"
    kinds = (sources / "Kinds.sol").read_text(encoding="utf-8")
    constant = r'bytes32 internal constant (\w+) =\s+keccak256\(\s*"(\w+)\('
    read = dict(re.findall(constant, (sources / "Records.sol").read_text(encoding="utf-8")))
    named = {read[name] for name in re.findall(r"Records\.([A-Z_]+)\b", kinds)}
    others = set(re.findall(r'keccak256\(\s*"([^"]+)"', kinds))
    assert named | {text.split("(")[0] for text in others} == {kind.__name__ for kind in records.KINDS}
    assert others <= {kind.type_string for kind in records.KINDS}


def test_ff58_a_wallets_typed_data_signature_over_an_act_is_accepted(world: World) -> None:
    now, deployment = world.now(), world.city.deployment
    act = RevenueRule(now, "parking", "RETAINED", 2_500, now, ACT)
    index = world.add(act)
    world.anchor()
    until = now + DAY
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
                {"name": "salt", "type": "bytes32"},
            ],
            "Approve": [{"name": "record", "type": "RevenueRule"}, {"name": "validUntil", "type": "uint64"}],
            "RevenueRule": [
                {"name": records.member_name(name), "type": solidity}
                for name, solidity, _ in RevenueRule.members
            ],
        },
        "primaryType": "Approve",
        "domain": {
            "name": "Qazyna",
            "version": "1",
            "chainId": deployment.chain_id,
            "verifyingContract": Web3.to_checksum_address(deployment.council),
            "salt": LEDGER,
        },
        "message": {
            "record": {
                "time": now,
                "code": records.encode_name("parking"),
                "fund": records.encode_name("RETAINED"),
                "minShare": 2_500,
                "validFrom": now,
                "act": ACT,
            },
            "validUntil": until,
        },
    }
    approvals = []
    for key in COUNCIL[:3]:
        signed = wallet(key).sign_typed_data(full_message=typed)
        r, s = signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
        approvals.append(Approval(now, hash_struct(act), key.address, until, signed.v, r, s))
    receipt = world.city.enact(wallet(PAYER), act, *world.path(index), approvals)
    assert world.city.min_share("parking") == 2_500
    block = receipt["blockNumber"]
    (event,) = read_events(world.w3, Enacted, [deployment.council], block, block)
    assert (event.kind, event.record_hash, event.index) == (RevenueRule.type_hash, hash_struct(act), index)


def test_the_council_is_founded_on_what_the_genesis_binds(world: World) -> None:
    assert world.city.founding() == keccak256(b"".join(hash_struct(record) for record in founding()))
    assert all(world.city.is_seated(role, key.address) for role, key in OFFICES)
    assert world.city.required("council") == 3


# --- the anchor -------------------------------------------------------------------------------------


def test_a_head_is_anchored_only_if_it_extends_the_last(world: World) -> None:
    city, operator = world.city, wallet(OPERATOR)
    before = city.head()
    for number in range(5):
        world.add(RevenueRule(world.now(), f"code-{number}", "RETAINED", number, 0, ACT))
    receipt = world.anchor()
    size, root = len(world.log), world.root()
    assert city.head() == city.head_at(size)
    assert (city.head().size, city.head().root) == (size, root)
    block = receipt["blockNumber"]
    (event,) = read_events(world.w3, Anchored, [city.deployment.anchor], block, block)
    assert (event.size, event.root, event.time) == (size, root, city.head().time)
    assert city.is_included(
        decode(world.log[size - 1]), size - 1, size, proof.inclusion_path(size - 1, world.leaves())
    )
    assert not city.is_included(
        decode(world.log[0]), size - 1, size, proof.inclusion_path(size - 1, world.leaves())
    )

    with pytest.raises(Invalid) as same:
        city.append(operator, size, root, [], world.witness(size, root))
    assert (same.value.rule, same.value.why) == ("C:SizeNotGrowing", f"anchored {size}, offered {size}")
    with pytest.raises(Invalid) as unknown:
        city.head_at(before.size - 1)
    assert (unknown.value.rule, unknown.value.why) == (
        "C:UnknownHead",
        f"newest {size}, asked {before.size - 1}",
    )

    world.log[1] = world.log[0]  # a log that forgets
    world.add(RevenueRule(world.now(), "code-9", "RETAINED", 9, 0, ACT))
    with refused("C:NotConsistent", "LedgerAnchor.append"):
        world.anchor()


def test_public_consistency_vectors_have_the_same_answer_on_the_chain(vectors: Path) -> None:
    folder = vectors / "public" / "transparency-dev-merkle" / "testdata" / "consistency"
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]
    # The anchor takes growing sizes alone; what else the vectors ask is for proof.py to answer.
    cases = [case for case in cases if 0 < case["size1"] < case["size2"] < 2**63]
    assert len(cases) > 50
    operator, deployer = wallet(OPERATOR), wallet(DEPLOYER)
    rich: dict[str, int] = {operator.address: ETHER, deployer.address: 100 * ETHER}
    with DevChain(None, rich, lambda: START_S) as machine:
        w3 = Web3(machine.provider)
        world = World(w3, City(w3, deploy(w3, deployer, LEDGER, RETENTION_END_S, founding())))
        for case in cases:
            old, new = (b64decode(case[name] or "") for name in ("root1", "root2"))
            path = [b64decode(node) for node in case["proof"] or []]
            snapshot = machine.snapshot()
            rule = "accepted"
            try:
                world.city.append(operator, case["size1"], old, [], world.witness(case["size1"], old))
                world.city.append(operator, case["size2"], new, path, world.witness(case["size2"], new))
            except Invalid as refusal:
                rule = refusal.rule
            # A hash that is not 32 bytes cannot even be said to a contract.
            wrong = "C:NotConsistent" if {32} == {len(node) for node in (old, new, *path)} else "C:arguments"
            assert rule == (wrong if case["wantErr"] else "accepted"), case["desc"]
            machine.revert(snapshot)


def test_a_head_needs_the_operator_and_a_watcher_in_time(world: World) -> None:
    city, now = world.city, world.now()
    world.add(RevenueRule(now, "code", "RETAINED", 1, 0, ACT))
    size, root, path = len(world.log), world.root(), world.extension()
    with refused("C:NotSeated", "LedgerAnchor.append"):
        city.append(wallet(PAYER), size, root, path, world.witness(size, root))
    with refused("C:NotSeated", "LedgerAnchor.append"):
        city.append(wallet(OPERATOR), size, root, path, world.witness(size, root, by=AUDITOR))
    with refused("C:SignatureExpired", "LedgerAnchor.append"):
        city.append(wallet(OPERATOR), size, root, path, world.witness(size, root, valid_for=-1))
    # A signature over something else recovers to nobody in particular, who has no seat.
    with refused("C:NotSeated", "LedgerAnchor.append"):
        city.append(wallet(OPERATOR), size, root, path, world.witness(size, digest("another root")))
    city.append(wallet(OPERATOR), size, root, path, world.witness(size, root))


# --- the council ------------------------------------------------------------------------------------


def test_an_act_needs_its_place_in_the_ledger_and_the_quorum(world: World) -> None:
    city, payer, now = world.city, wallet(PAYER), world.now()
    act = RevenueRule(now, "parking", "RETAINED", 2_500, now, ACT)
    index = world.add(act)
    unanchored = (index, len(world.log), proof.inclusion_path(index, world.leaves()))
    with refused("C:UnknownHead", "LedgerAnchor.Anchored"):
        city.enact(payer, act, *unanchored, world.approve(act, COUNCIL[:3]))
    world.anchor()
    place = world.path(index)
    with pytest.raises(Invalid) as few:
        city.enact(payer, act, *place, world.approve(act, COUNCIL[:2]))
    assert (few.value.rule, few.value.why) == ("C:NoQuorum", "role council, needed 3, given 2")
    for keys, rule in (
        ([COUNCIL[0], COUNCIL[1], AUTHORITY], "C:NotSeated"),
        ([COUNCIL[0], COUNCIL[1], COUNCIL[1]], "C:SignersNotAscending"),
    ):
        with refused(rule, "Council.enact"):
            city.enact(payer, act, *place, world.approve(act, keys))
    with refused("C:SignatureExpired", "Council.enact"):
        city.enact(payer, act, *place, world.approve(act, COUNCIL[:3], valid_for=-1))
    other = replace(act, min_share=1)
    with refused("C:NotIncluded", "Council.enact"):
        city.enact(payer, other, *place, world.approve(other, COUNCIL[:3]))
    with refused("C:UnknownCode", "Council.minShare"):
        city.min_share("parking")
    city.enact(payer, act, *place, world.approve(act, COUNCIL[:3]))
    assert city.min_share("parking") == 2_500
    with refused("C:AlreadyEnacted", "Council.enact"):
        city.enact(payer, act, *place, world.approve(act, COUNCIL[:3]))


def test_a_parameter_and_a_seat_wait_fourteen_days(world: World) -> None:
    now, newcomer = world.now(), Key("newcomer")
    world.enact(
        Parameter(now, "order_delay", 2 * DAY, now, ACT),
        Seat(now, "gateway", newcomer.address, now, FOREVER_S, ACT),
    )
    world.wait(14 * DAY - 10)
    assert (world.city.parameter("order_delay"), world.city.is_seated("gateway", newcomer.address)) == (
        DAY,
        False,
    )
    world.wait(20)
    assert (world.city.parameter("order_delay"), world.city.is_seated("gateway", newcomer.address)) == (
        2 * DAY,
        True,
    )


def test_acts_that_break_a_rule_are_refused_though_everybody_signed(world: World) -> None:
    now = world.now()
    treasury = address_word(world.city.deployment.treasury)
    for act, rule in (
        (Parameter(now, "order_delay", DAY - 1, now, ACT), "C:OutOfBounds"),
        (Parameter(now, "mood", 1, now, ACT), "C:UnknownParameter"),
        (Seat(now, "authority", COUNCIL[0].address, now, FOREVER_S, ACT), "C:OneHolderOneRole"),
        (Seat(now, "authority", BUILDER.address, now, FOREVER_S, ACT), "C:HolderIsPayeeOrContract"),
        (Quorum(now, "council", 2, ACT), "C:QuorumTooSmall"),
        (Asset(now, "OTHER", 6, 1, world.token, now, FOREVER_S, ACT), "C:WrongChain"),
        (
            Asset(now, "AGAIN", 6, world.city.deployment.chain_id, world.token, now, FOREVER_S, ACT),
            "C:TokenTaken",
        ),
        (
            Account(now, "builder", "TKZT", "RETAINED", "payee", address_word(b"\1" * 20), ACT, ACT),
            "C:NameTaken",
        ),
        (Account(now, "thief", "TKZT", "RETAINED", "payee", treasury, ACT, ACT), "C:OwnerIsContract"),
        (
            Account(now, "thief", "TKZT", "RETAINED", "payee", address_word(COUNCIL[4].address), ACT, ACT),
            "C:OwnerHoldsSeat",
        ),
        (
            Account(now, "purse", "TKZT", "RETAINED", "chain", address_word(b"\1" * 20), ACT, ACT),
            "C:NotTheTreasury",
        ),
        (RevenueRule(now, FEE, "RETAINED", 10_001, now, ACT), "C:ShareTooLarge"),
        (Project(now, "palace", "roads", "elsewhere", 1, ACT), "C:PlaceNotInAlatau"),
        (replace(allocation(now), allocation="alloc-2", project_hash=ACT), "C:UnknownProject"),
    ):
        with refused(rule, "Council.enact"):
            world.enact(act)
    assert not is_enactable(Account(now, "b", "KZT", "RETAINED", "bank", ACT, ACT, ACT), 1)


# --- payments ---------------------------------------------------------------------------------------


def test_a_quote_is_paid_once_and_split_in_the_same_transaction(open_world: World) -> None:
    city, payer = open_world.city, wallet(PAYER)
    city.mint(wallet(DEPLOYER), open_world.token, PAYER.address, 10_000_000)
    city.allow(payer, open_world.token, 10_000_000)
    quote, signature = quote_for(open_world, open_world.token, 1_000_001)
    receipt = city.pay(payer, quote, signature)
    print("gas pay", receipt["gasUsed"])
    # 3 % of 1,000,001 is 30,000.03: what does not divide is the city's.
    assert city.balance(open_world.token, city.deployment.treasury) == 30_001
    assert city.balance(open_world.token, MERCHANT.address) == 970_000
    block = receipt["blockNumber"]
    (paid,) = read_events(open_world.w3, Paid, [city.deployment.router], block, block, quote.invoice)
    assert (paid.token, paid.amount, paid.city_amount) == (open_world.token, 1_000_001, 30_001)
    moved = read_events(open_world.w3, Transfer, [open_world.token], block, block)
    assert [(each.receiver, each.amount) for each in moved] == [
        (city.deployment.treasury, 30_001),
        (MERCHANT.address, 970_000),
    ]
    assert city.is_quote_used(GATEWAY.address, quote)
    with refused("C:QuoteUsed", "PaymentRouter.pay"):
        city.pay(payer, quote, signature)

    coin, signed = quote_for(open_world, COIN, 10_000, purpose=FEE, merchant=bytes(20), share_bps=10_000)
    before = city.balance(COIN, city.deployment.treasury)
    print("gas payNative", city.pay(payer, coin, signed)["gasUsed"])
    assert city.balance(COIN, city.deployment.treasury) - before == 10_000


def test_a_quote_that_breaks_a_rule_is_refused_with_both_numbers(open_world: World) -> None:
    city, payer, now = open_world.city, wallet(PAYER), open_world.now()
    for changes, rule, why in (
        ({"share_bps": 99}, "C:ShareTooSmall", "least 100, found 99"),
        ({"share_bps": 10_001}, "C:ShareTooLarge", "most 10000, found 10001"),
        ({"valid_until": now - 1}, "C:QuoteExpired", f"validUntil {now - 1}, time "),
        ({"purpose": "unheard-of"}, "C:UnknownCode", "code unheard-of"),
        ({"token": digest("worthless")[:20]}, "C:AssetNotAllowed", "token "),
        ({"merchant": bytes(20)}, "C:MerchantNotAllowed", "merchant "),
    ):
        with pytest.raises(Invalid) as refusal:
            city.pay(payer, *quote_for(open_world, open_world.token, 1_000, **changes))
        assert refusal.value.rule == rule
        assert refusal.value.why.startswith(why)
    quote, signature = quote_for(open_world, open_world.token, 1_000)
    with refused("C:NotSeated", "PaymentRouter.pay"):
        city.pay(payer, replace(quote, amount=1), signature)
    with refused("C:ERC20InsufficientAllowance", "PaymentRouter.pay"):
        city.pay(payer, quote, signature)


def test_nothing_is_taken_before_the_act_for_direct_settlement_is_in_force(world: World) -> None:
    with pytest.raises(Invalid) as off:
        world.city.pay(wallet(PAYER), *quote_for(world, world.token, 1_000))
    assert (off.value.rule, off.value.why) == ("C:DirectSettlementOff", "needed 1, found 0")
    terms = Terms(digest("invoice"), SALE, MERCHANT.address, 300)
    world.city.mint(wallet(DEPLOYER), world.token, world.city.deposit_address(terms), 1_000)
    with refused("C:DirectSettlementOff", "PaymentRouter.flush"):
        world.city.flush(wallet(PAYER), [terms], world.token)
    world.wait(14 * DAY + 1)
    world.city.flush(wallet(PAYER), [terms], world.token)
    assert world.city.balance(world.token, world.city.deployment.treasury) == 30


def test_deposit_addresses_are_flushed_in_one_batch_into_the_same_split(open_world: World) -> None:
    city, payer = open_world.city, wallet(PAYER)
    batch = [Terms(digest(f"invoice {number}"), SALE, MERCHANT.address, 50 * number) for number in range(6)]
    for number, terms in enumerate(batch[:5]):
        city.mint(wallet(DEPLOYER), open_world.token, city.deposit_address(terms), 1_001 + number)
    receipt = city.flush(payer, batch, open_world.token)
    print("gas flush of 5, each deployed", receipt["gasUsed"])
    block = receipt["blockNumber"]
    flushed = read_events(open_world.w3, Flushed, [city.deployment.router], block, block)
    assert [event.deposit for event in flushed] == [city.deposit_address(terms) for terms in batch[:5]]
    # Terms below the least share of 100 pay the least share.
    shares = [max(terms.share_bps, 100) for terms in batch[:5]]
    expected = [-(-(1_001 + number) * share // 10_000) for number, share in enumerate(shares)]
    assert [(event.amount, event.city_amount) for event in flushed] == list(
        zip(range(1_001, 1_006), expected, strict=True)
    )
    assert city.balance(open_world.token, city.deployment.treasury) == sum(expected)
    assert city.balance(open_world.token, MERCHANT.address) == sum(range(1_001, 1_006)) - sum(expected)

    city.transfer(payer, COIN, city.deposit_address(batch[5]), 10_000)
    before = city.balance(COIN, MERCHANT.address)
    city.flush(payer, batch, COIN)
    assert city.balance(COIN, MERCHANT.address) - before == 9_750


# --- spending ---------------------------------------------------------------------------------------


def test_an_order_is_paid_after_its_delay_and_only_once(open_world: World) -> None:
    city, payer, token = open_world.city, wallet(PAYER), open_world.token
    execution = payable(open_world)
    with refused("C:OrderTooEarly", "Treasury.execute"):
        city.execute(payer, execution)
    open_world.wait(DAY)
    with pytest.raises(Invalid) as poor:
        city.execute(payer, execution)
    assert (poor.value.rule, poor.value.why) == ("C:NotEnough", "free 0, needed 20000000")
    city.mint(wallet(DEPLOYER), token, city.deployment.treasury, 60_000_000)
    for changed, rule in (
        (replace(execution, certificate=replace(execution.certificate, accepted=0)), "C:CertificateDiffers"),
        (replace(execution, order=replace(execution.order, amount=20_000_001)), "C:NotIncluded"),
        (replace(execution, commitment=replace(execution.commitment, payee="thief")), "C:CommitmentDiffers"),
        (replace(execution, certificate_approvals=[]), "C:NoQuorum"),
        (replace(execution, order_approvals=open_world.approve(execution.order, [AUDITOR])), "C:NotSeated"),
        (replace(execution, path=execution.path[1:]), "C:NotIncluded"),
    ):
        with refused(rule, "Treasury.execute"):
            city.execute(payer, changed)
    receipt = city.execute(payer, execution)
    print("gas execute", receipt["gasUsed"])
    assert city.balance(token, BUILDER.address) == 20_000_000
    assert city.paid(execution.commitment) == 20_000_000
    block = receipt["blockNumber"]
    (event,) = read_events(open_world.w3, Executed, [city.deployment.treasury], block, block)
    assert (event.order_hash, event.payee, event.amount) == (
        hash_struct(execution.order),
        BUILDER.address,
        20_000_000,
    )
    with refused("C:AlreadyPaid", "Treasury.execute"):
        city.execute(payer, execution)


def test_an_auditor_stops_one_order_for_thirty_days_once(open_world: World) -> None:
    city, token = open_world.city, open_world.token
    execution = payable(open_world)
    city.mint(wallet(DEPLOYER), token, city.deployment.treasury, 60_000_000)
    with refused("C:NotSeated", "Treasury.stop"):
        city.stop(wallet(PAYER), execution.order)
    city.stop(wallet(AUDITOR), execution.order)
    open_world.wait(DAY)
    with refused("C:OrderStopped", "Treasury.execute"):
        city.execute(wallet(PAYER), execution)
    with refused("C:AlreadyStopped", "Treasury.stop"):
        city.stop(wallet(AUDITOR), execution.order)
    open_world.wait(29 * DAY)
    city.execute(wallet(PAYER), execution)
    assert city.is_order_paid(execution.order)
    assert city.balance(token, BUILDER.address) == 20_000_000


# --- failures ---------------------------------------------------------------------------------------


def test_a_node_that_does_not_answer_is_no_verdict(world: World) -> None:
    gone = City(
        Web3(HTTPProvider("http://127.0.0.1:9", request_kwargs={"timeout": 1})), world.city.deployment
    )
    with pytest.raises(Unavailable):
        gone.head()
    with pytest.raises(Unavailable):
        gone.stop(wallet(AUDITOR), Order(1, "o", ACT, ACT, ACT, "a", 1, "b"))


def test_a_refusal_that_nobody_knows_is_shown_as_it_came() -> None:
    assert explain("0xdeadbeef") == ("C:Reverted", "reverted with 0xdeadbeef")
    assert explain(None) == ("C:Reverted", "")
