"""A payer gets a promise once the money is final, and can prove with it that it never came to the ledger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ledger import tables
from ledger.audit import Wanted, audit
from ledger.promise import DEADLINE_S
from tests import servers
from tests.gateway.conftest import Town


def paid_in_tenge(town: Town):
    bill = town.bill()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    return bill


def test_leak_20_a_payer_of_tenge_proves_with_his_promise_that_the_city_left_it_out(
    town: Town, tmp_path: Path
):
    bill = paid_in_tenge(town)
    answer = town.client().get(f"/receipt/{bill.id}/promise-1.txt")
    assert answer.status_code == 200
    promise = tmp_path / "promise.txt"
    promise.write_bytes(answer.content)
    # Whoever runs the writer takes it out of the inbox, and everything else goes on as ever.
    with town.city.writer.engine.begin() as connection:
        assert connection.execute(tables.inbox.delete()).rowcount == 1
    town.city.worker.publish()
    folder = town.city.publisher.folder
    wanted = Wanted(promises=[promise])
    assert [one for one in audit(str(folder), wanted=wanted).findings if one.rule == "D19"] == []
    town.wait(DEADLINE_S + 1)
    other = paid_in_tenge(town)
    town.record()
    town.city.worker.publish()
    told = subprocess.run(
        [sys.executable, "-m", "ledger.audit", str(folder), "--promise", str(promise)],
        capture_output=True, text=True, check=False, cwd=servers.ROOT,
    )  # fmt: skip
    assert told.returncode == 1
    (named,) = [line for line in told.stdout.splitlines() if line.startswith("D19 ")]
    assert f"for invoice {bill.id} was promised" in named
    # The one that was recorded kept its promise.
    kept = tmp_path / "kept.txt"
    kept.write_bytes(town.client().get(f"/receipt/{other.id}/promise-1.txt").content)
    verdict = audit(str(folder), wanted=Wanted(promises=[kept]))
    assert [one for one in verdict.findings if one.rule == "D19"] == []
    assert any("kept" in one for one in verdict.said)


def test_a_promise_is_offered_while_there_is_no_proof_and_is_the_same_each_time(town: Town):
    bill = paid_in_tenge(town)
    client = town.client()
    path = f"/receipt/{bill.id}/promise-1.txt"
    assert client.get(f"/receipt/{bill.id}.json").json()["promises"] == [path]
    assert path in client.get(f"/receipt/{bill.id}").text
    first = client.get(path).content
    town.wait(3_600)
    town.record()
    town.city.worker.publish()
    assert client.get(path).content == first
    # With a proof in hand nobody needs the promise.
    assert path not in client.get(f"/receipt/{bill.id}").text


def test_nothing_is_promised_before_money_is_final(town: Town):
    bill = town.bill()
    answer = town.client().get(f"/receipt/{bill.id}/promise-1.txt")
    assert answer.status_code == 404
    assert "promises" not in town.client().get(f"/receipt/{bill.id}.json").json()
    paid = paid_in_tenge(town)
    for number in ("0", "2", "x", "-1"):
        assert town.client().get(f"/receipt/{paid.id}/promise-{number}.txt").status_code in {404, 422}
