"""The records of the ledger and their one encoding.

A record is an EIP-712 struct whose members are all static: 32-byte words, one
after another, the first being the type hash. So the bytes below are the leaf of
the tree, keccak256 of them is the EIP-712 hashStruct that a wallet signs, and
abi.encode in a contract gives the same bytes. There is no second encoding.

Pure: no clock, no I/O. Rules E1-E4 live here; what records may say to one
another is rules.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from struct import Struct
from typing import Annotated, Any, ClassVar, NoReturn, get_args, get_type_hints

from Crypto.Hash import keccak as _keccak

# --- how things fail ---------------------------------------------------------


class Invalid(Exception):
    """What an outsider sent breaks a rule.

    rule: the id in SPEC.md; where: the place (a record, a member, a line);
    why: one sentence that carries both numbers where two were compared.
    """

    def __init__(self, rule: str, where: str, why: str) -> None:
        super().__init__(rule, where, why)
        self.rule = rule
        self.where = where
        self.why = why

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: {self.why}"


class Unavailable(Exception):
    """A service did not answer, so nothing is known; never a verdict."""

    def __init__(self, service: str, why: str) -> None:
        super().__init__(service, why)
        self.service = service
        self.why = why

    def __str__(self) -> str:
        return f"{self.service}: {self.why}"


def reject(rule: str, where: str, why: str) -> NoReturn:
    """Refuse: the one way to say that outside data breaks a rule."""
    raise Invalid(rule, where, why)


# --- words -------------------------------------------------------------------

WORD = 32
ZERO_HASH = bytes(WORD)
ZERO_ADDRESS = bytes(20)
AMOUNT_LIMIT = 1 << 128

# The annotation of a member is its Solidity type and how Python holds it: names
# are text, hashes 32 bytes, addresses 20 bytes, everything else an integer.
Name = Annotated[str, "bytes32", "name"]
Hash = Annotated[bytes, "bytes32", "hash"]
Address = Annotated[bytes, "address", "address"]
Amount = Annotated[int, "uint128", "amount"]
U8 = Annotated[int, "uint8", "uint"]
U16 = Annotated[int, "uint16", "uint"]
U64 = Annotated[int, "uint64", "uint"]
U128 = Annotated[int, "uint128", "uint"]
U256 = Annotated[int, "uint256", "uint"]


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it, not the later SHA3-256."""
    digest: bytes = _keccak.new(digest_bits=256, data=data).digest()
    return digest


def encode_name(text: str, where: str = "name") -> bytes:
    """Pad a name to one word: 1 to 31 visible ASCII characters (E3)."""
    if not 1 <= len(text) <= 31:
        reject("E3", where, f"a name has 1 to 31 characters, this one has {len(text)}")
    if not all("!" <= character <= "~" for character in text):
        reject("E3", where, f"a name is visible ASCII only, this is {text!a}")
    return text.encode("ascii").ljust(WORD, b"\0")


def decode_name(word: bytes, where: str = "name") -> str:
    """Read a name back; what does not encode to the same word again is refused (E3)."""
    text = word.rstrip(b"\0").decode("latin-1")
    if encode_name(text, where) != word:
        reject("E3", where, f"a name is padded with zeros at the end, this word is {word.hex()}")
    return text


def address_word(address: bytes) -> bytes:
    """The word that holds an address: 12 zero bytes, then its 20 bytes."""
    return address.rjust(WORD, b"\0")


# Names of accounts, assets and codes come back in almost every record.
_known_name = lru_cache(maxsize=1 << 14)(decode_name)


def _encode_word(value: Any, bits: int, kind: str, where: str) -> bytes:
    """Encode one member, refusing what does not fit its type (E2-E4)."""
    if kind == "name":
        return encode_name(value, where)
    if kind == "hash":
        if not isinstance(value, bytes) or len(value) != WORD:
            reject("E2", where, f"a hash is {WORD} bytes, this is {value!r}")
        return value
    if kind == "address":
        if not isinstance(value, bytes) or len(value) != 20:
            reject("E2", where, f"an address is 20 bytes, this is {value!r}")
        return address_word(value)
    if type(value) is not int:
        reject("E2", where, f"expected an integer, this is {value!r}")
    if not 0 <= value < 1 << bits:
        reject("E4" if kind == "amount" else "E2", where, f"{value} is not in 0 to 2^{bits} - 1")
    if kind == "amount" and value == 0:
        reject("E4", where, "an amount is at least 1, this is 0")
    return value.to_bytes(WORD, "big")


def _decode_word(word: bytes, bits: int, kind: str, where: str) -> Any:
    """Decode one word; _encode_word of the result is the same word, or it is refused."""
    if kind == "hash":
        return word
    if kind == "name":
        return _known_name(word, where)
    if kind == "address":
        if any(word[:12]):
            reject("E2", where, f"an address has 12 zero bytes before it, this word is {word.hex()}")
        return word[12:]
    value = int.from_bytes(word, "big")
    if not 0 < value < 1 << bits:
        # Zero is fine for most; which rule it breaks where it is not, is said once, above.
        _encode_word(value, bits, kind, where)
    return value


# --- the records -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """What every record has: the second it was recorded, Unix time."""

    time: U64

    # Filled in by describe() below, once for each record type.
    type_string: ClassVar[str]
    type_hash: ClassVar[bytes]
    approve_type_hash: ClassVar[bytes]
    members: ClassVar[tuple[tuple[str, str, str], ...]]
    # What encoding needs of each member: attribute, bits of an integer, form, place in an error.
    layout: ClassVar[tuple[tuple[str, int, str, str], ...]]
    words: ClassVar[Struct]


@dataclass(frozen=True, slots=True)
class Genesis(Record):
    """Which ledger this is; always index 0. `founding` binds the first seats (H3)."""

    ledger: Hash
    retention_end: U64
    chain_id: U256
    council: Address
    anchor: Address
    legal_ref: Hash
    founding: Hash


@dataclass(frozen=True, slots=True)
class Rules(Record):
    """Which rule files decide: rules_hash() of RULE_FILES."""

    sha256: Hash
    valid_from: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Contract(Record):
    """A contract that counts, with the keccak256 of its deployed code."""

    name: Name
    chain_id: U256
    at: Address
    code_hash: Hash
    act: Hash


@dataclass(frozen=True, slots=True)
class Parameter(Record):
    """A number the rules read, inside the bounds that SPEC.md gives its name."""

    name: Name
    value: U128
    valid_from: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Seat(Record):
    """Who holds an office, and for how long: from valid_from to before valid_to."""

    role: Name
    holder: Address
    valid_from: U64
    valid_to: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Quorum(Record):
    """How many holders of a role must sign."""

    role: Name
    needed: U8
    act: Hash


@dataclass(frozen=True, slots=True)
class Asset(Record):
    """What may be taken and until when; token and chain_id are zero for tenge."""

    asset: Name
    decimals: U8
    chain_id: U256
    token: Address
    valid_from: U64
    valid_to: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Account(Record):
    """An account of one asset in one fund.

    owner: for bank accounts and payees in tenge, a hash of the IBAN; on a chain, the
    address as a word; for revenue, the code as a name; for a project, its hash.
    party: a salted commitment to the BIN of a payee; zero for the city's own.
    """

    account: Name
    asset: Name
    fund: Name
    kind: Name
    owner: Hash
    party: Hash
    act: Hash


@dataclass(frozen=True, slots=True)
class RevenueRule(Record):
    """Which fund a code's revenue belongs to; min_share in 1/10,000 of a payment."""

    code: Name
    fund: Name
    min_share: U16
    valid_from: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Rate(Record):
    """Tiyn for one base unit as a fraction; the sources are SHA-256 of what they said."""

    asset: Name
    numerator: Amount
    denominator: Amount
    source1: Hash
    source2: Hash


@dataclass(frozen=True, slots=True)
class Block(Record):
    """A block budget: a limit in tiyn for one fund and a span of years, both included."""

    block: Name
    fund: Name
    from_year: U16
    to_year: U16
    limit: Amount
    act: Hash


@dataclass(frozen=True, slots=True)
class Project(Record):
    """What may be built, and the public money approved for it in tiyn (0: private only)."""

    project: Name
    sector: Name
    place: Name
    limit: U128
    document: Hash


@dataclass(frozen=True, slots=True)
class Allocation(Record):
    """Money of a block allotted to a project; rate_hash names the Rate, zero for tenge."""

    allocation: Name
    block: Name
    project_hash: Hash
    asset: Name
    amount: Amount
    rate_hash: Hash
    act: Hash


@dataclass(frozen=True, slots=True)
class Commitment(Record):
    """A contract signed with a registered payee, inside one allocation."""

    commitment: Name
    allocation_hash: Hash
    payee: Name
    amount: Amount
    document: Hash


@dataclass(frozen=True, slots=True)
class Milestone(Record):
    """A part of a commitment that is certified and paid as one."""

    milestone: Name
    commitment_hash: Hash
    amount: Amount
    document: Hash


@dataclass(frozen=True, slots=True)
class Certificate(Record):
    """The certifier's word on a milestone: accepted (1) for an amount, or refused (0)."""

    milestone_hash: Hash
    amount: Amount
    accepted: U8
    document: Hash


@dataclass(frozen=True, slots=True)
class Order(Record):
    """Pay this now, from this account of the city to the commitment's payee."""

    order: Name
    commitment_hash: Hash
    allocation_hash: Hash
    certificate_hash: Hash
    account: Name
    amount: Amount
    payee: Name


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """A seat's signature over the record whose hashStruct is `approves`.

    What is signed is the EIP-712 struct Approve(<that record> record,uint64 validUntil),
    so a wallet shows the record itself and never only a hash.
    """

    approves: Hash
    signer: Address
    valid_until: U64
    v: U8
    r: Hash
    s: Hash


@dataclass(frozen=True, slots=True)
class Transfer(Record):
    """Money moved: debit and credit in one record, inside a permitted flow only.

    refund_to: where the payer said, before paying, that money may go back to: an address as a
    word or a hash of an IBAN; zero if nothing was said.
    """

    id: Hash
    debit: Name
    credit: Name
    asset: Name
    amount: Amount
    purpose: Name
    authority: Hash
    evidence: Hash
    refund_to: Hash = ZERO_HASH


@dataclass(frozen=True, slots=True)
class Investment(Record):
    """Private investment in a project, in tiyn; never public money."""

    project: Name
    amount: Amount
    document: Hash


@dataclass(frozen=True, slots=True)
class Release(Record):
    """Uncommit what no milestone claims."""

    commitment_hash: Hash
    amount: Amount
    document: Hash


@dataclass(frozen=True, slots=True)
class Move(Record):
    """Move what is not committed from one allocation to another of the same block (G9)."""

    from_hash: Hash
    to_hash: Hash
    amount: Amount
    document: Hash


@dataclass(frozen=True, slots=True)
class Exchange(Record):
    """Money of one asset became money of another, in one fund: both legs at once.

    amount_from left `from_account`, amount_to came to `to_account`; rate_hash names the Rate.
    """

    id: Hash
    from_account: Name
    to_account: Name
    amount_from: Amount
    amount_to: Amount
    rate_hash: Hash
    evidence: Hash


@dataclass(frozen=True, slots=True)
class Refund(Record):
    """Money is to go back: part or all of one receipt; a Transfer books it when it has gone."""

    id: Hash
    receipt_hash: Hash
    amount: Amount
    to: Hash
    document: Hash


@dataclass(frozen=True, slots=True)
class Reversal(Record):
    """Undo a transfer that the bank corrected, once."""

    id: Hash
    index: U64
    reason: Name
    evidence: Hash


@dataclass(frozen=True, slots=True)
class Statement(Record):
    """What the bank, or the chain at a block, says of an account of money."""

    account: Name
    as_of: U64
    opening: U128
    closing: U128
    evidence: Hash


@dataclass(frozen=True, slots=True)
class Dispute(Record):
    """Freeze one commitment; `by` is an auditor, a certifier or the payee, and signs."""

    commitment_hash: Hash
    by: Address
    document: Hash


@dataclass(frozen=True, slots=True)
class Resolution(Record):
    """Settle a dispute: outcome 0, the commitment goes on; 1, it ends and what is unpaid is free."""

    commitment_hash: Hash
    outcome: U8
    document: Hash


@dataclass(frozen=True, slots=True)
class Acknowledgement(Record):
    """A breach becomes an exception, listed for ever: which record broke which rule."""

    index: U64
    rule: Name
    act: Hash


@dataclass(frozen=True, slots=True)
class Close(Record):
    """The state when a year was over, so that audits can start there."""

    year: U16
    state_hash: Hash


@dataclass(frozen=True, slots=True)
class KeyChange(Record):
    """From when on a key signs for the ledger: SHA-256 of its verifier key's text."""

    key: Name
    vkey_hash: Hash
    valid_from: U64
    act: Hash


@dataclass(frozen=True, slots=True)
class Withdrawal(Record):
    """A seat takes its approval back before the quorum; it signs Withdraw(bytes32 approves)."""

    approves: Hash
    signer: Address
    v: U8
    r: Hash
    s: Hash


KINDS: tuple[type[Record], ...] = (
    Genesis,
    Rules,
    Contract,
    Parameter,
    Seat,
    Quorum,
    Asset,
    Account,
    RevenueRule,
    Rate,
    Block,
    Project,
    Allocation,
    Commitment,
    Milestone,
    Certificate,
    Order,
    Approval,
    Transfer,
    Investment,
    Release,
    Move,
    Exchange,
    Refund,
    Reversal,
    Statement,
    Dispute,
    Resolution,
    Acknowledgement,
    Close,
    KeyChange,
    Withdrawal,
)


def member_name(attribute: str) -> str:
    """The EIP-712 member that a Python attribute stands for: retention_end, retentionEnd."""
    first, *rest = attribute.split("_")
    return first + "".join(word.capitalize() for word in rest)


def describe(kind: type[Record]) -> None:
    """Fill in how a kind is hashed and encoded, once for each that seats sign."""
    hints = get_type_hints(kind, include_extras=True)
    kind.members = tuple((field.name, *get_args(hints[field.name])[1:]) for field in fields(kind))
    kind.layout = tuple(
        (
            name,
            int(solidity[4:]) if solidity.startswith("uint") else 0,
            form,
            f"{kind.__name__}.{member_name(name)}",
        )
        for name, solidity, form in kind.members
    )
    kind.words = Struct(f"{WORD}s" * (1 + len(kind.members)))
    typed = ",".join(f"{solidity} {member_name(name)}" for name, solidity, _ in kind.members)
    kind.type_string = f"{kind.__name__}({typed})"
    kind.type_hash = keccak256(kind.type_string.encode())
    approve = f"Approve({kind.__name__} record,uint64 validUntil){kind.type_string}"
    kind.approve_type_hash = keccak256(approve.encode())


for _kind in KINDS:
    describe(_kind)

BY_TYPE_HASH = {kind.type_hash: kind for kind in KINDS}


# --- encoding ----------------------------------------------------------------


def encode(record: Record) -> bytes:
    """The record's bytes: type hash, then one word for each member (E2-E4)."""
    words = [record.type_hash]
    for name, bits, form, where in record.layout:
        words.append(_encode_word(getattr(record, name), bits, form, where))
    return b"".join(words)


def decode(data: bytes) -> Record:
    """Read a record; encode() of the result is the same bytes, or it is refused (E1-E4)."""
    kind = BY_TYPE_HASH.get(data[:WORD])
    if kind is None:
        reject("E1", "typeHash", f"no record has the type hash {data[:WORD].hex() or '(empty)'}")
    if len(data) != kind.words.size:
        reject("E1", kind.__name__, f"a {kind.__name__} is {kind.words.size} bytes, this is {len(data)}")
    _, *words = kind.words.unpack(data)
    return kind(
        *[
            _decode_word(word, bits, form, where)
            for word, (_, bits, form, where) in zip(words, kind.layout, strict=True)
        ]
    )


def hash_struct(record: Record) -> bytes:
    """The EIP-712 hashStruct, by which other records name this one."""
    return keccak256(encode(record))


def as_json(record: Record) -> dict[str, str]:
    """The record for people: what it is, then members named as in EIP-712, integers as text, bytes as hex."""
    # Not `kind`, which is a member of an Account; no record has a member called `record`.
    shown = {"record": type(record).__name__}
    for name, _, _ in record.members:
        value = getattr(record, name)
        shown[member_name(name)] = "0x" + value.hex() if isinstance(value, bytes) else str(value)
    return shown


# --- what a seat signs -------------------------------------------------------

_DOMAIN_TYPE_HASH = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
DOMAIN_NAME = "Qazyna"
DOMAIN_VERSION = "1"


def domain_separator(chain_id: int, council: bytes, ledger: bytes) -> bytes:
    """The EIP-712 domain: this chain, this Council contract, this ledger (LEAKS 24)."""
    words = [
        _DOMAIN_TYPE_HASH,
        keccak256(DOMAIN_NAME.encode()),
        keccak256(DOMAIN_VERSION.encode()),
        chain_id.to_bytes(WORD, "big"),
        address_word(council),
        ledger,
    ]
    return keccak256(b"".join(words))


def approve_digest(domain: bytes, record: Record, valid_until: int) -> bytes:
    """The 32 bytes that a seat signs to approve a record until a second."""
    words = [record.approve_type_hash, hash_struct(record), valid_until.to_bytes(WORD, "big")]
    return keccak256(b"\x19\x01" + domain + keccak256(b"".join(words)))


_WITHDRAW_TYPE_HASH = keccak256(b"Withdraw(bytes32 approves)")


def withdraw_digest(domain: bytes, approves: bytes) -> bytes:
    """The 32 bytes that a seat signs to take its approval of a record back."""
    return keccak256(b"\x19\x01" + domain + keccak256(_WITHDRAW_TYPE_HASH + approves))


_HEAD_TYPE_HASH = keccak256(b"Head(uint64 size,bytes32 root,uint64 validUntil)")


def head_digest(domain: bytes, size: int, root: bytes, valid_until: int) -> bytes:
    """The 32 bytes that a watcher signs so that a head may be anchored until a second."""
    words = [_HEAD_TYPE_HASH, size.to_bytes(WORD, "big"), root, valid_until.to_bytes(WORD, "big")]
    return keccak256(b"\x19\x01" + domain + keccak256(b"".join(words)))


# What decides what a valid ledger is, and the twin of the rules by which writer and auditor take runs of
# payments: relaxed there alone, they would be relaxed (LEAKS 19).
RULE_FILES = ("records.py", "rules.py", "proof.py", "fast.py")


def rules_hash(files: list[bytes]) -> bytes:
    """The hash that a Rules record names: SHA-256 of the SHA-256 of each of RULE_FILES, in this order."""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files)).digest()
