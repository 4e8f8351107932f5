"""What goes in and out of /v1. Amounts are decimal strings in the smallest unit, never numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl

from ledger.records import keccak256


def _check_address(text: str) -> str:
    """Refuse an address in mixed case whose case is not its checksum (EIP-55): a slip of the pen."""
    digits = text[2:]
    if digits not in {digits.lower(), digits.upper()}:
        digest = keccak256(digits.lower().encode()).hex()
        expected = "".join(
            c.upper() if int(nibble, 16) >= 8 else c
            for c, nibble in zip(digits.lower(), digest, strict=False)
        )
        if digits != expected:
            raise ValueError(f"the case of this address is not its checksum: 0x{expected} is")
    return text


AmountText = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,38}$", examples=["1250000"])]
Number = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,38})$")]
AddressText = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
AddressIn = Annotated[AddressText, AfterValidator(_check_address)]
HashText = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Unknown members are refused: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class NewMerchant(Strict):
    """A merchant to take on."""

    name: Annotated[str, Field(max_length=200)]
    bin: Annotated[str, Field(max_length=12, examples=["081240013779"])]
    iban: Annotated[str, Field(max_length=34)]
    wallet: AddressIn


class MerchantAnswer(BaseModel):
    """A merchant, and its key, which is shown this once."""

    id: str
    name: str
    key: str


class KeyAnswer(BaseModel):
    """A new key, which is shown this once; id: by which it is revoked."""

    id: str
    key: str


class NewInvoice(Strict):
    """An invoice to make. amount: tiyn; asset: what it is paid in, an asset that is allowed now."""

    amount: AmountText
    asset: Annotated[str, Field(max_length=31, examples=["USDT"])]
    reference: Annotated[str, Field(min_length=1, max_length=64, examples=["order-17"])]
    title: Annotated[str, Field(min_length=1, max_length=140)]
    purpose: Annotated[str, Field(max_length=31)] = "206108"


class WalletPayment(BaseModel):
    """What a wallet needs to pay through PaymentRouter, once."""

    router: AddressText
    token: AddressText
    invoice: HashText
    purpose: HashText
    merchant: AddressText
    amount: Number
    share_bps: int
    valid_until: int
    nonce: Number
    v: int
    r: HashText
    s: HashText


class Rate(BaseModel):
    """How the price became an amount of the asset: anybody can compute it again."""

    numerator: str
    denominator: str
    spread_bps: int
    time_s: int
    sources: list[dict[str, str]]


class InvoiceAnswer(BaseModel):
    """An invoice and its state."""

    id: str
    reference: str | None
    title: str
    amount: str
    asset: str
    due: str
    paid: str
    missing: str
    over: str
    status: str
    notes: list[str]
    created_s: int
    expires_s: int
    rate: Rate | None
    wallet: WalletPayment | None
    deposit_address: AddressText | None
    payment_reference: str | None
    record: int | None
    page: str


class InvoiceList(BaseModel):
    """A page of invoices; `next` asks for the one after."""

    invoices: list[InvoiceAnswer]
    next: str | None


class NewEndpoint(Strict):
    """Where webhooks are to go."""

    url: HttpUrl


class EndpointAnswer(BaseModel):
    """An endpoint and its secret, which is shown this once."""

    id: str
    url: str
    secret: str


class NewBill(Strict):
    """A city fee to be billed."""

    fee: Annotated[str, Field(max_length=64)]
    asset: Annotated[str, Field(max_length=31)] = "KZT"


class UnmatchedMoney(BaseModel):
    """Money that belongs to no invoice, or whose revenue could not be booked."""

    key: str
    kind: str
    stage: str
    asset: str
    amount: Number
    city: Number
    reference: str
    address: AddressText | None
    invoice: str | None
    problem: str | None
    seen_s: int


class UnreadFile(BaseModel):
    """A file of the bank that was refused whole."""

    name: str
    problem: str
    read_s: int


class Unmatched(BaseModel):
    """What waits for a person, oldest first; `next` asks for the page after."""

    money: list[UnmatchedMoney]
    files: list[UnreadFile]
    next: str | None
