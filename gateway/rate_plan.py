"""The operator's list of rate sources, rates.json: who is asked for each asset, and when to be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.rails.evm_feed import Chain, ChainFeed
from gateway.rates import Exchange, NationalBank, NationalBankFeed, Policy, RateSource
from ledger.records import Unavailable, reject
from ledger.rules import TENGE

Whole = Annotated[int, Field(ge=0, lt=1 << 31)]
Word = Annotated[str, Field(pattern="^[!-~]{1,60}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BankPlan(_Strict):
    """The National Bank, by its page of one day or its feed of all rates."""

    kind: Literal["national_bank", "national_bank_feed"]
    url: str
    currency: Word
    max_age_s: Whole


class ExchangePlan(_Strict):
    """An exchange's last price."""

    kind: Literal["exchange"]
    name: Word
    url: str
    symbol: Word
    max_age_s: Whole


class FeedPlan(_Strict):
    """A feed on the gateway's own chain; through: what its currency is worth, where that is not tenge."""

    kind: Literal["evm_feed"]
    name: Word
    address: Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$")]
    heartbeat_s: Whole
    through: BankPlan | None = None


SourcePlan = Annotated[BankPlan | ExchangePlan | FeedPlan, Field(discriminator="kind")]


class AssetPlan(_Strict):
    """The sources of one asset."""

    decimals: Annotated[int, Field(ge=0, le=36)]
    sources: Annotated[list[SourcePlan], Field(min_length=2)]


class RatePlan(_Strict):
    """The whole file. Limits in basis points, ages in seconds; see gateway/rates.py."""

    band_bps: Whole = 300
    step_bps: Whole = 1_000
    last_good_max_age_s: Whole = 900
    least_sources: Annotated[int, Field(ge=2)] = 2
    depeg_bps: Whole = 200
    assets: dict[Word, AssetPlan]


def read_plan(path: Path) -> RatePlan:
    """Read the file; refused where it says what nobody understands."""
    try:
        return RatePlan.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise Unavailable("rates.json", f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        return reject("rates.json", ".".join(str(part) for part in first["loc"]), first["msg"])
    except ValueError as error:
        return reject("rates.json", str(path), f"it is not JSON: {error}")


def policy_of(plan: RatePlan) -> Policy:
    """When rates are believed. The National Bank prices what a token is pegged to, and not the token."""
    ages: dict[str, int] = {}
    for asset in plan.assets.values():
        for source in asset.sources:
            name, age_s = _age(source)
            ages[name] = min(age_s, ages.get(name, age_s))
    return Policy(
        max_age_s=ages,
        band_bps=plan.band_bps,
        step_bps=plan.step_bps,
        last_good_max_age_s=plan.last_good_max_age_s,
        least_sources=plan.least_sources,
        peg_sources=frozenset({NationalBank.name}),
        depeg_bps=plan.depeg_bps,
    )


def sources_of(
    plan: RatePlan, client: httpx.Client, chain: Chain | None, chain_id: int
) -> dict[str, Sequence[RateSource]]:
    """The sources by asset. chain None: there is no chain to ask, and a feed on one is refused."""
    found: dict[str, Sequence[RateSource]] = {}
    for asset, asked in plan.assets.items():
        made = [_source(one, asset, asked.decimals, client, chain, chain_id) for one in asked.sources]
        if len({source.name for source in made}) < 2:
            reject("rates.json", asset, "its sources are one under two names' doors, 2 are needed")
        found[asset] = made
    return found


def _age(source: BankPlan | ExchangePlan | FeedPlan) -> tuple[str, int]:
    if isinstance(source, BankPlan):
        return NationalBank.name, source.max_age_s
    return source.name, source.heartbeat_s if isinstance(source, FeedPlan) else source.max_age_s


def _source(
    asked: BankPlan | ExchangePlan | FeedPlan,
    asset: str,
    decimals: int,
    client: httpx.Client,
    chain: Chain | None,
    chain_id: int,
) -> RateSource:
    # An auditor knows the asset alone, and reads what is published by these (docs/bundle.md).
    if isinstance(asked, BankPlan):
        if asked.currency not in {asset, asset[:3]}:
            why = f"an auditor reads {asset} by {asset} or {asset[:3]}, this is {asked.currency}"
            reject("rates.json", f"{asset} national_bank", why)
        return _bank(asked, asset, decimals, client)
    if isinstance(asked, ExchangePlan):
        if asked.symbol != f"{asset}/{TENGE}":
            reject("rates.json", asked.name, f"an auditor reads {asset}/{TENGE}, this is {asked.symbol}")
        return Exchange(client, asked.url, asset, decimals, asked.symbol, asked.name)
    if chain is None:
        reject("rates.json", asked.name, "a feed on a chain needs a node: QAZYNA_RPC_URLS")
    through = None if asked.through is None else _bank(asked.through, asked.through.currency, 0, client)
    age_s = 0 if asked.through is None else asked.through.max_age_s
    address = bytes.fromhex(asked.address[2:])
    return ChainFeed(chain, chain_id, address, asset, decimals, asked.name, asked.heartbeat_s, through, age_s)


def _bank(asked: BankPlan, asset: str, decimals: int, client: httpx.Client) -> RateSource:
    doors: Mapping[str, type[NationalBank | NationalBankFeed]] = {
        "national_bank": NationalBank,
        "national_bank_feed": NationalBankFeed,
    }
    return doors[asked.kind](client, asked.url, asset, decimals, asked.currency)
