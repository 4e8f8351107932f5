"""Taking merchants on, and changing what may only change slowly."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

from gateway.db import Connection
from gateway.kz import check_bin, check_iban
from gateway.merchants import store
from gateway.merchants.roles import CASHIER, OPERATOR, OWNER, ROLES, Caller
from gateway.merchants.store import HOLD_S, Change, Key, Merchant
from ledger.records import ZERO_ADDRESS, reject

Tell = Callable[[Connection, str, str, str, bytes, int], object]

TOLD_AT_ONCE = 100
OVERLAP_MOST_S = 30 * 86_400
# Deliberately simple: one address, no display name, nothing that a header could be made of.
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")


def enrol(
    connection: Connection,
    name: str,
    number: str,
    iban: str,
    wallet: bytes,
    now: int,
    contact: str | None = None,
) -> tuple[Merchant, str]:
    """Take a merchant on: a valid BIN, a valid IBAN, a wallet; returns it and its first key (P7)."""
    check_bin(number, "bin")
    check_iban(iban, "iban")
    _check_wallet(wallet)
    if contact is not None:
        _check_email(contact)
    if not name.isprintable():
        reject("text", "name", "a name has no control characters and no surrogates")
    if not 1 <= len(name.strip()) <= 200:
        reject("E3", "name", f"a merchant's name has 1 to 200 characters, this one {len(name.strip())}")
    if (known := store.merchant_of_bin(connection, number)) is not None:
        reject("conflict", "bin", f"a merchant with this BIN is enrolled as {known.id}")
    merchant = Merchant(f"m_{secrets.token_hex(8)}", name.strip(), number, iban, wallet, contact)
    store.add_merchant(connection, merchant, now)
    return merchant, store.new_key(connection, store.MERCHANT, merchant.id, now)


def _check_wallet(wallet: bytes) -> None:
    if len(wallet) != 20 or wallet == ZERO_ADDRESS:
        reject("E2", "wallet", "a wallet is an address of 20 bytes, and not zero")


def _check_email(address: str) -> None:
    if len(address) > 254 or not _EMAIL.fullmatch(address):
        reject("email", "contact", "an e-mail address is needed, like office@example.kz")


# --- what changes slowly ----------------------------------------------------------------


def ask_change(
    connection: Connection, caller: Caller, field: str, value: str | bytes, now: int, tell: Tell
) -> Change:
    """Ask that a wallet, an IBAN or a contact change; it holds after 48 hours if nobody cancels (LEAKS 21).

    Whoever was reachable before is told at once, by webhook and by letter to the old contact, so that a
    stolen key moves no money before its owner has heard of it. tell: writes a webhook event.
    """
    assert caller.merchant_id is not None
    store.lock_merchant(connection, caller.merchant_id)
    held = store.merchant_at(connection, caller.merchant_id, now)
    assert held is not None
    if field == "wallet":
        assert isinstance(value, bytes)
        _check_wallet(value)
    elif field == "iban":
        check_iban(str(value), "iban")
    else:
        _check_email(str(value))
    old, new = _shown(getattr(held, field)), _shown(value)
    if old == new:
        reject("conflict", field, "this is what holds already")
    waiting = store.waiting_changes(connection, caller.merchant_id, now)
    if any(one.field == field for one in waiting):
        reject("conflict", field, "another change of it waits; cancel that one first")
    change = Change(
        f"ch_{secrets.token_hex(8)}", caller.merchant_id, field, old, new, caller.key_id, now, now + HOLD_S
    )
    store.add_change(connection, change)
    _notify(connection, held, change, "asked", now, tell)
    return change


def cancel_change(connection: Connection, caller: Caller, id: str, now: int, tell: Tell) -> Change:
    """Cancel a change that does not hold yet.

    Any key of the owner that is older than the change may: also one that a thief revoked meanwhile.
    """
    assert caller.merchant_id is not None
    store.lock_merchant(connection, caller.merchant_id)
    change = store.change(connection, caller.merchant_id, id)
    if change is None:
        reject("not_found", "change", f"no change is called {id[:40]!a}")
    if caller.revoked and not _may_still_cancel(connection, caller, change):
        reject("key", "Authorization", "this key was revoked before the change was asked for")
    if not store.cancel_change(connection, id, caller.key_id, now):
        held_s, done_s = change.effective_s, change.cancelled_s
        why = f"it holds since {held_s}" if done_s is None else f"it was cancelled at {done_s}"
        reject("conflict", "change", f"{why}, now is {now}")
    held = store.merchant_at(connection, caller.merchant_id, now)
    assert held is not None
    _notify(connection, held, change, "cancelled", now, tell)
    return change


def tell_applied(connection: Connection, now: int, tell: Tell, most: int = TOLD_AT_ONCE) -> int:
    """Tell that changes hold from now on, each once; returns of how many. What holds does not wait for it."""
    due = store.untold_changes(connection, now, most)
    for change in due:
        # To the contact before it: a new one that is a thief's is told nothing, the old one learns of it.
        held = store.merchant_at(connection, change.merchant_id, change.effective_s - 1)
        assert held is not None
        _notify(connection, held, change, "applied", now, tell)
    store.note_told(connection, [change.id for change in due], now)
    return len(due)


def _may_still_cancel(connection: Connection, caller: Caller, change: Change) -> bool:
    revoked_s = store.revoked_s(connection, caller.key_id)
    return caller.created_s <= change.asked_s and (revoked_s is None or revoked_s >= change.asked_s)


def _shown(value: str | bytes | None) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else value or ""


def _notify(connection: Connection, held: Merchant, change: Change, what: str, now: int, tell: Tell) -> None:
    told = {
        "change": change.id,
        "field": change.field,
        # The old contact need not learn the whole of a new account; the wallet is public anyway.
        "old": change.old,
        "new": change.new,
        "asked_by_key": change.key_id,
        "effective_s": change.effective_s,
        "cancel": f"DELETE /v1/merchant/changes/{change.id}",
    }
    kind = f"merchant.change.{what}"
    body = json.dumps({"type": kind, "timestamp": now, "data": told}, separators=(",", ":"))
    tell(connection, held.id, change.id, kind, body.encode(), now)
    # To who held before, whatever else is being changed: that address has a hold of its own.
    if held.contact is not None:
        store.add_email(connection, held.id, held.contact, kind, body, now)


# --- keys -------------------------------------------------------------------------------


def make_key(
    connection: Connection,
    caller: Caller,
    role: str,
    now: int,
    *,
    merchant_id: str | None = None,
    name: str = "",
    scopes: frozenset[str] | None = None,
    sandbox: bool = False,
    lifetime_s: int | None = None,
) -> str:
    """Make a key for the caller's merchant, or for a merchant by the operator.

    No key makes one that may do more than itself, or that ends after it: else who was let in for a while
    would stay. An operator's own end is none of the merchant's. A sandbox key makes sandbox keys only.
    """
    owner = merchant_id if caller.role == OPERATOR else caller.merchant_id
    if role not in {OWNER, CASHIER}:
        reject("role", "role", f"a merchant's key is of {OWNER} or {CASHIER}, not {role[:20]!a}")
    wanted = ROLES[role] if scopes is None else scopes
    if strange := sorted(wanted - ROLES[role]):
        reject("scope", "scopes", f"{role} has no {strange[0][:40]!a}")
    if caller.role != OPERATOR and (more := sorted(wanted - caller.scopes)):
        reject("scope", "scopes", f"your own key has no {more[0]}")
    if caller.sandbox and not sandbox:
        reject("sandbox", "sandbox", "a sandbox key makes sandbox keys only")
    expires_s = _end(connection, caller, None if lifetime_s is None else now + lifetime_s)
    # What is made with all scopes of a role follows the role, unless its maker has fewer.
    return store.new_key(
        connection, role, owner, now, name=name, scopes=scopes, sandbox=sandbox, expires_s=expires_s
    )


def rotate_key(connection: Connection, caller: Caller, id: str, overlap_s: int, now: int) -> tuple[str, Key]:
    """Give a key's successor and let the old one expire after the overlap; returns it and the old one.

    It lives as long as the old one was made to, and no longer than the key that asks: a key that rotates
    itself goes on under a new secret, and is prolonged by one that ends later.
    """
    old = own_key(connection, caller, id)
    if old.revoked_s is not None or (old.expires_s is not None and old.expires_s <= now):
        reject("conflict", "key", "this key opens nothing any more; make a new one")
    if not 0 <= overlap_s <= OVERLAP_MOST_S:
        reject("overlap", "overlap_s", f"{overlap_s} seconds, from 0 to {OVERLAP_MOST_S} are possible")
    if caller.role != OPERATOR and (more := sorted(old.scopes - caller.scopes)):
        reject("scope", "key", f"your own key has no {more[0]}")
    lifetime = None if old.expires_s is None else old.expires_s - old.created_s
    key = store.new_key(
        connection,
        old.role,
        old.merchant_id,
        now,
        name=old.name,
        scopes=None if old.scopes == ROLES[old.role] else old.scopes,
        sandbox=old.sandbox,
        expires_s=_end(connection, caller, None if lifetime is None else now + lifetime),
    )
    store.expire(connection, id, now + overlap_s)
    return key, old


def _end(connection: Connection, caller: Caller, wanted_s: int | None) -> int | None:
    """When a key ends that a caller makes: when it was to, or with its maker."""
    maker = None if caller.role == OPERATOR else store.one_key(connection, caller.key_id)
    ends = [end for end in (wanted_s, maker.expires_s if maker else None) if end is not None]
    return min(ends, default=None)


def own_key(connection: Connection, caller: Caller, id: str) -> Key:
    """A key that the caller may change: its merchant's, or any merchant's for the operator."""
    found = store.one_key(connection, id)
    mine = found is not None and (
        caller.role == OPERATOR
        or (found.merchant_id == caller.merchant_id and (found.sandbox or not caller.sandbox))
    )
    if found is None or not mine:
        reject("not_found", "key", f"no key is called {id[:40]!a}")
    return found
