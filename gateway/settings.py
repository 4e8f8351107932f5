"""What an operator sets, from the environment (QAZYNA_...), and what may not be left as it is."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.records import reject

DEVELOPMENT_SECRET = "for development only"  # noqa: S105 - refused in production, below
SECRET_CHARACTERS, SECRET_VARIETY = 32, 8


class Mode(StrEnum):
    """Whether mistakes cost money."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """All settings; every name is documented in docs/operator.md."""

    model_config = SettingsConfigDict(env_prefix="QAZYNA_", extra="forbid")

    mode: Mode = Mode.DEVELOPMENT
    folder: Path = Path("var/city")
    database: str = ""
    heads_database: str = ""
    rpc_urls: str = ""
    confirmations: int = 2
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    keys: Path | None = None
    plan: Path | None = None
    rates: Path | None = None
    bank: Path | None = None
    vasp: Path | None = None
    erasures: Path | None = None
    retention_code: str = ""
    bundle: str = ""
    origin: str = ""
    watcher: str = ""
    watcher_vkeys: str = ""
    relayer: str = ""
    egress_allow: str = ""
    smtp_url: SecretStr = SecretStr("")
    mail_from: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    lag_most_s: int = 300
    rate_age_most_s: int = 900
    time_shift_s: int = 0
    clock_confirmed_until_s: int = 0

    def check(self) -> None:
        """Refuse to start in production with a default or a missing secret (field failure 51)."""
        if self.mode is not Mode.PRODUCTION:
            return
        for secret in self.secret.get_secret_value().split(","):
            _check_secret(secret.strip())
        if not self.nodes:
            reject(
                "settings",
                "QAZYNA_RPC_URLS",
                "production needs a chain, the in-process one is for trying out",
            )
        if not self.public_url.startswith("https://"):
            reject("settings", "QAZYNA_PUBLIC_URL", "production needs an https address")
        if self.egress_allow.strip():
            # Else any merchant could have us ask our own network (field failure 44).
            reject("settings", "QAZYNA_EGRESS_ALLOW", "webhooks into one's own network are for development")
        if self.time_shift_s:
            reject("settings", "QAZYNA_TIME_SHIFT_S", "only a sample city has a time of its own")
        if self.metrics_port and not ipaddress.ip_address(self.metrics_host).is_loopback:
            reject(
                "settings", "QAZYNA_METRICS_HOST", "metrics are served on loopback; let a proxy guard them"
            )

    @property
    def nodes(self) -> list[str]:
        """The nodes of the chain."""
        return [url for url in self.rpc_urls.replace(",", " ").split() if url]

    @property
    def egress_networks(self) -> list[str]:
        """Networks of one's own that webhooks may reach, in development."""
        return self.egress_allow.replace(",", " ").split()

    @property
    def database_url(self) -> str:
        """The database of gateway and ledger."""
        return self.database or f"sqlite:///{self.folder.resolve()}/qazyna.db"

    @property
    def heads_url(self) -> str:
        """The database of signed heads; it is never restored from a backup."""
        return self.heads_database or f"sqlite:///{self.folder.resolve()}/heads.db"

    @property
    def keys_folder(self) -> Path:
        """Where the files of keys are."""
        return self.keys or self.folder / "keys"

    @property
    def plan_path(self) -> Path:
        """Where the plan of the deployment stands."""
        return self.plan or self.folder / "plan.json"

    @property
    def rates_path(self) -> Path:
        """Where the list of rate sources stands."""
        return self.rates or self.folder / "rates.json"

    @property
    def bank_folder(self) -> Path:
        """Where the bank's files arrive."""
        return self.bank or self.folder / "bank"

    @property
    def vasp_path(self) -> Path:
        """Where the list of providers stands, if there is one."""
        return self.vasp or self.folder / "vasp.json"

    @property
    def erasures_path(self) -> Path:
        """Where the list of erasures stands; it is never restored from a backup."""
        return self.erasures or self.folder / "erasures.jsonl"

    @property
    def bundle_place(self) -> Path | str:
        """Where the public bundle is: a folder, or a URL of fsspec."""
        if "://" in self.bundle:
            return self.bundle
        return Path(self.bundle) if self.bundle else self.folder / "bundle"


def _check_secret(secret: str) -> None:
    if secret == DEVELOPMENT_SECRET or len(secret) < SECRET_CHARACTERS or len(set(secret)) < SECRET_VARIETY:
        told = f"{len(secret)}, {len(set(secret))} of them different"
        why = f"production needs {SECRET_CHARACTERS} random characters, this has {told}"
        reject("settings", "QAZYNA_SECRET", why)
