"""A double-entry ledger from PyPI on the same durable PostgreSQL: django-hordak, one transaction at a time.

Its accounts and legs are checked by triggers in the database, and it proves nothing to outsiders.
It is no dependency of ours, and PyPI has no wheel of it for setup to take (docs/benchmarks.md):
where it is not installed, this says so and measures nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from time import perf_counter
from typing import Any

from benchmarks.result import Result, Results, Wanted
from benchmarks.servers import durable_postgres

COUNT = 1_500


def measure(wanted: Wanted, *, is_long: bool) -> Results:
    """Transfers a second between two accounts, one client."""
    if importlib.util.find_spec("hordak") is None:
        sys.stderr.write("reference.hordak: not installed (.venv/bin/pip install 'django-hordak>=2,<3')\n")
        return
    with durable_postgres() as server:
        _prepare(server.port)
        rate = _transfer(COUNT // 3) and _transfer(COUNT)
    yield Result("reference.hordak", rate, "transfers/s", None, str(COUNT))


def _prepare(port: int) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    database = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres",
                "HOST": "127.0.0.1", "PORT": port}  # fmt: skip
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "mptt", "djmoney", "hordak"]
    settings.configure(
        DATABASES={"default": database}, INSTALLED_APPS=apps, USE_TZ=True, SECRET_KEY="x",  # noqa: S106
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )  # fmt: skip
    django.setup()
    call_command("migrate", verbosity=0)


def _transfer(count: int) -> float:
    from django.db import connection
    from hordak.models import Account  # type: ignore[import-not-found, unused-ignore]

    made: list[Any] = []
    for kind, code in (("AS", "1"), ("IN", "4")):
        found, _ = Account.objects.get_or_create(
            code=code, defaults={"name": code, "type": kind, "currencies": ["EUR"]}
        )
        made.append(found)
    money, income = made
    from djmoney.money import Money

    start = perf_counter()
    for number in range(count):
        income.transfer_to(money, Money(number + 1, "EUR"))
    took = perf_counter() - start
    connection.close()
    return count / took
