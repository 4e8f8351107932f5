"""What became of records that break a rule and stand in a log all the same (G16, K1).

Such a record has no effect, and stays. Until the Council and an Auditor acknowledge it nobody goes on as
if nothing had been; from then on it is an exception that every audit lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger import rules
from ledger.records import Invalid, reject


def check_acknowledged(state: rules.State, broken: Iterable[Invalid]) -> None:
    """Raise the first breach that no act in effect acknowledges.

    broken: the breaches as they were found, which say why; of others only the rule is known.
    """
    found = {each.where: each for each in broken}
    for index in sorted(state.breaches.keys() - state.acknowledged.keys()):
        where = f"record {index}"
        if where in found:
            raise found[where]
        reject(state.breaches[index], where, "it breaks this rule, and no act acknowledges that")
