"""What an operator sets, from the environment (QAZYNA_...), and what may not be left as it is."""

from __future__ import annotations

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
    rpc_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)

    def check(self) -> None:
        """Refuse to start in production with a default or a missing secret (field failure 51)."""
        if self.mode is not Mode.PRODUCTION:
            return
        secret = self.secret.get_secret_value()
        if (
            secret == DEVELOPMENT_SECRET
            or len(secret) < SECRET_CHARACTERS
            or len(set(secret)) < SECRET_VARIETY
        ):
            told = f"{len(secret)}, {len(set(secret))} of them different"
            why = f"production needs {SECRET_CHARACTERS} random characters, this has {told}"
            reject("settings", "QAZYNA_SECRET", why)
        if not self.rpc_url:
            reject(
                "settings", "QAZYNA_RPC_URL", "production needs a chain, the in-process one is for trying out"
            )
        if not self.public_url.startswith("https://"):
            reject("settings", "QAZYNA_PUBLIC_URL", "production needs an https address")

    @property
    def database_url(self) -> str:
        """The database of gateway and ledger."""
        return self.database or f"sqlite:///{self.folder.resolve()}/qazyna.db"

    @property
    def heads_url(self) -> str:
        """The database of signed heads; it is never restored from a backup."""
        return self.heads_database or f"sqlite:///{self.folder.resolve()}/heads.db"
