"""What is personal is erased at a request and stays erased; what was recorded is proved as before."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from typer.testing import CliRunner

from gateway import db, migrations
from gateway.cli import app
from gateway.db import reading
from gateway.erasure import store as erasures
from gateway.erasure.listing import Listing, Reason, Request, Target, What
from gateway.erasure.person import pattern_of
from gateway.erasure.service import Erasure
from gateway.exports.store import MAIN, tables_of
from gateway.exports.tables import databases, export_all, import_all
from gateway.ledger_view import LedgerView
from gateway.merchants import service as merchants
from gateway.merchants import store as merchant_rows
from gateway.merchants.links import store as links
from gateway.merchants.roles import OWNER, SCOPES, Caller
from gateway.payments import store
from gateway.payments.service import Payments
from gateway.payments.store import Invoice, bank, tables
from gateway.rails.tenge.rail import read_file
from gateway.webhooks import store as webhooks
from ledger import store as ledger_store
from ledger.audit import audit
from ledger.proof import check_receipt, parse_receipt, parse_vkey
from ledger.records import Invalid
from tests.gateway.conftest import MERCHANT_IBAN, Town
from tests.gateway.test_refunds_by_bank import PAYER, Office

NAME, IBAN, IIN, PHONE, EMAIL = (
    "Aliya Sample", "KZ86125KZT5004100100", "920101300123", "+7 (701) 234-56-78", "aliya@cafe.example",
)  # fmt: skip


def quiet(*_: object, **__: object) -> None:
    """Say nothing."""


@pytest.fixture(params=["town", "postgres_town"])
def both(request: pytest.FixtureRequest) -> Town:
    found: Town = request.getfixturevalue(request.param)
    return found


@dataclass
class Restored:
    """Two databases into which a backup is brought."""

    main_url: str
    heads_url: str

    def bring(self, backup: Path) -> None:
        main, heads = db.engine(self.main_url), db.engine(self.heads_url)
        migrations.upgrade(main)
        ledger_store.create(main, heads)
        import_all(databases(main, heads), backup, quiet)
        main.dispose()
        heads.dispose()


@pytest.fixture
def restored(request: pytest.FixtureRequest, both: Town, tmp_path: Path) -> Iterator[Restored]:
    """Empty databases of the kind that the town has."""
    folder = tmp_path / "restored"
    folder.mkdir()
    url = f"sqlite:///{folder}/main.db"
    if both.city.gateway.engine.dialect.name == "postgresql":
        servers = request.getfixturevalue("postgres")
        servers.execute("CREATE DATABASE restored")
        url = servers.url("restored")
    yield Restored(url, f"sqlite:///{folder}/heads.db")
    if url.startswith("postgresql"):
        servers.execute("DROP DATABASE restored WITH (FORCE)")


def erasure_of(town: Town, path: Path, engine: Any = None) -> Erasure:
    return Erasure(engine or town.city.gateway.engine, Listing(path), town.city.clock, town.city.bank_folder)


def pay_in_tenge(town: Town, words: str = "") -> Invoice:
    """A resident's fee, as a bank tells of it, recorded and public."""
    bill = town.bill()
    town.transfer_in_tenge(
        bill.due_minor, f"{bill.reference} {words}".strip(), payer_name=NAME, payer_iban=IBAN
    )
    town.take_bank_files()
    town.record()
    town.city.worker.publish()
    return bill


def back_up(town: Town, folder: Path) -> Path:
    export_all(
        databases(town.city.writer.engine, town.city.writer.heads), folder, "jsonl", quiet, private=True
    )
    return folder


def everything(engine: db.Engine) -> str:
    """All text and bytes of all tables, the ledger's too."""
    told = []
    with reading(engine) as connection:
        for table in tables_of(MAIN):
            for row in connection.execute(table.select()):
                told += [bytes(v).decode(errors="replace") if isinstance(v, bytes) else str(v) for v in row]
    return "\n".join(told)


def check_proofs(town: Town, invoice: Invoice, receipt: bytes) -> None:
    """The receipt from before and the one of now check, and the auditor finds nothing."""
    folder = town.city.publisher.folder
    verifiers = [parse_vkey(vkey) for vkey in json.loads((folder / "trust.json").read_text())["vkeys"]]
    now = town.client().get(f"/v1/receipts/{invoice.id}").content
    for content in (receipt, now):
        check_receipt(content, parse_receipt(content).extra, verifiers, witnesses=1)
    verdict = audit(folder)
    assert verdict.is_valid, verdict.findings


def command(town: Town, list_path: Path, *words: str, typed: str = "", **more: str) -> Any:
    """Run `qazyna` with the settings of this town."""
    environment = {
        "QAZYNA_FOLDER": str(town.city.folder),
        "QAZYNA_DATABASE": town.city.gateway.engine.url.render_as_string(hide_password=False),
        "QAZYNA_HEADS_DATABASE": town.city.writer.heads.url.render_as_string(hide_password=False),
        "QAZYNA_ERASURES": str(list_path),
        **more,
    }
    return CliRunner().invoke(app, list(words), input=typed, env=environment)


def test_l7_a_payment_is_erased_and_its_receipt_and_the_audit_stay_valid(
    both: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    town, path = both, tmp_path / "erasures.jsonl"
    bill = pay_in_tenge(town)
    receipt = town.client().get(f"/v1/receipts/{bill.id}").content
    [before] = town.revenue()
    assert NAME in everything(town.city.gateway.engine)
    caplog.set_level(logging.INFO)
    answer = command(
        town, path, "erase", "payment", bill.id, "--reason", "withdrawn", "--request", "R-17",
        "--remove-files", "--yes",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    told = everything(town.city.gateway.engine)
    assert NAME not in told
    assert IBAN not in told
    # Nor in the bank's file, in the list, in what was said and what was logged.
    assert list(town.city.bank_folder.glob("*.xml")) == []
    for content in (path.read_text(), answer.output, caplog.text):
        assert NAME not in content
        assert IBAN not in content
    [after], [piece] = town.revenue(), town.seen(bill)
    assert after == before
    assert after.evidence == piece.evidence_hash
    assert town.status(bill) == "final"
    check_proofs(town, bill, receipt)


def test_l7_of_what_was_erased_no_byte_is_left_in_the_files_of_sqlite(town: Town, tmp_path: Path):
    bill = pay_in_tenge(town)
    path, engine = Path(str(town.city.gateway.engine.url.database)), town.city.gateway.engine
    # Some builds of SQLite write zeros over what is deleted by themselves.
    event.listen(engine, "connect", lambda opened, _: opened.execute("PRAGMA secure_delete = OFF"))
    engine.dispose()

    def held() -> bool:
        return any(NAME.encode() in one.read_bytes() for one in path.parent.glob(f"{path.name}*"))

    assert held()
    erasure = erasure_of(town, tmp_path / "erasures.jsonl")
    erasure.carry_out(erasure.payment(bill.id), Reason.WITHDRAWN, "R-1")
    assert not held()


def test_ff76_an_older_backup_that_is_restored_is_erased_again_before_anything_is_served(
    both: Town, restored: Restored, tmp_path: Path
):
    town, path = both, tmp_path / "erasures.jsonl"
    bill = pay_in_tenge(town)
    receipt = town.client().get(f"/v1/receipts/{bill.id}").content
    backup = back_up(town, tmp_path / "backup")
    erasure = erasure_of(town, path)
    erasure.carry_out(erasure.payment(bill.id), Reason.ENDED, "R-2")
    restored.bring(backup)
    main = db.engine(restored.main_url)
    assert NAME in everything(main)
    answer = command(
        town, path, "worker", "--only", "webhooks", "--list",
        QAZYNA_DATABASE=restored.main_url, QAZYNA_HEADS_DATABASE=restored.heads_url,
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    told = everything(main)
    main.dispose()
    assert NAME not in told
    assert IBAN not in told
    check_proofs(town, bill, receipt)
    # Where nothing came back, nothing is done.
    assert erasure.again() == 0


def test_ff76_the_import_of_a_backup_erases_again_by_itself(both: Town, restored: Restored, tmp_path: Path):
    town, path = both, tmp_path / "erasures.jsonl"
    bill = pay_in_tenge(town)
    backup = back_up(town, tmp_path / "backup")
    erasure = erasure_of(town, path)
    erasure.carry_out(erasure.payment(bill.id), Reason.ENDED, "R-2")
    answer = command(
        town, path, "import", "tables", str(backup),
        QAZYNA_DATABASE=restored.main_url, QAZYNA_HEADS_DATABASE=restored.heads_url,
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert "erased again: 1 rows" in answer.output
    main = db.engine(restored.main_url)
    assert NAME not in everything(main)
    main.dispose()


def test_ff76_a_banks_file_that_is_read_again_after_a_restore_brings_nobody_back(
    both: Town, restored: Restored, tmp_path: Path
):
    town, path = both, tmp_path / "erasures.jsonl"
    town.bill()
    before = back_up(town, tmp_path / "before")
    bill = pay_in_tenge(town)
    [file] = town.city.bank_folder.glob("*.xml")
    erasure = erasure_of(town, path)
    erasure.carry_out(erasure.payment(bill.id), Reason.ENDED, "R-3")
    restored.bring(before)
    main = db.engine(restored.main_url)
    erasure_of(town, path, main).again()
    known = town.payments
    payments = Payments(main, LedgerView(main), known.clock, known.rates, known.chain)
    with main.begin() as connection:
        payments.take(connection, read_file(file.read_bytes(), [town.city.plan.bank_iban])[0])
    with reading(main) as connection:
        [piece] = store.unmatched(connection, (0, ""), 10)
        # It counts, it can be booked, and nobody can say whose it was.
        assert piece.amount_minor == bill.due_minor
        assert piece.evidence_hash is not None
        assert store.private(connection, piece.evidence_hash) is None
    assert NAME not in everything(main)
    main.dispose()


# --- a person ---------------------------------------------------------------------------------------


def test_l7_a_person_is_found_by_what_is_typed_in_and_nothing_else_goes(both: Town, tmp_path: Path):
    town, path, now = both, tmp_path / "erasures.jsonl", both.city.clock()
    engine = town.city.gateway.engine
    bill = pay_in_tenge(town, f"from IIN {IIN[:6]} {IIN[6:]}, tel. 8 701 234 5678")
    other = town.bill()
    town.transfer_in_tenge(other.due_minor, other.reference, payer_name="Another", payer_iban=MERCHANT_IBAN)
    town.take_bank_files()
    named = town.invoice(merchant_reference=f"for {PHONE}")
    tea = town.invoice()
    with engine.begin() as connection:
        links.add(
            connection,
            links.Link(
                "l_1",
                town.merchant_id,
                f"Ask {EMAIL}",
                "x",
                "USDT",
                5,
                reusable=True,
                created_s=now,
                expires_s=None,
            ),
        )
        merchant_rows.add_email(connection, town.merchant_id, EMAIL, "k", "Dear Aliya", now)
        caller = Caller("key", OWNER, town.merchant_id, frozenset(SCOPES))
        merchants.ask_change(connection, caller, "contact", EMAIL, now, webhooks.enqueue)
        merchants.ask_change(connection, caller, "iban", IBAN, now, webhooks.enqueue)
    erasure = erasure_of(town, path)
    found = {typed: erasure.person(typed) for typed in (IBAN.lower(), IIN, PHONE, EMAIL)}
    whats = {typed: sorted(one.what.value for one in found[typed].targets) for typed in found}
    assert whats == {
        IBAN.lower(): ["evidence", "private"],
        IIN: ["evidence", "private"],
        PHONE: ["evidence", "invoice", "private"],
        EMAIL: ["change", "letter", "link"],
    }
    # Where a merchant's money goes is accounting: it is told, and stays.
    assert [one.partition(" ")[0] for one in found[IBAN.lower()].kept] == ["merchant_change"]
    assert len(found[IIN].files) == 1
    for number, one in enumerate(found.values()):
        erasure.carry_out(one, Reason.WITHDRAWN, f"R-{number}")
    told = everything(engine)
    for gone in (NAME, IIN, PHONE, EMAIL, "Dear Aliya", f"{IIN[:6]} {IIN[6:]}"):
        assert gone not in told, gone
        assert gone not in path.read_text()
    assert "Another" in told
    assert town.payments.look(named.id)[0].merchant_reference == f"erased:{named.id}"
    assert town.payments.look(tea.id)[0] == tea
    assert f"erased:{named.id}" in told
    with reading(engine) as connection:
        held = merchant_rows.merchant_at(connection, town.merchant_id, now + 10 * 86_400)
        assert held is not None
        assert held.contact is None
        assert held.iban == IBAN
    # Asked for again, there is nothing.
    assert all(not erasure.person(typed).targets for typed in (IIN, PHONE, EMAIL))
    assert erasure.again() == 0
    assert town.status(bill) == "final"


def test_l7_who_is_looked_for_is_typed_in_and_shown_nowhere(town: Town, tmp_path: Path):
    pay_in_tenge(town)
    path = tmp_path / "erasures.jsonl"
    words = ("erase", "person", "--reason", "court", "--request", "court/2026-5")
    refused = command(town, path, *words, typed=f"{IBAN}\nn\n")
    assert refused.exit_code == 1
    assert NAME in everything(town.city.gateway.engine)
    assert not path.exists()
    done = command(town, path, *words, typed=f"{IBAN}\ny\n")
    assert done.exit_code == 0, done.output
    assert IBAN not in done.output + refused.output
    assert NAME not in everything(town.city.gateway.engine)


@pytest.mark.parametrize(
    ("typed", "text", "is_found"),
    [
        (IIN, "ИИН 920101300123.", True),
        (IIN, "9201 0130 0123", True),
        (IIN, "1920101300123", False),
        (IIN, "9201013001234", False),
        (PHONE, "87012345678", True),
        (PHONE, "+77012345678", True),
        (PHONE, "7012345678", True),
        ("8 701 234 56 78", "тел +7 701 234-56-78", True),
        (PHONE, "970123456781", False),
        ("kz86 125k zt50 0410 0100", "KZ86125KZT5004100100", True),
        (IBAN, "KZ86 125K ZT50 0410 0100", True),
        (IBAN, "KZ86125KZT50041001001", False),
        ("Aliya@Cafe.example", "to aliya@cafe.example,", True),
        (EMAIL, "another-aliya@cafe.example", False),
    ],
)
def test_a_number_is_found_however_it_is_grouped_and_never_inside_another(
    typed: str, text: str, is_found: bool
):
    assert (pattern_of(typed).search(text) is not None) is is_found


@pytest.mark.parametrize("typed", ["", "Aliya", "12345", "9201013001234", "+920101300123", "@", "KZ86"])
def test_what_is_no_number_of_a_person_is_refused_and_not_repeated(typed: str):
    with pytest.raises(Invalid, match="L7") as refused:
        pattern_of(typed)
    assert not typed or typed not in str(refused.value)


# --- what is refused -------------------------------------------------------------------------------------


def test_money_that_waits_for_a_decision_is_not_made_nobodys(town: Town, tmp_path: Path):
    town.transfer_in_tenge(700, "no reference", payer_name=NAME, payer_iban=IBAN)
    town.take_bank_files()
    erasure = erasure_of(town, tmp_path / "erasures.jsonl")
    with pytest.raises(Invalid, match="queue"):
        erasure.person(IBAN)
    assert town.city.gateway.unmatched is not None
    town.city.gateway.unmatched.keep(town.unmatched()[0].key, "clerk", "nobody asks")
    erasure.carry_out(erasure.person(IBAN), Reason.WITHDRAWN, "R-4")
    assert NAME not in everything(town.city.gateway.engine)


def test_a_refund_by_bank_ends_first_and_is_then_erased_with_its_payment(town: Town, tmp_path: Path):
    office = Office(town)
    id = office.refund(office.lose(payer_name=NAME))
    erasure = erasure_of(town, tmp_path / "erasures.jsonl")
    with pytest.raises(Invalid, match="has to end first"):
        erasure.person(PAYER)
    office.pay(id, payer_name=NAME)
    office.work()
    assert office.state(id) == "final"
    found = erasure.person(PAYER)
    whats = sorted(one.what.value for one in found.targets)
    assert whats == ["account", "evidence", "evidence", "private", "private"]
    erasure.carry_out(found, Reason.WITHDRAWN, "R-6")
    told = everything(town.city.gateway.engine)
    assert NAME not in told
    assert PAYER not in told
    assert office.state(id) == "final"
    # Whatever the bank tells again of it is not kept again.
    with town.city.gateway.engine.begin() as connection:
        connection.execute(tables.bank_refund.delete())
        connection.execute(tables.file.delete())
    office.work()
    with reading(town.city.gateway.engine) as connection:
        assert len(bank.bookings_of(connection, [id])) == 1
    assert PAYER not in everything(town.city.gateway.engine)


@pytest.mark.parametrize("request_", ["", "from Aliya", IIN, "R-7012345678", "x" * 41, "Алия"])
def test_a_reference_that_could_name_somebody_is_refused(town: Town, tmp_path: Path, request_: str):
    bill = pay_in_tenge(town)
    erasure = erasure_of(town, tmp_path / "erasures.jsonl")
    with pytest.raises(Invalid, match="reference"):
        erasure.carry_out(erasure.payment(bill.id), Reason.COURT, request_)
    assert NAME in everything(town.city.gateway.engine)


def test_ff76_a_list_that_is_not_the_newest_or_was_changed_stops_the_start(town: Town, tmp_path: Path):
    path = tmp_path / "erasures.jsonl"
    for number in range(2):
        bill = pay_in_tenge(town)
        erasure = erasure_of(town, path)
        erasure.carry_out(erasure.payment(bill.id), Reason.COURT, f"R-{number}")
    whole = path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    other = Listing(tmp_path / "other.jsonl")
    # The first request as it was, and another in the place of the second: each line follows the one before.
    for one in (Listing(path).requests()[0], request(1)):
        other.add(one)
    start = ("worker", "--only", "webhooks", "--list")
    for content, why in (
        (other.path.read_bytes(), "the first by its line 2: it is another list"),
        (None, "it has 0 lines, this database has carried out 2"),
        (first, "it has 1 lines, this database has carried out 2"),
        (second, "line 1: it follows"),
        (first.replace(b"R-0", b"R-8") + second, "line 2: it follows"),
        (b"{}\n", "no line of erasures"),
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        answer = command(town, path, *start)
        assert isinstance(answer.exception, Invalid), (why, answer.output)
        assert why in str(answer.exception)
        if content is None:
            path.touch()
    path.write_bytes(whole)
    assert command(town, path, *start).exit_code == 0


def test_production_erases_only_with_a_list_that_no_backup_of_the_folder_brings_back(town: Town):
    with pytest.raises(Invalid, match="QAZYNA_ERASURES"):
        CliRunner().invoke(
            app,
            ["erase", "again"],
            env={
                "QAZYNA_MODE": "production",
                "QAZYNA_FOLDER": str(town.city.folder),
                "QAZYNA_ERASURES": None,
            },
            catch_exceptions=False,
        )


# --- the list ----------------------------------------------------------------------------------------------


def test_who_dies_between_the_list_and_the_database_is_finished_at_the_next_start(
    both: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    town, bill = both, pay_in_tenge(both)
    erasure = erasure_of(town, tmp_path / "erasures.jsonl")
    found = erasure.payment(bill.id)

    def died(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasures, "note", died)
        with pytest.raises(KeyboardInterrupt):
            erasure.carry_out(found, Reason.ENDED, "R-5")
    assert NAME in everything(town.city.gateway.engine)
    assert erasure_of(town, tmp_path / "erasures.jsonl").again() == 1
    assert NAME not in everything(town.city.gateway.engine)


def request(number: int) -> Request:
    return Request(number, Reason.ENDED, f"R-{number}", (Target(What.PRIVATE, f"{number:064x}"),))


def test_a_line_that_was_half_written_was_never_carried_out_and_makes_room(tmp_path: Path):
    listing = Listing(tmp_path / "list" / "erasures.jsonl")
    assert [listing.add(request(number)) for number in range(3)] == [1, 2, 3]
    whole = listing.path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[2]) + 1):
        listing.path.write_bytes(whole[:-cut])
        assert listing.requests() == [request(0), request(1)]
    assert listing.add(request(9)) == 3
    assert listing.requests() == [request(0), request(1), request(9)]


def test_lines_that_many_add_at_once_stand_one_after_the_other(tmp_path: Path):
    listing = Listing(tmp_path / "erasures.jsonl")
    lines: list[int] = []
    threads = [
        threading.Thread(
            target=lambda number=number: lines.append(Listing(listing.path).add(request(number)))
        )
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines) == list(range(1, 13))
    assert sorted(one.at_s for one in listing.requests()) == list(range(12))


# --- nothing is forgotten ----------------------------------------------------------------------------------

# Tables of the gateway and the ledger in which nobody is named: numbers, hashes, words of ours, addresses of
# a public chain. A new table is looked at, and comes here, into WORDS or into KEPT.
NAMES_NOBODY = {
    # Sealed, and forgotten after 48 hours.
    "api_answer",
    # A caller is a hash, forgotten after two minutes.
    "quota_lease",
    "approval_place", "bank_file", "bank_refund", "coin_deposit", "deposit_flush", "erased", "evidence", "evidence_event", "flush_waiting",
    "gasless_payment", "idempotency", "invoice_event", "last_rate", "merchant_policy", "order_claim", "outgoing_attempt",
    "payout_freed", "payout_item", "quote_nonce", "rail_cursor", "rail_tail", "refund", "refund_part", "sandbox_payment", "sending_account",
    "sending_call", "sending_transaction", "settlement", "webhook_attempt", "webhook_delivery",
    "webhook_endpoint", "webhook_sequence", "worker_step",
}  # fmt: skip
# Emptied together with what they tell of.
TELLS = {"webhook_event", "private_evidence"}


def test_l7_every_table_is_emptied_kept_for_a_reason_or_names_nobody():
    known = {one.table for one in (*erasures.WORDS.values(), *erasures.KEPT)} | TELLS
    # Nothing personal is in a record (L7), so in no table of the ledger.
    left = {table.name for table in tables_of(MAIN) if not table.name.startswith("ledger_")} - known
    assert left == NAMES_NOBODY


def test_l7_what_is_kept_is_what_the_database_refuses_to_change_or_accounting():
    fixed = {table.name for table in tables.INSERT_ONLY}
    loose = {words.table for words in erasures.KEPT} - fixed
    assert loose == {"merchant", "merchant_change", "payout", "api_key"}
