"""What goes in and out of /v1. Amounts are decimal strings in the smallest unit, never numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl

from gateway.eip55 import checksummed_text
from gateway.payments.return_url import RETURN_URL_MOST, RETURN_URL_PATTERN


def _check_address(text: str) -> str:
    """Refuse an address in mixed case whose case is not its checksum (EIP-55): a slip of the pen."""
    digits, expected = text[2:], checksummed_text(text)
    if text != expected and digits not in {digits.lower(), digits.upper()}:
        raise ValueError(f"the case of this address is not its checksum: {expected} is")
    return text


AmountText = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,38}$", examples=["1250000"])]
Number = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,38})$", examples=["24412"])]
AddressText = Annotated[
    str, Field(pattern=r"^0x[0-9a-fA-F]{40}$", examples=["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"])
]
AddressIn = Annotated[AddressText, AfterValidator(_check_address)]
HashText = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$", examples=["0x" + "1f" * 32])]
Seconds = Annotated[int, Field(ge=0, lt=1 << 45, examples=[1_790_000_000])]
Text = Annotated[str, Field(examples=["Tea for two"])]
Role = Annotated[Literal["owner", "cashier"], Field(examples=["cashier"])]
Scope = Annotated[str, Field(max_length=40, examples=["invoices.read"])]
Email = Annotated[str, Field(min_length=3, max_length=254, examples=["office@cafe.example"])]
Iban = Annotated[str, Field(max_length=34, examples=["KZ86125KZT5004100100"])]
KeyText = Annotated[str, Field(examples=["qz_0123456789abcdef_wGqkYz3d0pH6sQbX1r5vT8uN2mL4jK7iF9eC0aB1"])]
Next = Annotated[
    str | None,
    Field(description="Give this as `after` for the page after; null at the end.", examples=[None]),
]


class Strict(BaseModel):
    """Unknown members are refused: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid")


# --- merchants and keys ---------------------------------------------------------------


class NewMerchant(Strict):
    """A merchant to take on. wallet: where its net goes; contact: who is told of changes."""

    name: Annotated[str, Field(max_length=200, examples=["Sample cafe"])]
    bin: Annotated[str, Field(max_length=12, examples=["081240013779"])]
    iban: Iban
    wallet: AddressIn
    contact: Email | None = None


class MerchantAnswer(BaseModel):
    """A merchant, and its key, which is shown this once."""

    id: Annotated[str, Field(examples=["m_0123456789abcdef"])]
    name: Annotated[str, Field(examples=["Sample cafe"])]
    key: KeyText


class ChangeAnswer(BaseModel):
    """A change that is asked for; it holds from effective_s on if nobody cancels it before."""

    id: Annotated[str, Field(examples=["ch_0123456789abcdef"])]
    field: Annotated[str, Field(examples=["wallet"])]
    old: Annotated[str, Field(examples=["0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"])]
    new: Annotated[str, Field(examples=["0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359"])]
    asked_s: Seconds
    effective_s: Seconds
    cancelled: bool = False


class MerchantView(BaseModel):
    """A merchant's own data as they hold now, and the changes that wait."""

    id: Annotated[str, Field(examples=["m_0123456789abcdef"])]
    name: Annotated[str, Field(examples=["Sample cafe"])]
    bin: Annotated[str, Field(examples=["081240013779"])]
    iban: Iban
    wallet: AddressText
    contact: Annotated[str | None, Field(examples=["office@cafe.example"])]
    waiting: list[ChangeAnswer]


class MerchantList(BaseModel):
    """A page of merchants."""

    merchants: list[MerchantView]
    next: Next


class NewChange(Strict):
    """One thing to change: a wallet, an IBAN or a contact."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"wallet": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"}]},
    )
    wallet: AddressIn | None = None
    iban: Annotated[str | None, Field(max_length=34, examples=[None])] = None
    contact: Annotated[str | None, Field(max_length=254, examples=[None])] = None


class NewKey(Strict):
    """A key to make. scopes: fewer than the role has; lifetime_s: when it expires by itself.

    It never ends after the key that makes it, whatever is asked for: `expires_s` of the answer tells.
    """

    role: Role = "owner"
    name: Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["till 2"])] = ""
    scopes: Annotated[list[Scope] | None, Field(max_length=40, examples=[["invoices.read"]])] = None
    sandbox: bool = False
    lifetime_s: Annotated[int | None, Field(ge=60, le=10 * 366 * 86_400, examples=[31_536_000])] = None


class KeyAnswer(BaseModel):
    """A new key, which is shown this once; id: by which it is revoked; expires_s: null if it never ends."""

    id: Annotated[str, Field(examples=["0123456789abcdef"])]
    key: KeyText
    expires_s: Annotated[int | None, Field(examples=[None])]


class KeyView(BaseModel):
    """A key as lists show it."""

    id: Annotated[str, Field(examples=["0123456789abcdef"])]
    role: Annotated[str, Field(examples=["cashier"])]
    scopes: list[Scope]
    name: Annotated[str, Field(examples=["till 2"])]
    sandbox: bool
    created_s: Seconds
    expires_s: Annotated[int | None, Field(examples=[None])]
    last_used_s: Annotated[int | None, Field(examples=[1_790_000_000])]
    revoked_s: Annotated[int | None, Field(examples=[None])]


class KeyList(BaseModel):
    """A page of keys, newest first."""

    keys: list[KeyView]
    next: Next


class Rotation(Strict):
    """How long the old one goes on."""

    overlap_s: Annotated[int, Field(ge=0, le=30 * 86_400, examples=[86_400])] = 86_400


# --- invoices -------------------------------------------------------------------------


class NewInvoice(Strict):
    """An invoice to make. amount: tiyn; asset: what it is paid in, an asset that is allowed now."""

    amount: AmountText
    asset: Annotated[str, Field(max_length=31, examples=["USDT"])]
    reference: Annotated[str, Field(min_length=1, max_length=64, examples=["order-17"])]
    title: Annotated[str, Field(min_length=1, max_length=140, examples=["Tea for two"])]
    purpose: Annotated[str, Field(max_length=31, examples=["206108"])] = "206108"
    # Where the payer wants money back, if ever; it must be said before paying.
    refund_to: AddressIn | None = None
    return_url: Annotated[
        str | None,
        Field(
            max_length=RETURN_URL_MOST,
            pattern=RETURN_URL_PATTERN,
            examples=["https://cafe.example/orders/17"],
            description="the payer's way back to the shop, shown as a link after payment and after expiry",
        ),
    ] = None


class WalletPayment(BaseModel):
    """What a wallet needs to pay through PaymentRouter, once."""

    router: AddressText
    token: AddressText
    invoice: HashText
    purpose: HashText
    merchant: AddressText
    amount: Number
    share_bps: Annotated[int, Field(examples=[300])]
    valid_until: Seconds
    nonce: Number
    v: Annotated[int, Field(examples=[27])]
    r: HashText
    s: HashText


class SourceAnswer(BaseModel):
    """One source of a rate, and the hash of what it said."""

    name: Annotated[str, Field(examples=["nationalbank"])]
    sha256: Annotated[str, Field(examples=["9f" * 32])]


class Rate(BaseModel):
    """How the price became an amount of the asset: anybody can compute it again."""

    numerator: Number
    denominator: Annotated[Number, Field(examples=["1000000"])]
    spread_bps: Annotated[int, Field(examples=[50])]
    time_s: Seconds
    sources: list[SourceAnswer]


class InvoiceAnswer(BaseModel):
    """An invoice and its state. Amounts but `amount`, which is tiyn, are base units of the asset."""

    id: Annotated[str, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    sandbox: bool = False
    reference: Annotated[str | None, Field(examples=["order-17"])]
    title: Text
    amount: AmountText
    asset: Annotated[str, Field(examples=["USDT"])]
    due: Number
    paid: Number
    missing: Number
    over: Number
    held: Number = "0"
    refunded: Number = "0"
    status: Annotated[str, Field(examples=["open"])]
    notes: Annotated[list[str], Field(examples=[[]])]
    created_s: Seconds
    expires_s: Seconds
    rate: Rate | None
    wallet: WalletPayment | None
    deposit_address: AddressText | None
    payment_reference: Annotated[str | None, Field(examples=[None])]
    record: Annotated[int | None, Field(examples=[None])]
    page: Annotated[str, Field(examples=["https://pay.example/pay/7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    return_url: Annotated[str | None, Field(examples=["https://cafe.example/orders/17"])] = None


class InvoiceList(BaseModel):
    """A page of invoices, newest first; `next` asks for the one after."""

    invoices: list[InvoiceAnswer]
    next: Next


class TestPayment(Strict):
    """Money that never was. amount: base units, by default what is missing; stage: how far it has come."""

    # A name that a test runner takes for a test.
    __test__ = False

    amount: Number | None = None
    stage: Annotated[Literal["detected", "confirming", "paid", "final"], Field(examples=["final"])] = "final"


# --- payment links --------------------------------------------------------------------


class NewLink(Strict):
    """A payment link to make. amount: tiyn, or null where the payer says how much."""

    title: Annotated[str, Field(min_length=1, max_length=140, examples=["A month of parking"])]
    asset: Annotated[str, Field(max_length=31, examples=["USDT"])]
    amount: AmountText | None = None
    purpose: Annotated[str, Field(max_length=31, examples=["206108"])] = "206108"
    reusable: bool = True
    expires_s: Seconds | None = None


class LinkAnswer(BaseModel):
    """A payment link; page: what to give to payers."""

    id: Annotated[str, Field(examples=["pl_0123456789abcdef01234567"])]
    title: Text
    asset: Annotated[str, Field(examples=["USDT"])]
    amount: AmountText | None
    purpose: Annotated[str, Field(examples=["206108"])]
    reusable: bool
    open: bool
    created_s: Seconds
    expires_s: Annotated[int | None, Field(examples=[None])]
    page: Annotated[str, Field(examples=["https://pay.example/link/pl_0123456789abcdef01234567"])]


class LinkList(BaseModel):
    """A page of payment links, newest first."""

    links: list[LinkAnswer]
    next: Next


# --- refunds, settlements and policies ------------------------------------------------


class NewRefund(Strict):
    """A refund to ask for. amount: base units of what was received; to: null for the address that the payer

    fixed before paying, else an address that signed the terms of this refund.
    """

    amount: AmountText
    to: AddressIn | None = None
    evidence: Annotated[str | None, Field(max_length=255, examples=[None])] = None
    signature: Annotated[
        str | None, Field(pattern=r"^0x([0-9a-fA-F]{2}){65,2000}$", max_length=4002, examples=[None])
    ] = None
    why: Annotated[str, Field(max_length=500, examples=["the tea was cold"])] = ""


class Reason(Strict):
    """Why."""

    why: Annotated[str, Field(min_length=1, max_length=500, examples=["asked for twice"])]


class SentBy(Strict):
    """The transaction by which a wallet sent a refund in the chain's coin."""

    transaction: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{64}$", examples=["0x" + "5c" * 32])]


class PreparedAnswer(BaseModel):
    """What the merchant's own wallet is to send; link: EIP-681, for a QR code."""

    chain_id: Annotated[int, Field(examples=[31337])]
    to: AddressText
    data: Annotated[str, Field(examples=["0xa9059cbb"])]
    value: Annotated[Number, Field(examples=["0"])]
    link: Annotated[
        str, Field(examples=["ethereum:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed@31337/transfer"])
    ]


class RefundAnswer(BaseModel):
    """A refund. to: an address, or the SHA-256 of an IBAN; transaction: for the merchant's wallet to send."""

    id: Annotated[str, Field(examples=["r_0123456789abcdef01234567"])]
    invoice: Annotated[str | None, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    source: Annotated[str, Field(examples=["merchant"])]
    asset: Annotated[str, Field(examples=["USDT"])]
    amount: Number
    to: Annotated[str, Field(examples=["0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"])]
    proof: Annotated[str, Field(examples=["fixed"])]
    state: Annotated[str, Field(examples=["pending"])]
    ripe_s: Seconds
    created_s: Seconds
    changed_s: Seconds
    problem: Annotated[str | None, Field(examples=[None])]
    transaction: PreparedAnswer | None


class RefundList(BaseModel):
    """A page of refunds, newest first."""

    refunds: list[RefundAnswer]
    next: Next


class SettlementAnswer(BaseModel):
    """Final money of an invoice: gross = city + net. method: direct, or vasp (paid out in tenge)."""

    id: Annotated[str, Field(examples=["evm:31337:aa:bb:3"])]
    invoice: Annotated[str, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    method: Annotated[str, Field(examples=["direct"])]
    asset: Annotated[str, Field(examples=["USDT"])]
    gross: Number
    city: Annotated[Number, Field(examples=["733"])]
    net: Annotated[Number, Field(examples=["23679"])]
    receiver: AddressText
    moved_s: Seconds
    final_s: Seconds


class SettlementList(BaseModel):
    """A page of settlements, newest first."""

    settlements: list[SettlementAnswer]
    next: Next


class NewPayout(Strict):
    """All that a provider holds of an asset, to be paid out in tenge."""

    asset: Annotated[str, Field(max_length=31, pattern=r"^[!-~]+$", examples=["USDT"])]
    provider: Annotated[str | None, Field(max_length=60, examples=[None])] = None


class PayoutAnswer(BaseModel):
    """A payout in tenge by a provider; tiyn and what follows are null until it confirmed."""

    id: Annotated[str, Field(examples=["p_0123456789abcdef01234567"])]
    provider: Annotated[str, Field(examples=["vasp-a"])]
    asset: Annotated[str, Field(examples=["USDT"])]
    amount: Number
    iban: Iban
    state: Annotated[str, Field(examples=["reserved"])]
    tiyn: Annotated[str | None, Field(examples=[None])]
    fee_tiyn: Annotated[str | None, Field(examples=[None])]
    bank_reference: Annotated[str | None, Field(examples=[None])]
    paid_s: Annotated[int | None, Field(examples=[None])]
    created_s: Seconds
    problem: Annotated[str | None, Field(examples=[None])]


class PayoutMoved(BaseModel):
    """Where a payout stands now."""

    id: Annotated[str, Field(examples=["p_0123456789abcdef01234567"])]
    state: Annotated[str, Field(examples=["paid"])]


class PayoutList(BaseModel):
    """A page of payouts, newest first."""

    payouts: list[PayoutAnswer]
    next: Next


class PaidAsTold(BaseModel):
    """What a provider says that it paid and kept, and under which reference of the bank."""

    tiyn: Number
    fee_tiyn: Number
    bank_reference: Annotated[str, Field(examples=["KZ0123456789abcdef"])]


class DisputedPayout(BaseModel):
    """A payout that a person must decide about. told: what its provider last said to be paid, if it said so.

    since_s: since when it waits; its `problem` says what did not fit.
    """

    payout: PayoutAnswer
    merchant: Annotated[str, Field(examples=["m_0123456789abcdef"])]
    name: Annotated[str, Field(examples=["Sample cafe"])]
    since_s: Seconds
    told: PaidAsTold | None


class DisputedPayouts(BaseModel):
    """A page of disputed payouts, the longest waiting first."""

    payouts: list[DisputedPayout]
    next: Next


class ResolvePayout(Strict):
    """What became of a disputed payout: paid, or not, which frees its settlements to be paid out again.

    nothing_left: that the provider has confirmed in writing that nothing left; needed for not_paid. why:
    the merchant reads it.
    """

    outcome: Annotated[Literal["paid", "not_paid"], Field(examples=["paid"])]
    why: Annotated[str, Field(min_length=1, max_length=500, examples=["the bank shows it as booked"])]
    nothing_left: Annotated[bool, Field(examples=[False])] = False


class PolicyBody(Strict):
    """What becomes of too little, too late and too much; it holds for invoices that are made from now on."""

    tolerance_bps: Annotated[int, Field(ge=0, le=500, examples=[50])] = 0
    tolerance_minor_max: Annotated[Number, Field(examples=["1000000"])] = "0"
    lifetime_s: Annotated[int, Field(ge=60, le=604_800, examples=[900])] = 900
    late_accept_s: Annotated[int, Field(ge=0, le=2_592_000, examples=[604_800])] = 604_800
    late_band_bps: Annotated[int, Field(ge=0, le=1_000, examples=[200])] = 200
    over_policy: Annotated[Literal["credit", "refund"], Field(examples=["credit"])] = "credit"
    settle_by: Annotated[Literal["direct", "vasp"], Field(examples=["direct"])] = "direct"


# --- statements -----------------------------------------------------------------------


class StatementLine(BaseModel):
    """One piece of money: gross = city + net, base units of the asset; tiyn: gross at the quoted rate.

    Late money that the policy held has `held` and no gross, `method` held, and `final_s` when it was held.
    """

    final_s: Annotated[str, Field(examples=["1790000600"])]
    day: Annotated[str, Field(examples=["2026-09-22"])]
    moved_s: Annotated[str, Field(examples=["1790000000"])]
    invoice: Annotated[str, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    reference: Annotated[str, Field(examples=["order-17"])]
    title: Text
    method: Annotated[str, Field(examples=["direct"])]
    asset: Annotated[str, Field(examples=["USDT"])]
    gross: Number
    city: Annotated[Number, Field(examples=["733"])]
    net: Annotated[Number, Field(examples=["23679"])]
    tiyn: Number
    evidence: Annotated[str, Field(examples=["evm:31337:aa:bb:3"])]
    held: Number = "0"


class Statement(BaseModel):
    """What was final or held from since_s on and before until_s, oldest first."""

    since_s: Seconds
    until_s: Seconds
    lines: list[StatementLine]
    next: Next


Signed = Annotated[str, Field(pattern="^(0|-?[1-9][0-9]*)$", examples=["-733"])]


class AccountLine(BaseModel):
    """One movement of an account, each part with the sign of its effect, and the asset's balance after it."""

    at_s: Annotated[str, Field(examples=["1790000600"])]
    day: Annotated[str, Field(examples=["2026-09-22"])]
    kind: Annotated[Literal["payment", "refund", "payout"], Field(examples=["payment"])]
    id: Annotated[str, Field(examples=["evm:31337:aa:bb:3"])]
    invoice: Annotated[str, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    reference: Annotated[str, Field(examples=["order-17"])]
    asset: Annotated[str, Field(examples=["USDT"])]
    payment: Signed
    correction: Signed
    fee: Signed
    refund: Signed
    settlement: Signed
    balance: Signed


class AccountSums(BaseModel):
    """One asset: opening + payments + corrections + fees + refunds + settlements = closing."""

    asset: Annotated[str, Field(examples=["USDT"])]
    opening: Signed
    payments: Signed
    corrections: Signed
    fees: Signed
    refunds: Signed
    settlements: Signed
    closing: Signed


class AccountAnswer(BaseModel):
    """A merchant's account from since_s on and before until_s: sums of all of it, lines a page at a time."""

    since_s: Seconds
    until_s: Seconds
    assets: list[AccountSums]
    lines: list[AccountLine]
    next: Next


# --- webhooks -------------------------------------------------------------------------


class NewEndpoint(Strict):
    """Where webhooks are to go. scheme: v1 (HMAC-SHA256) or v1a (Ed25519)."""

    url: Annotated[HttpUrl, Field(examples=["https://shop.example/hooks/qazyna"])]
    scheme: Annotated[Literal["v1", "v1a"], Field(examples=["v1"])] = "v1"


class EndpointAnswer(BaseModel):
    """An endpoint and what its events are checked with, which is shown this once."""

    id: Annotated[str, Field(examples=["ep_0123456789abcdef0123456789abcdef"])]
    url: Annotated[str, Field(examples=["https://shop.example/hooks/qazyna"])]
    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class EndpointView(BaseModel):
    """An endpoint as lists show it."""

    id: Annotated[str, Field(examples=["ep_0123456789abcdef0123456789abcdef"])]
    url: Annotated[str, Field(examples=["https://shop.example/hooks/qazyna"])]
    created_s: Seconds
    disabled_s: Annotated[int | None, Field(examples=[None])]
    disabled_why: Annotated[str | None, Field(examples=[None])]


class EndpointList(BaseModel):
    """All endpoints of the caller; there are ten at most that are not disabled."""

    endpoints: list[EndpointView]


class EndpointRotation(Strict):
    """keep_old: the old secret signs beside the new one for 24 hours; false for one that leaked."""

    keep_old: bool = True


class DeliveryAnswer(BaseModel):
    """What became of an event at one endpoint."""

    endpoint: Annotated[str, Field(examples=["ep_0123456789abcdef0123456789abcdef"])]
    state: Annotated[str, Field(examples=["delivered"])]
    attempts: Annotated[int, Field(examples=[1])]
    due_s: Seconds
    last_status: Annotated[int | None, Field(examples=[204])]
    last_error: Annotated[str | None, Field(examples=[None])]


class EventAnswer(BaseModel):
    """An event as it was, or is to be, sent; body: the very text that is signed."""

    id: Annotated[str, Field(examples=["msg_0123456789abcdef0123456789abcdef"])]
    type: Annotated[str, Field(examples=["invoice.final"])]
    about: Annotated[str, Field(examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    created_s: Seconds
    body: Annotated[str, Field(examples=['{"type":"invoice.final","timestamp":1790000000,"data":{}}'])]
    deliveries: list[DeliveryAnswer]


class EventList(BaseModel):
    """A page of events, newest first."""

    events: list[EventAnswer]
    next: Next


class EventSent(BaseModel):
    """The id of an event that is on its way."""

    event: Annotated[str, Field(examples=["msg_0123456789abcdef0123456789abcdef"])]


class Redelivery(Strict):
    """To which endpoint an event is sent once more."""

    endpoint: Annotated[str, Field(max_length=64, examples=["ep_0123456789abcdef0123456789abcdef"])]


# --- the city -------------------------------------------------------------------------


class FeeAnswer(BaseModel):
    """A city fee and what it costs today, in tiyn."""

    id: Annotated[str, Field(examples=["parking-year"])]
    code: Annotated[str, Field(examples=["108125"])]
    knp: Annotated[str, Field(examples=["911"])]
    kbe: Annotated[str, Field(examples=["11"])]
    amount: Number
    names: Annotated[dict[str, str], Field(examples=[{"en": "Parking for a year"}])]


class NewBill(Strict):
    """A city fee to be billed."""

    fee: Annotated[str, Field(max_length=64, examples=["parking-year"])]
    asset: Annotated[str, Field(max_length=31, examples=["KZT"])] = "KZT"


class UnmatchedMoney(BaseModel):
    """Money that belongs to no invoice, or whose revenue could not be booked."""

    key: Annotated[str, Field(examples=["camt:KZ86125KZT5004100100:20260922-7"])]
    kind: Annotated[str, Field(examples=["bank"])]
    stage: Annotated[str, Field(examples=["final"])]
    asset: Annotated[str, Field(examples=["KZT"])]
    amount: Number
    city: Number
    reference: Annotated[str, Field(examples=["no reference"])]
    address: Annotated[AddressText | None, Field(examples=[None])]
    invoice: Annotated[str | None, Field(examples=[None])]
    problem: Annotated[str | None, Field(examples=[None])]
    seen_s: Seconds


class Decide(Strict):
    """A decision about money in the queue: its key, and why."""

    key: Annotated[str, Field(min_length=1, max_length=255, examples=["evm:31337:aa:bb:3"])]
    why: Annotated[str, Field(min_length=1, max_length=500, examples=["the payer called: it is order 17"])]


class Assign(Decide):
    """invoice: that the money is to pay."""

    invoice: Annotated[str, Field(max_length=64, examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]


class SendBack(Decide):
    """Where to: `iban`, which the bank is to pay, or `to`, its SHA-256 as the ledger names it; one of them.

    With `to` alone the account is the one that the bank told with the money, if that is the one named.
    """

    to: Annotated[HashText | None, Field(examples=[None])] = None
    iban: Annotated[str | None, Field(max_length=40, examples=["KZ86125KZT5004100100"])] = None


class BillRefund(Strict):
    """Money of a bill of the city's that is to go back. amount: base units of what was received.

    evidence: which money, where more than one transfer paid the bill. Tenge go to the account that they came
    from: iban is needed, and taken, only where the bank told none. Other assets go to the address that the
    payer fixed before paying.
    """

    invoice: Annotated[str, Field(max_length=64, examples=["7f3k9m2p5q8r1s4t6v0w3x5y7z"])]
    amount: AmountText
    why: Annotated[str, Field(min_length=1, max_length=500, examples=["the fee was paid twice"])]
    evidence: Annotated[str | None, Field(max_length=255, examples=[None])] = None
    iban: Annotated[str | None, Field(max_length=40, examples=[None])] = None


class BankPayment(BaseModel):
    """How the bank is to pay a refund: from which account, to which, how many tiyn, with which reference.

    reference: as the payment's end-to-end reference, or in its text where the bank asks for none. to: null
    where only the account's hash is known.
    """

    debit_account: Annotated[str, Field(examples=["KZ86125KZT5004100100"])]
    to: Annotated[str | None, Field(examples=["KZ86125KZT5004100100"])]
    amount: Number
    reference: Annotated[str, Field(examples=["REFUND0123456789ABCDEF01234567"])]


class BankBooked(BaseModel):
    """What the bank booked under a refund's reference. why: it does not count, or came back."""

    key: Annotated[str, Field(examples=["bank:KZ86125KZT5004100100:debit:500000:BANK000000017"])]
    amount: Number
    back: Annotated[bool, Field(examples=[False])]
    state: Annotated[str, Field(examples=["used"])]
    why: Annotated[str, Field(examples=[""])]
    seen_s: Seconds


class CityRefund(BaseModel):
    """A refund of the city's. pay: what to have the bank pay now; booked: what the bank told of it."""

    refund: RefundAnswer
    pay: BankPayment | None
    booked: list[BankBooked]


class CityRefundList(BaseModel):
    """A page of the city's refunds, newest first."""

    refunds: list[CityRefund]
    next: Next


class UnreadFile(BaseModel):
    """A file of the bank that was refused whole."""

    name: Annotated[str, Field(examples=["statement.xml"])]
    problem: Annotated[str, Field(examples=["T2: not camt"])]
    read_s: Seconds


class Unmatched(BaseModel):
    """What waits for a person, oldest first; `next` asks for the page after."""

    money: list[UnmatchedMoney]
    files: list[UnreadFile]
    next: Next


class RateState(BaseModel):
    """Whether an asset can be quoted; age_s of the believed rate, or why there is none."""

    asset: Annotated[str, Field(examples=["USDT"])]
    age_s: Annotated[int | None, Field(examples=[12])]
    rate: Annotated[str | None, Field(examples=["51210/1000000"])]
    why: Annotated[str | None, Field(examples=[None])]


class Operations(BaseModel):
    """How the gateway is now."""

    now_s: Seconds
    # Since when nothing of the chain is known; null where there is no chain.
    chain_seen_until_s: Annotated[int | None, Field(examples=[1_790_000_000])]
    chain_lag_s: Annotated[int | None, Field(examples=[3])]
    invoices: Annotated[dict[str, int], Field(examples=[{"open": 4, "final": 12}])]
    rates: list[RateState]
    unmatched: Annotated[int, Field(examples=[0], description="at most 1,000 are counted")]
    # Money went out, and the ledger refused to book it: somebody must see to it.
    bookings_refused: Annotated[int, Field(examples=[0])]
    webhooks_waiting: Annotated[int, Field(examples=[2])]
    webhooks_oldest_s: Annotated[int | None, Field(examples=[1_790_000_000])]


class Problem(BaseModel):
    """What went wrong (RFC 9457): which rule, where, and why. detail and why are the same text."""

    type: Annotated[str, Field(examples=["/problems/not_found"])]
    title: Annotated[str, Field(examples=["There is no such thing, or it is not yours."])]
    status: Annotated[int, Field(examples=[404])]
    detail: Annotated[str, Field(examples=["no invoice is called '0'"])]
    rule: Annotated[str, Field(examples=["not_found"])]
    where: Annotated[str, Field(examples=["invoice"])]
    why: Annotated[str, Field(examples=["no invoice is called '0'"])]
