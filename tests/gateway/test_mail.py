"""Letters to merchants, through a real SMTP server on loopback that may misbehave: each arrives, none is lost."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from gateway.db import reading
from gateway.eip55 import checksummed
from gateway.mail import store as mail
from gateway.mail.sending import LEASE_S, SERVER_AWAY_S, WAITS_S, Mailer, due_after, mailer_of
from gateway.mail.smtp import Post, Server, parse_server
from gateway.merchants import store
from gateway.metrics import Measures
from gateway.settings import Settings
from gateway.steps.loop import run_once
from gateway.worker import courier_steps
from ledger.records import Invalid, Unavailable
from tests.fakes.smtp_server import Misbehaviour, SmtpServer, Taken
from tests.gateway.conftest import MERCHANT_IBAN, Town

FROM, BOSS, URL = "Qazyna <office@city.example>", "boss@cafe.example", "https://city.example"
THIEF = "0x" + "66" * 20
OTHER_IBAN = "KZ86125KZT5004100100"


def mailer(town: Town, port: int, **more: Any) -> Mailer:
    server = Server(
        "127.0.0.1", port, is_encrypted=False, user=more.pop("user", ""), password=more.pop("password", "")
    )
    post = Post(server, is_strict=True, answer_s=60, **{"connection_s": 60, **more})
    return Mailer(town.city.gateway.engine, post, FROM, URL, town.city.clock)


@pytest.fixture
def reachable(town: Town) -> Town:
    """The town whose merchant has a contact that holds."""
    asked = town.client().post("/v1/merchant/changes", json={"contact": BOSS}, headers=town.bearer)
    assert asked.status_code == 201, asked.text
    town.wait(store.HOLD_S)
    return town


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as made:
        yield made


def ask(town: Town, **change: str) -> dict[str, Any]:
    answer = town.client().post("/v1/merchant/changes", json=change or {"wallet": THIEF}, headers=town.bearer)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def rows(town: Town) -> list[Any]:
    with reading(town.city.gateway.engine) as connection:
        return list(connection.execute(select(store.letters).order_by(store.letters.c.id)))


def row(town: Town) -> Any:
    [found] = rows(town)
    return found


def text_of(taken: Taken) -> str:
    return str(taken.message.get_content())


def test_leak_21_the_old_contact_is_sent_a_letter_that_says_what_changes_when_and_how_to_stop_it(
    reachable: Town, server: SmtpServer
):
    town = reachable
    change = ask(town)
    assert mailer(town, server.port).step() == 1
    [taken] = server.taken
    assert (taken.recipient, taken.sender) == (BOSS, "office@city.example")
    text = text_of(taken)
    at = datetime.fromtimestamp(change["effective_s"], UTC) + timedelta(hours=5)
    # In Kazakh, Russian and English: each says all of it.
    for words in ("Күшіне енетін уақыты", "Вступит в силу", "It takes effect"):
        assert text.count(words) == 1
    for fact in (THIEF, f"{at:%Y-%m-%d %H:%M}", f"DELETE {URL}/v1/merchant/changes/{change['id']}"):
        assert text.count(fact) == 3, fact
    # Stopping it with what the letter says works, and is told too.
    path = f"/v1/merchant/changes/{change['id']}"
    assert town.client().delete(path, headers=town.bearer).status_code == 204
    assert mailer(town, server.port).step() == 1
    assert "was cancelled" in text_of(server.taken[1])
    assert mailer(town, server.port).step() == 0
    # What holds after all is told to whoever was the contact before.
    town.city.worker.tell_changes()
    assert mailer(town, server.port).step() == 0, "the town had no contact before this one"
    ask(town, contact="new.person@cafe.example")
    town.city.clock.wait(store.HOLD_S)
    town.city.worker.tell_changes()
    assert mailer(town, server.port).step() == 2
    assert {taken.recipient for taken in server.taken} == {BOSS}
    assert "took effect" in text_of(server.taken[3]) + text_of(server.taken[2])


def test_an_account_is_shown_by_its_ends_alone(reachable: Town, server: SmtpServer):
    ask(reachable, iban=OTHER_IBAN)
    ask(reachable, contact="new.person@cafe.example")
    mailer(reachable, server.port).step()
    text = "".join(map(text_of, server.taken))
    assert f"KZ86…{OTHER_IBAN[-4:]}" in text
    assert "n…@cafe.example" in text
    for hidden in (OTHER_IBAN, MERCHANT_IBAN, "new.person"):
        assert hidden not in text


def test_a_letter_that_is_not_taken_is_tried_again_later_each_time_under_the_same_message_id(
    reachable: Town, server: SmtpServer
):
    town, post = reachable, mailer(reachable, server.port)
    ask(town)
    server.misbehaves = Misbehaviour.GREYLISTS
    for wait_s in WAITS_S[:4]:
        now = town.city.clock()
        assert post.step() == 0
        assert (row(town).due_s, row(town).error) == (now + wait_s, "SMTP 451")
        assert post.step() == 0, "it is not due"
        town.city.clock.wait(wait_s)
    # It takes it, and the answer is lost: then it comes twice, and can be known as the same.
    server.misbehaves = Misbehaviour.DROPS_AFTER
    assert post.step() == 0
    assert row(town).sent_s is None
    town.city.clock.wait(WAITS_S[4])
    server.misbehaves = Misbehaviour.NONE
    assert mailer(reachable, server.port).step() == 1
    assert (row(town).sent_s, row(town).error) == (town.city.clock(), None)
    first, second = [taken.message["Message-ID"] for taken in server.taken]
    assert first == second == f"<{row(town).id}@city.example>"
    assert text_of(server.taken[0]) == text_of(server.taken[1])


def test_a_letter_is_given_up_only_after_the_change_that_it_tells_of_holds():
    assert sum(WAITS_S) > store.HOLD_S
    assert due_after(len(WAITS_S), 5) == 5 + WAITS_S[-1]
    assert due_after(len(WAITS_S) + 1, 5) is None


def test_one_letter_that_is_refused_keeps_no_other(reachable: Town, server: SmtpServer):
    town = reachable
    for number in range(3):
        with town.city.gateway.engine.begin() as connection:
            store.add_email(
                connection,
                town.merchant_id,
                f"{number}@cafe.example",
                "merchant.change.asked",
                _body(),
                number,
            )
        town.city.clock.wait(1)
    with town.city.gateway.engine.begin() as connection:
        store.add_email(connection, town.merchant_id, "x@cafe.example", "of no kind", _body(), 1)
    server.refuses.add("1@cafe.example")
    assert mailer(town, server.port).step() == 2
    assert server.connections == 1
    assert {taken.recipient for taken in server.taken} == {"0@cafe.example", "2@cafe.example"}
    assert sorted(one.recipient for one in rows(town) if one.sent_s is None) == [
        "1@cafe.example",
        "x@cafe.example",
    ]


def test_a_letter_writes_wallets_as_people_compare_them(reachable: Town, server: SmtpServer):
    """EIP-55: the case shows a slip of the pen, and is what wallets and explorers show."""
    known = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
    ask(reachable, wallet=known.lower())
    mailer(reachable, server.port).step()
    text = text_of(server.taken[0])
    old = checksummed(reachable.city.keys.address("merchant"))
    assert (text.count(known), text.count(old)) == (3, 3)
    assert not [word for word in (known, old) if word.lower() in text]


def _body() -> str:
    return (
        f'{{"data":{{"change":"ch_1","field":"wallet","old":"{THIEF}","new":"{THIEF}","asked_by_key":"k","effective_s":1,'
        '"cancel":"DELETE /v1/merchant/changes/ch_1"}}'
    )


@pytest.mark.parametrize("how", [Misbehaviour.BUSY, Misbehaviour.DRIPS])
def test_while_no_server_listens_letters_wait_and_nothing_counts_as_an_attempt(
    reachable: Town, server: SmtpServer, how: Misbehaviour
):
    ask(reachable)
    server.misbehaves = how
    post = mailer(reachable, server.port, connection_s=0.5)
    with pytest.raises(Unavailable):
        post.step()
    assert (row(reachable).attempts, row(reachable).due_s) == (0, reachable.city.clock() + SERVER_AWAY_S)
    reachable.city.clock.wait(SERVER_AWAY_S)
    server.misbehaves = Misbehaviour.NONE
    assert mailer(reachable, server.port).step() == 1


@pytest.mark.parametrize("how", [Misbehaviour.DROPS_BEFORE, Misbehaviour.HANGS_AFTER])
def test_a_connection_that_breaks_or_hangs_is_given_up_in_time_and_the_rest_goes_back(
    reachable: Town, server: SmtpServer, how: Misbehaviour
):
    ask(reachable)
    ask(reachable, iban=OTHER_IBAN)
    server.misbehaves = how
    # Time enough to hand a letter over, and not for ever.
    allowed_s = 3 if how is Misbehaviour.HANGS_AFTER else 60
    assert mailer(reachable, server.port, connection_s=allowed_s).step() == 0
    attempts = sorted((one.attempts, one.due_s - reachable.city.clock()) for one in rows(reachable))
    assert attempts == [(0, SERVER_AWAY_S), (1, WAITS_S[0])]


def test_a_letter_that_somebody_has_in_hand_is_not_sent_by_another_until_the_lease_ends(reachable: Town):
    ask(reachable)
    engine, now = reachable.city.gateway.engine, reachable.city.clock()
    with engine.begin() as connection:
        assert len(mail.claim(connection, now, LEASE_S, 20)) == 1
    with engine.begin() as connection:
        assert mail.claim(connection, now + LEASE_S - 1, LEASE_S, 20) == []
        # Its sender died: it goes out once more.
        assert len(mail.claim(connection, now + LEASE_S, LEASE_S, 20)) == 1


def test_nothing_personal_is_in_the_log_or_beside_the_letter(
    reachable: Town, server: SmtpServer, caplog: pytest.LogCaptureFixture
):
    ask(reachable)
    server.misbehaves = Misbehaviour.UNKNOWN
    post = mailer(reachable, server.port)
    with caplog.at_level(logging.DEBUG):
        run_once(courier_steps_of(reachable, post))
        server.misbehaves = Misbehaviour.BUSY
        reachable.city.clock.wait(WAITS_S[0])
        run_once(courier_steps_of(reachable, post))
    assert "SMTP 550" in caplog.text
    assert "SMTP 421" in caplog.text
    assert row(reachable).error == "SMTP 550"
    for personal in (BOSS, "boss", THIEF):
        assert personal not in caplog.text


def courier_steps_of(town: Town, post: Mailer) -> list[Any]:
    gateway = town.city.gateway
    steps = courier_steps(gateway.engine, gateway.egress, gateway.sealer, gateway.clock, post)
    return [step for step in steps if step.name == "letters"]


# --- encryption -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 and its key in one file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")])
    now = datetime.now(UTC)
    import ipaddress

    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_letters_and_the_password_go_encrypted_where_the_server_offers_it(reachable: Town, certificate: Path):
    ask(reachable)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with SmtpServer(tls, password="open sesame") as server:
        # A certificate that nobody vouches for is no server of ours.
        with pytest.raises(Unavailable, match="SSLCertVerificationError"):
            mailer(reachable, server.port).step()
        reachable.city.clock.wait(SERVER_AWAY_S)
        wrong = mailer(reachable, server.port, context=trusting, user="city", password="sesame")
        with pytest.raises(Unavailable, match="535"):
            wrong.step()
        reachable.city.clock.wait(SERVER_AWAY_S)
        good = mailer(reachable, server.port, context=trusting, user="city", password="open sesame")
        assert good.step() == 1
        assert (server.taken[0].was_encrypted, server.taken[0].user) == (True, "city")


@pytest.mark.parametrize(("is_strict", "user", "is_taken"), [(True, "", False), (False, "city", False), (False, "", True)])  # fmt: skip
def test_another_machine_is_told_nothing_without_encryption(
    reachable: Town,
    server: SmtpServer,
    monkeypatch: pytest.MonkeyPatch,
    is_strict: bool,
    user: str,
    is_taken: bool,
):
    ask(reachable)
    # The same server, as if it were another machine.
    monkeypatch.setattr(Server, "is_loopback", property(lambda _: False))
    post = Post(
        Server("127.0.0.1", server.port, is_encrypted=False, user=user, password="secret"),
        is_strict=is_strict,
    )
    made = Mailer(reachable.city.gateway.engine, post, FROM, URL, reachable.city.clock)
    if is_taken:
        assert made.step() == 1
    else:
        with pytest.raises(Unavailable, match="no encryption"):
            made.step()
        assert server.taken == []


# --- settings ---------------------------------------------------------------------------


def test_without_a_mail_server_letters_wait_and_a_metric_counts_them(
    reachable: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("QAZYNA_SMTP_URL", raising=False)
    gateway = reachable.city.gateway
    assert mailer_of(Settings(), gateway.engine, gateway.clock) is None
    ask(reachable)
    reachable.city.clock.wait(40)
    measures = Measures(gateway.engine, gateway.clock)
    told = {one.name: one.samples[0].value for one in measures.collect() if one.samples}
    assert (told["qazyna_letters_waiting"], told["qazyna_letters_age_seconds"]) == (1, 40)
    assert told["qazyna_letters_given_up"] == 0


def test_the_settings_make_a_mailer_and_a_wrong_one_is_refused_without_its_password(
    reachable: Town, monkeypatch: pytest.MonkeyPatch
):
    gateway = reachable.city.gateway
    monkeypatch.setenv("QAZYNA_SMTP_URL", "smtps://city:p%40ss-word@localhost")
    with pytest.raises(Invalid, match="MAIL_FROM"):
        mailer_of(Settings(), gateway.engine, gateway.clock)
    monkeypatch.setenv("QAZYNA_MAIL_FROM", FROM)
    made = mailer_of(Settings(), gateway.engine, gateway.clock)
    assert made is not None
    assert made.post.server == Server("localhost", 465, is_encrypted=True, user="city", password="p@ss-word")
    assert "p@ss-word" not in repr(made) + repr(Settings())
    assert "p%40ss" not in repr(Settings())
    for wrong in (
        "http://city:hidden@example",
        "smtp://city:hidden@example:port",
        "smtp://",
        "city:hidden@localhost",
    ):
        with pytest.raises(Invalid) as refused:
            parse_server(wrong)
        assert "hidden" not in str(refused.value)
    assert parse_server("smtp://mail.example").port == 587
