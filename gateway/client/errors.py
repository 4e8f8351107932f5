"""What can go wrong between a merchant's program and the gateway."""

from __future__ import annotations


class ApiError(Exception):
    """The gateway refused: which rule, where, and why. status: of HTTP; retry_after_s: when to ask again."""

    def __init__(
        self, status: int, rule: str, where: str, why: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(f"{status} {rule} at {where}: {why}")
        self.status, self.rule, self.where, self.why = status, rule, where, why
        self.retry_after_s = retry_after_s


class NotAnswered(Exception):
    """The gateway did not answer, however often it was asked; whether it did what was asked is not known.

    key: the Idempotency-Key. The same request with it, later, does it once and tells what came of it.
    """

    def __init__(self, why: str, key: str | None) -> None:
        super().__init__(why)
        self.key = key


class NotSigned(Exception):
    """A webhook that the gateway did not sign, or not lately."""
