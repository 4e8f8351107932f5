"""Merchants and their keys."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from gateway.db import reading
from gateway.eip55 import checksummed
from gateway.merchants import store
from tests.gateway.conftest import MERCHANT_BIN, MERCHANT_IBAN, Town

WALLET = bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
BODY = {"name": "Cafe", "bin": MERCHANT_BIN, "iban": MERCHANT_IBAN, "wallet": "0x" + WALLET.hex()}


@pytest.mark.parametrize(
    ("changed", "status", "rule"),
    [
        ({}, 409, "conflict"),  # this BIN is enrolled
        ({"bin": MERCHANT_BIN[:-1] + "8"}, 422, None),
        ({"bin": "x"}, 422, None),
        ({"iban": MERCHANT_IBAN[:-1] + "9"}, 422, None),
        ({"wallet": "0x" + "00" * 20}, 422, "E2"),
        ({"wallet": "0x" + "11" * 19}, 422, "schema"),
        ({"wallet": WALLET.hex()}, 422, "schema"),
        ({"wallet": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}, 409, "conflict"),
        # One letter in the wrong case: somebody typed it.
        ({"wallet": "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"}, 422, "schema"),
        ({"name": " "}, 422, "E3"),
        ({"name": "a\0b"}, 422, "text"),
        ({"name": "x" * 201}, 422, "schema"),
        ({"role": "owner"}, 422, "schema"),
    ],
)
def test_a_merchant_is_taken_on_only_with_all_of_it_right(
    town_of_module: Town, changed: dict[str, Any], status: int, rule: str | None
):
    answer = town_of_module.client().post(
        "/v1/merchants", json=BODY | changed, headers=town_of_module.operator
    )
    assert answer.status_code == status, answer.text
    assert rule is None or answer.json()["rule"] == rule


def test_the_checksum_of_an_address_is_the_one_that_pages_show(town_of_module: Town):
    assert checksummed(WALLET) == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def test_ff50_a_key_is_not_in_the_database(town_of_module: Town):
    secret = town_of_module.merchant_key.split("_", 2)[2]
    with reading(town_of_module.city.gateway.engine) as connection:
        rows = connection.execute(select(store._key)).all()
        assert len(rows) == 2
        for row in rows:
            assert len(row.hash) == 32
            assert secret not in repr(row)
            assert secret.encode() not in repr(row).encode()
    for path in town_of_module.city.folder.glob("qazyna.db*"):
        assert secret.encode() not in path.read_bytes()


def test_a_key_is_one_merchants_and_has_one_scope(town_of_module: Town):
    with reading(town_of_module.city.gateway.engine) as connection:
        merchant = store.caller(connection, town_of_module.merchant_key, 0)
        operator = store.caller(connection, town_of_module.operator_key, 0)
        assert store.caller(connection, town_of_module.merchant_key.replace("qz_", "qx_", 1), 0) is None
        # The id of one key with the secret of another opens nothing.
        mixed = "_".join(
            [*town_of_module.operator_key.split("_")[:2], town_of_module.merchant_key.split("_", 2)[2]]
        )
        assert store.caller(connection, mixed, 0) is None
    assert merchant is not None
    assert operator is not None
    assert (merchant.role, merchant.merchant_id) == ("owner", town_of_module.merchant_id)
    assert (operator.role, operator.merchant_id) == ("operator", None)
