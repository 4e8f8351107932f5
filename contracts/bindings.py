"""Typed access to the contracts: what is signed for them, deployment, and all that a city asks and sends.

Records go in as ledger.records has them; addresses are 20 bytes and hashes 32. A refusal of a contract is
Invalid with rule "C:<its error>" and the error's numbers; a node that does not answer is Unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard, cast

from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import Contract as Web3Contract
from web3.exceptions import (
    Web3Exception,
)
from web3.types import Nonce, TxParams, TxReceipt, Wei
from web3.utils import get_create_address

from contracts.create2 import (
    FACTORY,
    FACTORY_CODE,
    FACTORY_FEE_WEI,
    FACTORY_MAKER,
    FACTORY_TRANSACTION,
    create2_address,
)
from contracts.events import Anchored, Resumed, read_events
from contracts.resumption import Resumption
from contracts.transactions import CONTRACTS, RECEIPT_TIMEOUT_S, answering, load_artifact, transact
from ledger.records import (
    WORD,
    ZERO_ADDRESS,
    Account,
    Allocation,
    Approval,
    Asset,
    Certificate,
    Commitment,
    Contract,
    Dispute,
    Invalid,
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Record,
    Refund,
    Resolution,
    RevenueRule,
    Seat,
    Unavailable,
    Withdrawal,
    address_word,
    domain_separator,
    encode,
    encode_name,
    hash_struct,
    keccak256,
    reject,
)
from ledger.records import Transfer as LedgerTransfer

SHARE_WHOLE = 10_000
# What stands for the chain's own coin where a token is asked for; zero means that an asset has none (N9).
COIN = b"\xee" * 20
# Where Permit2 stands on every chain that has it.
PERMIT2 = bytes.fromhex("000000000022d473030f116ddee9f6b43ac78ba3")

# At most this much gas for each function. A bound, not an estimate: a node that lies costs no more than this.
GAS = {
    "enact": 2_000_000,
    "append": 1_000_000,
    "announceResumption": 1_000_000,
    "resume": 1_000_000,
    "execute": 2_000_000,
    "stop": 200_000,
    "refund": 2_000_000,
    "dispute": 500_000,
    "resolve": 1_000_000,
    "withdraw(bytes32,address,uint8,bytes32,bytes32)": 200_000,
    "reportOverspent": 5_000_000,
    "reportPayee": 1_000_000,
    "reportUnregistered": 1_000_000,
    "reportTwice": 2_000_000,
    "reportRefused": 1_000_000,
    "reportRepublic": 1_000_000,
    "reportTime": 1_000_000,
    "reportKind": 1_000_000,
    "lift": 1_000_000,
    "pull": 300_000,
    "pay": 500_000,
    "payNative": 500_000,
    "payWithPermit": 500_000,
    "payWithAuthorization": 500_000,
    "payWithPermit2": 700_000,
    "mint": 200_000,
    "approve": 200_000,
    "transfer": 200_000,
}
GAS_FLUSH, GAS_FLUSH_EACH, GAS_DEPLOY = 200_000, 400_000, 15_000_000

_CHAIN_KINDS = frozenset({"chain", "payee", "republic"})
_QUOTE_TYPE = (
    b"Quote(bytes32 invoice,bytes32 purpose,address merchant,address token,"
    b"uint256 amount,uint256 shareBps,uint256 validUntil,uint256 nonce)"
)
_QUOTE_TYPE_HASH = keccak256(_QUOTE_TYPE)
_PERMISSION_TYPE = b"TokenPermissions(address token,uint256 amount)"
_PERMISSION_TYPE_HASH = keccak256(_PERMISSION_TYPE)
_PERMIT2_TYPE_HASH = keccak256(
    b"PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,"
    b"uint256 deadline,Quote witness)" + _QUOTE_TYPE + _PERMISSION_TYPE
)
_AUTHORIZATION_TYPE_HASH = keccak256(
    b"ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
    b"uint256 validBefore,bytes32 nonce)"
)
_TERMS_TYPE_HASH = keccak256(b"Terms(bytes32 invoice,bytes32 purpose,address merchant,uint16 shareBps)")


# --- what is signed and what is bound ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quote:
    """What a gateway seat signs for a payer: once paid it is used up. token is COIN for the coin.

    nonce: of two quotes of one gateway, token and purpose with the same nonce one can be paid. 128 that
    differ in the last seven bits only share a word of storage, so counting makes payments cheaper.
    """

    invoice: bytes
    purpose: str
    merchant: bytes
    token: bytes
    amount: int
    share_bps: int
    valid_until: int
    nonce: int

    def hash(self) -> bytes:
        """The EIP-712 hashStruct, by which the event Paid names this quote."""
        purpose, merchant, token = (
            encode_name(self.purpose),
            address_word(self.merchant),
            address_word(self.token),
        )
        numbers = map(_uint, (self.amount, self.share_bps, self.valid_until, self.nonce))
        return keccak256(b"".join((_QUOTE_TYPE_HASH, self.invoice, purpose, merchant, token, *numbers)))

    def words(self) -> tuple[object, ...]:
        """The members as web3 encodes them."""
        numbers = (self.amount, self.share_bps, self.valid_until, self.nonce)
        return (self.invoice, encode_name(self.purpose), self.merchant, self.token, *numbers)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deposit address is bound to for ever."""

    invoice: bytes
    purpose: str
    merchant: bytes
    share_bps: int

    def hash(self) -> bytes:
        """The salt of the deposit address."""
        words = (self.invoice, encode_name(self.purpose), address_word(self.merchant), _uint(self.share_bps))
        return keccak256(_TERMS_TYPE_HASH + b"".join(words))

    def words(self) -> tuple[object, ...]:
        """The members as web3 encodes them."""
        return (self.invoice, encode_name(self.purpose), self.merchant, self.share_bps)


@dataclass(frozen=True, slots=True)
class Execution:
    """An order with all that Treasury asks to see: what it rests on, who signed it, where it stands."""

    order: Order
    commitment: Commitment
    milestone: Milestone
    certificate: Certificate
    order_approvals: Sequence[Approval]
    certificate_approvals: Sequence[Approval]
    index: int
    head_size: int
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Refunding:
    """A refund with the receipt that bounds it, who signed it, and where both stand in one head."""

    refund: Refund
    receipt: LedgerTransfer
    authority_approvals: Sequence[Approval]
    auditor_approvals: Sequence[Approval]
    index: int
    receipt_index: int
    head_size: int
    path: Sequence[bytes]
    receipt_path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Placed:
    """A record with its place in the head that a report to the Watchdog names; bytes where it may be none."""

    record: Record | bytes
    index: int
    path: Sequence[bytes]
    approvals: Sequence[Approval] = ()


class Signature(NamedTuple):
    """A seat's signature as contracts take it."""

    signer: bytes
    valid_until: int
    v: int
    r: bytes
    s: bytes

    @property
    def vs(self) -> bytes:
        """The second word of a compact signature (EIP-2098): s, with v in its highest bit."""
        return ((self.v - 27) << 255 | int.from_bytes(self.s, "big")).to_bytes(WORD, "big")


def quote_digest(domain: bytes, quote: Quote) -> bytes:
    """The 32 bytes that a gateway seat signs."""
    return _digest(domain, quote.hash())


def authorization_digest(token_domain: bytes, quote: Quote, payer: bytes, router: bytes) -> bytes:
    """The 32 bytes that a payer signs to pay a quote by EIP-3009.

    token_domain: what the token's DOMAIN_SEPARATOR() answers.
    """
    words = (address_word(payer), address_word(router), _uint(quote.amount), _uint(0))
    until = _uint(quote.valid_until + 1)
    return _digest(token_domain, keccak256(b"".join((_AUTHORIZATION_TYPE_HASH, *words, until, quote.hash()))))


def permit2_digest(chain_id: int, quote: Quote, city_amount: int, nonce: int, router: bytes) -> bytes:
    """The 32 bytes that a payer signs to pay a quote by Permit2.

    The city's part and the rest are two permissions of one batch; the quote is its witness.
    """
    named = keccak256(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)")
    domain = keccak256(named + keccak256(b"Permit2") + _uint(chain_id) + address_word(PERMIT2))
    permitted = b"".join(
        keccak256(_PERMISSION_TYPE_HASH + address_word(quote.token) + _uint(amount))
        for amount in (city_amount, quote.amount - city_amount)
    )
    words = (keccak256(permitted), address_word(router), _uint(nonce), _uint(quote.valid_until), quote.hash())
    return _digest(domain, keccak256(b"".join((_PERMIT2_TYPE_HASH, *words))))


def city_part(amount: int, share_bps: int) -> int:
    """The city's part of a payment: what does not divide is the city's."""
    return -(-amount * share_bps // SHARE_WHOLE)


def sign_digest(account: LocalAccount, digest: bytes, valid_until: int = 0) -> Signature:
    """Sign 32 bytes with a key that this process holds."""
    signed = account.unsafe_sign_hash(Hash32(digest))
    r, s = signed.r.to_bytes(WORD, "big"), signed.s.to_bytes(WORD, "big")
    return Signature(bytes.fromhex(account.address[2:]), valid_until, signed.v, r, s)


def _digest(domain: bytes, hash_of_struct: bytes) -> bytes:
    return keccak256(b"\x19\x01" + domain + hash_of_struct)


def _uint(value: int) -> bytes:
    return value.to_bytes(WORD, "big")


def is_enactable(record: Record, chain_id: int) -> bool:
    """Whether this record is one that the Council contract on that chain takes."""
    match record:
        case Asset() | Contract():
            return record.chain_id == chain_id
        case Account():
            return record.kind in _CHAIN_KINDS
        case Seat() | Quorum() | Parameter() | RevenueRule() | Project() | Allocation():
            return True
        case _:
            return False


# --- deployment -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts of one ledger stand.

    block: no earlier one has a log of theirs; code_hashes: keccak256 of the deployed code, by contract name.
    """

    ledger: bytes
    chain_id: int
    council: bytes
    anchor: bytes
    watchdog: bytes
    treasury: bytes
    router: bytes
    block: int
    code_hashes: Mapping[str, bytes]

    @property
    def domain(self) -> bytes:
        """The EIP-712 domain of everything that is signed for this ledger."""
        return domain_separator(self.chain_id, self.council, self.ledger)

    def contract_records(self, time_s: int, act: bytes) -> list[Contract]:
        """The Contract records that name these contracts (LEAKS 18)."""
        return [
            Contract(time_s, name, self.chain_id, getattr(self, name), self.code_hashes[name], act)
            for name in CONTRACTS
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment will be.

    places: where each contract will stand, by name; codes: what makes it, in order, but for the anchor, which
    the Council makes.
    """

    ledger: bytes
    chain_id: int
    places: Mapping[str, bytes]
    codes: Mapping[str, bytes]


def created_address(sender: bytes, nonce: int) -> bytes:
    """Where the contract stands that this sender creates with this nonce."""
    return bytes.fromhex(get_create_address(Web3.to_checksum_address(sender), Nonce(nonce))[2:])


def plan(chain_id: int, ledger: bytes, retention_end: int, founding: Sequence[Record]) -> Plan:
    """Where the contracts of one ledger stand, on any chain; their code and these arguments decide.

    founding: the Seat records, then the Quorum records, in the order of the ledger; the Genesis binds them.
    """
    seats = [record for record in founding if isinstance(record, Seat)]
    quorums = [record for record in founding if isinstance(record, Quorum)]
    if list(founding) != [*seats, *quorums]:
        reject(
            "C:founding",
            "deploy",
            f"{len(founding)} records are not {len(seats)} seats, then {len(quorums)} quorums",
        )
    founders = [_members(seat) for seat in seats], [_members(quorum) for quorum in quorums]
    codes = {"council": init_code("Council", ledger, retention_end, *founders)}
    places = {"council": create2_address(ledger, codes["council"])}
    # The Council makes its anchor, as the first thing that it makes.
    places["anchor"] = created_address(places["council"], 1)
    for name, artifact, others in (
        ("watchdog", "Watchdog", ("council",)),
        ("treasury", "Treasury", ("council", "watchdog")),
        ("router", "PaymentRouter", ("council", "treasury")),
    ):
        codes[name] = init_code(artifact, *(places[other] for other in others))
        places[name] = create2_address(ledger, codes[name])
    return Plan(ledger, chain_id, places, codes)


def deploy(
    w3: Web3, account: LocalAccount, ledger: bytes, retention_end: int, founding: Sequence[Record]
) -> Deployment:
    """Deploy the contracts of one ledger; who pays for it decides nothing, then and afterwards.

    What stands already is left as it is, so a deployment that was cut off is gone on with by deploying again.
    """
    with answering("deploy"):
        planned = plan(w3.eth.chain_id, ledger, retention_end, founding)
        # If nothing stands yet, nothing was ever logged before this block.
        block = 0 if code_at(w3, planned.places["council"]) else w3.eth.block_number + 1
    _bring_factory(w3, account)
    for name, code in planned.codes.items():
        _create2(w3, account, ledger, code, planned.places[name], f"{CONTRACTS[name]}.constructor")
    with answering("deploy"):
        hashes = {name: keccak256(code_at(w3, place)) for name, place in planned.places.items()}
    made = Deployment(ledger, planned.chain_id, **planned.places, block=block, code_hashes=hashes)
    found = City(w3, made).founding()
    assert found == keccak256(b"".join(hash_struct(record) for record in founding))
    return made


def init_code(artifact: str, *arguments: object) -> bytes:
    """What makes a contract when it is run: its creation code and its constructor's arguments."""
    content = load_artifact(artifact)
    with answering(f"{artifact}.constructor"):
        constructor = (
            Web3()
            .eth.contract(abi=content["abi"], bytecode=content["bytecode"])
            .constructor(
                *(Web3.to_checksum_address(each) if _is_address(each) else each for each in arguments)
            )
        )
        return bytes.fromhex(constructor.data_in_transaction[2:])


def _is_address(value: object) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and len(value) == len(ZERO_ADDRESS)


def code_at(w3: Web3, place: bytes) -> bytes:
    """The code at an address, no bytes if there is none."""
    return bytes(w3.eth.get_code(Web3.to_checksum_address(place)))


def _bring_factory(w3: Web3, account: LocalAccount) -> None:
    """Put the factory on a chain that has none yet."""
    with answering("CREATE2 factory"):
        maker = Web3.to_checksum_address(FACTORY_MAKER)
        if not code_at(w3, FACTORY):
            missing = FACTORY_FEE_WEI - w3.eth.get_balance(maker)
            if missing > 0:
                transact(w3, account, {"to": maker, "value": Wei(missing), "gas": 21_000}, "CREATE2 factory")
            sent = w3.eth.send_raw_transaction(FACTORY_TRANSACTION)
            w3.eth.wait_for_transaction_receipt(sent, timeout=RECEIPT_TIMEOUT_S, poll_latency=0.05)
        found = code_at(w3, FACTORY)
    if found != FACTORY_CODE:
        reject("C:factory", f"0x{FACTORY.hex()}", f"{len(found)} bytes of code are not those of the factory")


def _create2(w3: Web3, account: LocalAccount, salt: bytes, code: bytes, place: bytes, where: str) -> None:
    with answering(where):
        if code_at(w3, place):
            return
        # The factory keeps what a constructor says to itself, so the constructor is asked without it first.
        w3.eth.call({"from": account.address, "data": HexBytes(code), "gas": GAS_DEPLOY})
        factory = Web3.to_checksum_address(FACTORY)
        transact(w3, account, {"to": factory, "data": HexBytes(salt + code), "gas": GAS_DEPLOY}, where)
        if not code_at(w3, place):
            raise Unavailable("chain", f"{where}: no code at 0x{place.hex()}")


def create(w3: Web3, account: LocalAccount, artifact: str, *arguments: object) -> TxReceipt:
    """Deploy one contract by its artifact's name."""
    where, code = f"{artifact}.constructor", HexBytes(init_code(artifact, *arguments))
    with answering(where):
        return transact(w3, account, {"data": code, "gas": GAS_DEPLOY}, where)


def _created(receipt: TxReceipt) -> bytes:
    address = receipt["contractAddress"]
    assert address is not None
    return bytes.fromhex(address[2:])


# --- the contracts of one city ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """An anchored head; size 0 before the first."""

    size: int
    time: int
    root: bytes


class Gap(NamedTuple):
    """What a resumption left out: heads after this one, up to a second."""

    size: int
    time_s: int
    until_s: int

    def has(self, size: int, time_s: int) -> bool:
        """Whether the head of this size that was anchored in this second counts no more."""
        return (self.time_s, self.size) < (time_s, size) and time_s <= self.until_s


class City:
    """The contracts of one deployment, through one node."""

    def __init__(self, w3: Web3, deployment: Deployment) -> None:
        self.w3 = w3
        self.deployment = deployment
        self._contracts = {
            name: _at(w3, artifact, getattr(deployment, name)) for name, artifact in CONTRACTS.items()
        }
        self._implementation = created_address(deployment.router, 1)

    # --- what anybody may ask ---

    def head(self) -> Head:
        """The newest anchored head."""
        return Head(*self._ask("anchor", "head"))

    def head_at(self, size: int) -> Head:
        """The anchored head of exactly this size."""
        newest = self.head()
        if newest.size == size:
            return newest
        # The contract finds a root by size and second; the event says which second it was.
        at, deployment = [self.deployment.anchor], self.deployment
        with answering("anchor.head_at"):
            last = self.w3.eth.block_number
        anchored = read_events(self.w3, Anchored, at, deployment.block, last, _uint(size))
        if not anchored:
            reject("C:UnknownHead", "LedgerAnchor.Anchored", f"newest {newest.size}, asked {size}")
        gaps = self.gaps(anchored[0].block, last)
        counting = [one for one in anchored if not any(gap.has(size, one.time) for gap in gaps)]
        # Where none counts any more the contract says so itself.
        found = (counting or anchored)[-1]
        return Head(size, found.time, found.root)

    def newest_block(self) -> int:
        """The number of the newest block."""
        with answering("newest block"):
            return self.w3.eth.block_number

    def gaps(self, first_block: int, last_block: int) -> list[Gap]:
        """What the resumptions in these blocks, both included, left out."""
        found = []
        for event in read_events(self.w3, Resumed, [self.deployment.anchor], first_block, last_block):
            with answering("block of a resumption"):
                until = self.w3.eth.get_block(event.block)["timestamp"]
            found.append(Gap(event.head_size, event.head_time, until))
        return found

    def is_included(self, record: Record, index: int, head_size: int, path: Sequence[bytes]) -> bool:
        """Whether an anchored head has this record at this index."""
        try:
            time_s = self.head_at(head_size).time
            self._ask("anchor", "checkIncluded", encode(record), index, head_size, time_s, list(path))
        except Invalid as refusal:
            if refusal.rule in {"C:NotIncluded", "C:UnknownHead"}:
                return False
            raise
        return True

    def founding(self) -> bytes:
        """What Genesis.founding must say."""
        return bytes(self._ask("council", "founding"))

    def parameter(self, name: str) -> int:
        """A parameter's value in the newest block."""
        return int(self._ask("council", "parameter", encode_name(name)))

    def min_share(self, code: str) -> int:
        """The city's least share of payments for a code, in 1/10,000."""
        return int(self._ask("council", "minShare", encode_name(code)))

    def required(self, role: str) -> int:
        """How many seats of a role must sign."""
        return int(self._ask("council", "required", encode_name(role)))

    def is_seated(self, role: str, holder: bytes) -> bool:
        """Whether the holder has a seat of the role in the newest block."""
        return bool(self._ask("council", "seated", encode_name(role), holder))

    def paid(self, record: Commitment | Allocation) -> int:
        """What Treasury has paid on a commitment or an allocation."""
        return int(self._ask("treasury", "paid", hash_struct(record)))

    def is_order_paid(self, order: Order) -> bool:
        """Whether Treasury has paid an order."""
        return bool(self._ask("treasury", "isPaid", hash_struct(order)))

    def is_refund_paid(self, refund: Refund) -> bool:
        """Whether Treasury has paid a refund."""
        return bool(self._ask("treasury", "isPaid", hash_struct(refund)))

    def disputed_at(self, commitment: Commitment) -> int:
        """The time of the dispute that holds a commitment; 0 if none does."""
        return int(self._ask("treasury", "disputedAt", hash_struct(commitment)))

    def frozen(self, commitment: Commitment | None = None) -> int:
        """How many breaches freeze a commitment, or all of Treasury."""
        return int(
            self._ask("watchdog", "frozen", bytes(WORD) if commitment is None else hash_struct(commitment))
        )

    def is_recovering(self) -> bool:
        """Whether so few are seated in the council that those who sat may fill its seats."""
        return bool(self._ask("council", "isRecovering"))

    def is_quote_used(self, gateway: bytes, quote: Quote) -> bool:
        """Whether this gateway's quote was paid, or another with its nonce."""
        return bool(self._ask("router", "isQuoteUsed", gateway, quote.words()))

    def credit(self, contract: str, owner: bytes, token: bytes) -> int:
        """What an owner may pull from "treasury" or "router"."""
        return int(self._ask(contract, "credit", owner, token))

    def balance(self, token: bytes, holder: bytes) -> int:
        """What a holder has of a token, or of the coin."""
        with answering("balance"):
            if token == COIN:
                return int(self.w3.eth.get_balance(Web3.to_checksum_address(holder)))
            return int(_at(self.w3, "TestToken", token).functions.balanceOf(holder).call())

    def deposit_address(self, terms: Terms) -> bytes:
        """Where to send money under these terms; asks nobody, so a chain that is away does not matter."""
        if not 0 <= terms.share_bps <= SHARE_WHOLE:
            reject(
                "C:ShareTooLarge",
                "deposit_address",
                f"a share is at most {SHARE_WHOLE}, this is {terms.share_bps}",
            )
        if terms.merchant == self.deployment.router or (
            terms.merchant == ZERO_ADDRESS and terms.share_bps != SHARE_WHOLE
        ):
            reject(
                "C:MerchantNotAllowed", "deposit_address", f"0x{terms.merchant.hex()} cannot take the rest"
            )
        # EIP-1167: the whole code of a clone but the address that it borrows from.
        code = bytes.fromhex("3d602d80600a3d3981f3363d3d373d3d3d363d73") + self._implementation
        code += bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
        return keccak256(b"\xff" + self.deployment.router + terms.hash() + keccak256(code))[12:]

    # --- what the ledger brings ---

    def enact(
        self,
        account: LocalAccount,
        record: Record,
        index: int,
        head_size: int,
        path: Sequence[bytes],
        approvals: Sequence[Approval],
    ) -> TxReceipt:
        """Bring an act of the Council into force."""
        place = (index, head_size, self.head_at(head_size).time, list(path))
        return self._send(account, "council", "enact", encode(record), *place, _signatures(approvals))

    def signed_append(
        self,
        account: LocalAccount,
        size: int,
        root: bytes,
        path: Sequence[bytes],
        watcher: Signature,
        nonce: int,
        fee_wei: int,
        tip_wei: int,
    ) -> tuple[bytes, bytes]:
        """An append that the contract would take now, signed and not sent: its hash and its bytes.

        fee_wei and tip_wei are for one unit of gas (EIP-1559).
        """
        with answering("LedgerAnchor.append"):
            words = (size, root, list(path), watcher.valid_until, watcher.r, watcher.vs)
            anchor = self._contracts["anchor"]
            asked: TxParams = {
                "from": account.address,
                "to": anchor.address,
                "data": anchor.encode_abi("append", args=words),
                "value": Wei(0),
                "gas": GAS["append"],
                "chainId": self.deployment.chain_id,
            }
            self.w3.eth.call(asked)
            fees: TxParams = {"maxFeePerGas": Wei(fee_wei), "maxPriorityFeePerGas": Wei(tip_wei)}
            filled: TxParams = {**asked, **fees, "nonce": Nonce(nonce), "type": 2}
            signed = account.sign_transaction(cast("dict[str, Any]", filled))
        return bytes(signed.hash), bytes(signed.raw_transaction)

    def send_signed(self, raw: bytes, where: str) -> None:
        """Hand a signed transaction to the node and do not wait; one that it has already is no error."""
        with answering(where):
            try:
                self.w3.eth.send_raw_transaction(HexBytes(raw))
            except Web3Exception as error:
                if "already known" not in str(error) and "already imported" not in str(error):
                    raise

    def heads_between(self, first_block: int, last_block: int) -> list[Anchored]:
        """The heads that were anchored in these blocks, both included."""
        return read_events(self.w3, Anchored, [self.deployment.anchor], first_block, last_block)

    def nonce(self, account: LocalAccount) -> int:
        """How many transactions of an account are in blocks: what waits has this number or a later one."""
        with answering("nonce"):
            return self.w3.eth.get_transaction_count(account.address, "latest")

    def fees(self) -> tuple[int, int]:
        """The base fee of the newest block and the tip that the node suggests, wei for one unit of gas."""
        with answering("fees"):
            return self.w3.eth.get_block("latest").get("baseFeePerGas", 0), self.w3.eth.max_priority_fee

    def final_block(self) -> int:
        """The newest block that the chain will not take back."""
        with answering("finalized"):
            return self.w3.eth.get_block("finalized")["number"]

    def append(
        self, account: LocalAccount, size: int, root: bytes, path: Sequence[bytes], watcher: Signature
    ) -> TxReceipt:
        """Anchor a head; the account holds an operator's seat, the signature is over head_digest."""
        signed = (watcher.valid_until, watcher.r, watcher.vs)
        return self._send(account, "anchor", "append", size, root, list(path), *signed)

    def announce_resumption(
        self, account: LocalAccount, asked: Resumption, approvals: Sequence[Signature]
    ) -> TxReceipt:
        """Announce that the log goes on from an earlier head; the approvals are over approve_digest."""
        return self._send(account, "anchor", "announceResumption", _members(asked), _signatures(approvals))

    def resume(self, account: LocalAccount, asked: Resumption, approvals: Sequence[Signature]) -> TxReceipt:
        """Go on from an earlier head, 14 days after it was announced; the same quorum is asked again."""
        return self._send(account, "anchor", "resume", _members(asked), _signatures(approvals))

    def execute(self, account: LocalAccount, execution: Execution) -> TxReceipt:
        """Pay an order."""
        time_s = self.head_at(execution.head_size).time
        return self._send(account, "treasury", "execute", _execution(execution, time_s))

    def refund(self, account: LocalAccount, asked: Refunding) -> TxReceipt:
        """Pay a refund."""
        return self._send(account, "treasury", "refund", self._refunding(asked))

    def refund_data(self, asked: Refunding) -> bytes:
        """The same as what a transaction to the treasury carries, for whoever sends it."""
        with answering("Treasury.refund"):
            data = self._contracts["treasury"].encode_abi("refund", args=[self._refunding(asked)])
        return bytes.fromhex(data[2:])

    def _refunding(self, asked: Refunding) -> tuple[object, ...]:
        time_s = self.head_at(asked.head_size).time
        return (
            _members(asked.refund),
            _members(asked.receipt),
            _signatures(asked.authority_approvals),
            _signatures(asked.auditor_approvals),
            asked.index,
            asked.receipt_index,
            asked.head_size,
            time_s,
            list(asked.path),
            list(asked.receipt_path),
        )

    def stop(self, account: LocalAccount, record: Order | Refund) -> TxReceipt:
        """Stop an order or a refund; the account holds an auditor's seat."""
        return self._send(account, "treasury", "stop", hash_struct(record))

    def dispute(
        self, account: LocalAccount, record: Dispute, commitment: Commitment, approval: Approval
    ) -> TxReceipt:
        """Hold a commitment; the approval is of the one whom the record names."""
        (signature,) = _signatures([approval])
        return self._send(account, "treasury", "dispute", _members(record), _members(commitment), signature)

    def resolve(
        self,
        account: LocalAccount,
        record: Resolution,
        index: int,
        head_size: int,
        path: Sequence[bytes],
        approvals: Sequence[Approval],
    ) -> TxReceipt:
        """Settle a dispute."""
        place = (index, head_size, self.head_at(head_size).time, list(path))
        return self._send(account, "treasury", "resolve", _members(record), *place, _signatures(approvals))

    def withdraw(self, account: LocalAccount, record: Withdrawal) -> TxReceipt:
        """Show the Council that a seat took its signature back; any account may bring it."""
        return self._send(
            account,
            "council",
            "withdraw(bytes32,address,uint8,bytes32,bytes32)",
            record.approves,
            record.signer,
            record.v,
            record.r,
            record.s,
        )

    def report(
        self, account: LocalAccount, function: str, head_size: int, *shown: Placed | Sequence[Placed] | Record
    ) -> TxReceipt:
        """Show the Watchdog a breach: function and arguments as IWatchdog has them, after the head."""
        head = (head_size, self.head_at(head_size).time)
        return self._send(account, "watchdog", function, head, *map(_shown, shown))

    def lift(
        self,
        account: LocalAccount,
        head_size: int,
        acknowledgement: Placed,
        council_approvals: Sequence[Approval],
        auditor_approvals: Sequence[Approval],
    ) -> TxReceipt:
        """End the freeze of one breach."""
        head = (head_size, self.head_at(head_size).time)
        approvals = (_signatures(council_approvals), _signatures(auditor_approvals))
        return self._send(account, "watchdog", "lift", head, _shown(acknowledgement), *approvals)

    def pull(self, account: LocalAccount, contract: str, owner: bytes, token: bytes) -> TxReceipt:
        """Send an owner what it could not receive from "treasury" or "router"."""
        return self._send(account, contract, "pull", owner, token)

    # --- what payers bring ---

    def pay(self, account: LocalAccount, quote: Quote, signature: Signature) -> TxReceipt:
        """Pay a quote, with the coin or with a token that the account allowed the router to take."""
        signed = (signature.r, signature.vs)
        if quote.token == COIN:
            return self._send(account, "router", "payNative", quote.words(), *signed, value=quote.amount)
        return self._send(account, "router", "pay", quote.words(), *signed)

    def pay_with_permit(
        self,
        account: LocalAccount,
        quote: Quote,
        signature: Signature,
        value: int,
        deadline: int,
        permit: Signature,
    ) -> TxReceipt:
        """Show the token the account's EIP-2612 permit, then pay; a used permit does no harm."""
        shown = (value, deadline, permit.v, permit.r, permit.s)
        return self._send(account, "router", "payWithPermit", quote.words(), signature.r, signature.vs, shown)

    def pay_with_authorization(
        self,
        account: LocalAccount,
        quote: Quote,
        signature: Signature,
        payer: bytes,
        authorization: Signature,
    ) -> TxReceipt:
        """Pay a quote with what its payer signed over authorization_digest; any account may bring it."""
        shown = (payer, authorization.v, authorization.r, authorization.s)
        return self._send(
            account, "router", "payWithAuthorization", quote.words(), signature.r, signature.vs, shown
        )

    def pay_with_permit2(
        self,
        account: LocalAccount,
        quote: Quote,
        signature: Signature,
        payer: bytes,
        nonce: int,
        permit: Signature,
    ) -> TxReceipt:
        """Pay a quote with what its payer signed over permit2_digest; any account may bring it."""
        shown = (payer, nonce, permit.r + permit.s + bytes([permit.v]))
        return self._send(
            account, "router", "payWithPermit2", quote.words(), signature.r, signature.vs, shown
        )

    def flush(self, account: LocalAccount, terms: Sequence[Terms], token: bytes) -> TxReceipt:
        """Split what stands at deposit addresses."""
        gas = GAS_FLUSH + GAS_FLUSH_EACH * len(terms)
        return self._send(account, "router", "flush", [term.words() for term in terms], token, gas=gas)

    # --- tokens, for the demo and tests ---

    def mint(self, account: LocalAccount, token: bytes, to: bytes, amount: int) -> TxReceipt:
        """Make test tokens; the account deployed them."""
        return self._send_token(account, token, "mint", to, amount)

    def transfer(self, account: LocalAccount, token: bytes, to: bytes, amount: int) -> TxReceipt:
        """Send tokens, or the coin."""
        if token == COIN:
            with answering("transfer"):
                return transact(
                    self.w3,
                    account,
                    {"to": Web3.to_checksum_address(to), "value": Wei(amount), "gas": GAS["transfer"]},
                    "transfer",
                )
        return self._send_token(account, token, "transfer", to, amount)

    def allow(self, account: LocalAccount, token: bytes, amount: int) -> TxReceipt:
        """Allow the router to take tokens."""
        return self._send_token(account, token, "approve", self.deployment.router, amount)

    def _ask(self, contract: str, function: str, *arguments: object) -> Any:
        with answering(f"{CONTRACTS[contract]}.{function}"):
            return self._contracts[contract].functions[function](*arguments).call()

    def _send(
        self,
        account: LocalAccount,
        contract: str,
        function: str,
        *arguments: object,
        value: int = 0,
        gas: int = 0,
    ) -> TxReceipt:
        where = f"{CONTRACTS[contract]}.{function}"
        return _call(self.w3, account, self._contracts[contract], function, arguments, where, value, gas)

    def _send_token(
        self, account: LocalAccount, token: bytes, function: str, *arguments: object
    ) -> TxReceipt:
        where = f"TestToken.{function}"
        return _call(self.w3, account, _at(self.w3, "TestToken", token), function, arguments, where)


def deploy_token(w3: Web3, account: LocalAccount, name: str, symbol: str) -> bytes:
    """Deploy a test token with 6 decimals; the account may mint."""
    receipt = create(w3, account, "TestToken", name, symbol)
    return _created(receipt)


def _call(
    w3: Web3,
    account: LocalAccount,
    contract: Web3Contract,
    function: str,
    arguments: Sequence[object],
    where: str,
    value: int = 0,
    gas: int = 0,
) -> TxReceipt:
    with answering(where):
        data = contract.encode_abi(function, args=arguments)
        asked: TxParams = {
            "to": contract.address,
            "data": data,
            "value": Wei(value),
            "gas": gas or GAS[function],
        }
        return transact(w3, account, asked, where)


def _at(w3: Web3, artifact: str, address: bytes) -> Web3Contract:
    return w3.eth.contract(Web3.to_checksum_address(address), abi=load_artifact(artifact)["abi"])


def _members(record: Record) -> tuple[object, ...]:
    """The members as web3 encodes them: names are words, the rest is what it is."""
    held = ((getattr(record, name), form) for name, _, form in record.members)
    return tuple(encode_name(value) if form == "name" else value for value, form in held)


def _signatures(approvals: Sequence[Approval | Signature]) -> list[tuple[object, ...]]:
    """Approvals as contracts take them: ascending by signer, so that nobody can sign twice unseen."""
    ordered = sorted(approvals, key=lambda approval: approval.signer)
    return [(each.signer, each.valid_until, each.v, each.r, each.s) for each in ordered]


def _shown(shown: Placed | Sequence[Placed] | Record) -> object:
    """What a report takes: orders with their signatures, other records as bytes, or what an order names."""
    if isinstance(shown, Record):
        return _members(shown)
    if not isinstance(shown, Placed):
        return [_shown(each) for each in shown]
    if isinstance(shown.record, Order):
        return (_members(shown.record), shown.index, list(shown.path), _signatures(shown.approvals))
    data = shown.record if isinstance(shown.record, bytes) else encode(shown.record)
    return (data, shown.index, list(shown.path))


def _execution(execution: Execution, head_time_s: int) -> tuple[object, ...]:
    parts = (execution.order, execution.commitment, execution.milestone, execution.certificate)
    approvals = (execution.order_approvals, execution.certificate_approvals)
    place = (execution.index, execution.head_size, head_time_s, list(execution.path))
    return (*map(_members, parts), *map(_signatures, approvals), *place)
