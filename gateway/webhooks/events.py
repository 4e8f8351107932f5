"""What events say: one schema for each type and version, published as docs/webhooks/v1.schema.json.

A version only grows: members and types can be added, so a receiver ignores what it does not know. What is
taken away or changes its meaning is a new version, beside the old one for as long as an endpoint asks for
it. Amounts are base units of the asset as decimal strings; times are Unix seconds.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ledger.records import reject

VERSION: Final = "1"
SCHEMA_ID: Final = "https://qazyna.sample/webhooks/v1.schema.json"

Amount = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,38})$", description="base units, decimal")]
Seconds = Annotated[int, Field(ge=0, lt=1 << 40, description="Unix seconds, UTC")]
Id = Annotated[str, Field(pattern="^[0-9A-Za-z_-]{1,64}$")]
Status = Literal["open", "detected", "confirming", "paid", "final", "expired", "void"]
InvoiceType = Literal[
    "invoice.open",
    "invoice.detected",
    "invoice.confirming",
    "invoice.paid",
    "invoice.final",
    "invoice.expired",
    "invoice.void",
    "invoice.updated",
]
ChangeType = Literal["merchant.change.asked", "merchant.change.cancelled", "merchant.change.applied"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InvoiceData(_Strict):
    """An invoice as it stands: the state that API and page show at the same moment."""

    invoice: Id
    reference: Annotated[str | None, Field(description="what the merchant called its order")]
    status: Status
    notes: Annotated[list[str], Field(description="partially_paid, overpaid, late; more may come")]
    asset: str
    due: Amount
    paid: Amount
    missing: Amount
    over: Amount
    held: Annotated[Amount, Field(description="came late and waits for a decision")]
    refunded: Amount
    evidence: Annotated[list[str], Field(max_length=50, description="keys of the newest pieces of evidence")]
    sandbox: bool = Field(default=False, description="true: nothing was paid in earnest")


class ChangeData(_Strict):
    """A change of where a merchant's money goes, which takes effect after a hold."""

    change: Id
    field: str
    old: str
    new: str
    asked_by_key: str
    effective_s: Seconds
    cancel: Annotated[str, Field(description="the request that cancels it")]


class TestData(_Strict):
    """Nothing happened: the endpoint's owner asked for this event."""

    endpoint: Id


class InvoiceEvent(_Strict):
    """The status of an invoice changed, or (invoice.updated) its money did."""

    version: Literal["1"]
    type: InvoiceType
    timestamp: Seconds
    data: InvoiceData


class ChangeEvent(_Strict):
    """Somebody with a key asked to change a merchant's account or wallet."""

    version: Literal["1"]
    type: ChangeType
    timestamp: Seconds
    data: ChangeData


class TestEvent(_Strict):
    """A test of an endpoint."""

    version: Literal["1"]
    type: Literal["webhook.test"]
    timestamp: Seconds
    data: TestData


Event = Annotated[InvoiceEvent | ChangeEvent | TestEvent, Field(discriminator="type")]
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(Event)
TYPES: Final = frozenset(
    name
    for model in (InvoiceEvent, ChangeEvent, TestEvent)
    for name in model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
)
FAMILIES: Final = frozenset(f"{name.partition('.')[0]}.*" for name in TYPES)


def versioned(body: bytes) -> bytes:
    """Put the version of its schema in front of an event, whoever wrote it."""
    return b'{"version":"' + VERSION.encode() + b'",' + body[1:] if body.startswith(b'{"type":') else body


def check(body: bytes) -> None:
    """Refuse what the published schema does not describe; for tests, and for whoever writes a new event."""
    from pydantic import ValidationError

    try:
        _EVENT.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        reject("webhook-schema", ".".join(str(part) for part in first["loc"]), first["msg"])


def check_wants(wants: list[str]) -> None:
    """Refuse types of events that there are not: a misspelt one would be waited for in vain."""
    unknown = sorted(set(wants) - TYPES - FAMILIES)
    if unknown:
        reject("webhook-events", "events", f"{unknown[0][:60]!a} is none of {len(TYPES)} types of events")


def schema() -> str:
    """The JSON Schema of all events, as it is published."""
    told = _opened(_EVENT.json_schema(mode="serialization"))
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Qazyna webhooks, version 1",
    }
    return json.dumps({**head, **told}, indent=1, ensure_ascii=True) + "\n"


def _opened(told: Any) -> Any:
    """The schema as receivers need it: a member that a later release adds is no error."""
    if isinstance(told, dict):
        return {name: _opened(value) for name, value in told.items() if name != "additionalProperties"}
    return [_opened(value) for value in told] if isinstance(told, list) else told
