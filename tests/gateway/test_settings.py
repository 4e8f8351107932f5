"""What an operator may not leave as it is."""

from __future__ import annotations

import pytest

from gateway.app import create_app
from gateway.settings import DEVELOPMENT_SECRET, Settings
from ledger.records import Invalid
from tests.gateway.conftest import Town

GOOD = {
    "QAZYNA_MODE": "production",
    "QAZYNA_SECRET": "0123456789abcdef0123456789abcdef",
    "QAZYNA_RPC_URLS": "https://node.example",
    "QAZYNA_PUBLIC_URL": "https://city.example",
}


def settings(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> Settings:
    for name, value in {**GOOD, **changes}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    return Settings()


def test_production_starts_with_all_that_it_needs(monkeypatch: pytest.MonkeyPatch):
    settings(monkeypatch).check()


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"QAZYNA_SECRET": None}, "QAZYNA_SECRET"),
        ({"QAZYNA_SECRET": ""}, "QAZYNA_SECRET"),
        ({"QAZYNA_SECRET": DEVELOPMENT_SECRET}, "QAZYNA_SECRET"),
        ({"QAZYNA_SECRET": "0123456789abcdef0123456789abcde"}, "QAZYNA_SECRET"),
        ({"QAZYNA_SECRET": "x" * 32}, "QAZYNA_SECRET"),
        ({"QAZYNA_SECRET": " " * 40}, "QAZYNA_SECRET"),
        ({"QAZYNA_RPC_URLS": None}, "QAZYNA_RPC_URLS"),
        ({"QAZYNA_PUBLIC_URL": None}, "QAZYNA_PUBLIC_URL"),
        ({"QAZYNA_PUBLIC_URL": "http://city.example"}, "QAZYNA_PUBLIC_URL"),
    ],
)
def test_ff51_production_refuses_to_start_with_a_default_or_a_missing_secret(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], where: str
):
    with pytest.raises(Invalid) as refused:
        settings(monkeypatch, **changed).check()
    assert refused.value.where == where
    assert DEVELOPMENT_SECRET not in str(refused.value)


def test_ff51_the_application_is_not_made_with_settings_that_production_forbids(
    monkeypatch: pytest.MonkeyPatch, town: Town
):
    settings(monkeypatch, QAZYNA_SECRET=None)
    with pytest.raises(Invalid):
        create_app(town.city.gateway)


def test_a_secret_is_not_shown_where_settings_are(monkeypatch: pytest.MonkeyPatch):
    shown = repr(settings(monkeypatch)) + str(settings(monkeypatch))
    assert GOOD["QAZYNA_SECRET"] not in shown


def test_development_needs_nothing(monkeypatch: pytest.MonkeyPatch):
    settings(monkeypatch, **dict.fromkeys(GOOD, None)).check()
