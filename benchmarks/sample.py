"""A city's ledger to measure: the small city, with enough accounts to spread money over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger import rules
from ledger.database import engine as open_engine
from ledger.records import WORD, ZERO_HASH, Account, Transfer, encode_name
from ledger.store import Waiting
from ledger.writer import BATCH_RECORDS, Writer
from tests import city
from tests.ledger.running import Ledger, template

PAIRS = 100


def registered(pairs: int = PAIRS) -> city.Log:
    """The small city with so many pairs of a bank account and a revenue account."""
    log = city.registered()
    for pair in range(pairs):
        iban = city.digest(f"iban {pair}")
        log.act(Account(0, f"bank-{pair}", "KZT", rules.RETAINED, "bank", iban, ZERO_HASH, city.ACT))
        code = encode_name(city.CODE)
        log.act(Account(0, f"fees-{pair}", "KZT", rules.RETAINED, rules.REVENUE, code, ZERO_HASH, city.ACT))
    log.wait(rules.NOTICE_S)
    return log


class Transfers:
    """Fees that nobody has paid yet, as the inbox holds them; ids grow with time, as a gateway's do."""

    def __init__(self, log: city.Log) -> None:
        data = template(city.revenue(log, asset="kzt"))
        self._words = [data[at : at + WORD] for at in range(0, len(data), WORD)]
        self._number = 0

    def take(self, count: int, pairs: int = 1) -> list[Waiting]:
        """So many more, spread over so many pairs of accounts."""
        words, names = self._words.copy(), [name for name, _, _ in Transfer.members]
        # The type hash stands before the members.
        id_at, debit_at, credit_at, evidence_at = (
            1 + names.index(name) for name in ("id", "debit", "credit", "evidence")
        )
        accounts = [(encode_name(f"bank-{pair}"), encode_name(f"fees-{pair}")) for pair in range(pairs)]
        found = []
        for number in range(self._number, self._number + count):
            digest = sha256(number.to_bytes(8)).digest()
            id = words[id_at] = number.to_bytes(8) + digest[:24]
            words[debit_at], words[credit_at] = accounts[number % pairs]
            words[evidence_at] = digest
            found.append(Waiting(None, id, b"".join(words)))
        self._number += count
        return found


@contextmanager
def written(url: str, log: city.Log) -> Iterator[tuple[Ledger, Writer]]:
    """A ledger in an empty database that holds the log, and its writer."""
    with TemporaryDirectory(prefix="qazyna-bench-") as folder:
        place = Path(folder)
        place.chmod(0o700)
        engine = open_engine(url or f"sqlite:///{folder}/ledger.db")
        heads = open_engine(f"sqlite:///{folder}/heads.db")
        ledger = Ledger(place, engine, heads)
        try:
            writer = ledger.writer()
            ledger.feed(writer, log.records)
            ledger.clock.now = log.now
            yield ledger, writer
        finally:
            engine.dispose()
            heads.dispose()


def batches(taken: list[Waiting]) -> list[list[Waiting]]:
    """As the writer takes them."""
    return [taken[at : at + BATCH_RECORDS] for at in range(0, len(taken), BATCH_RECORDS)]
