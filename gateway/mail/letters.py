"""What a letter says: the same in Kazakh, Russian and English, for nobody was asked which.

An account is shown by its ends: the old contact must know it again, and a mailbox is no safe.
"""

from __future__ import annotations

import json
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.eip55 import checksummed_text
from gateway.mail.store import Letter
from ledger.records import reject

_ALMATY: Final = ZoneInfo("Asia/Almaty")
_SUBJECT: Final = {
    "merchant.change.asked": (
        "Деректеріңізді өзгерту сұралды / Запрошено изменение данных / A change was asked for"
    ),
    "merchant.change.applied": ("Өзгерту күшіне енді / Изменение вступило в силу / A change took effect"),
    "merchant.change.cancelled": ("Өзгерту болдырылмады / Изменение отменено / A change was cancelled"),
}
_FIELDS: Final = {
    "wallet": ("ақша түсетін әмиян", "кошелёк для выплат", "the wallet that is paid"),
    "iban": ("банк шоты (IBAN)", "банковский счёт (IBAN)", "the bank account (IBAN)"),
    "contact": ("байланыс мекенжайы", "адрес для связи", "the contact address"),
}
_ASKED: Final = (
    """{key} кілтімен {field} өзгертуді сұрады.
Қазір: {old}
Жаңасы: {new}
Күшіне енетін уақыты: {time}.
Мұны сіз сұрамасаңыз, оған дейін болдырмаңыз: {cancel}, осы өзгертуден бұрын жасалған
иесінің кез келген кілтімен, немесе {url} бетінде. Содан кейін кілттеріңізді ауыстырыңыз.""",
    """Ключом {key} запрошено изменение: {field}.
Сейчас: {old}
Новое: {new}
Вступит в силу: {time}.
Если это не вы, отмените до этого времени: {cancel}, любым ключом владельца, который старше этого запроса,
или на странице {url}. Затем смените ключи.""",
    """The key {key} asked for a change of {field}.
Now: {old}
New: {new}
It takes effect: {time}.
If this was not you, cancel it before then: {cancel}, with any key of the owner that is older than
this request, or on {url}. Then replace your keys.""",
)
_CANCELLED: Final = (
    "Өзгерту ({field}, {old} орнына {new}) болдырылмады: бұрынғысы күшінде қалады. {url}",
    "Изменение ({field}: {new} вместо {old}) отменено: остаётся прежнее. {url}",
    "The change of {field} from {old} to {new} was cancelled: what held before still holds. {url}",
)
_APPLIED: Final = (
    (
        "Өзгерту ({field}, {old} орнына {new}) күшіне енді: {time}.\n"
        "Мұны сіз сұрамасаңыз, қалаға бірден хабарласыңыз. {url}"
    ),
    (
        "Изменение ({field}: {new} вместо {old}) вступило в силу: {time}.\n"
        "Если это не вы, сразу сообщите городу. {url}"
    ),
    (
        "The change of {field} from {old} to {new} took effect: {time}.\n"
        "If this was not you, tell the city now. {url}"
    ),
)
_TEXTS: Final = {
    "merchant.change.asked": _ASKED,
    "merchant.change.applied": _APPLIED,
    "merchant.change.cancelled": _CANCELLED,
}


def message(letter: Letter, sender: str, public_url: str) -> EmailMessage:
    """The letter as it is sent; the same one always has the same Message-ID, so twice is seen as once."""
    texts = _TEXTS.get(letter.kind)
    if texts is None:
        reject("letter", letter.id, f"there are no words for a letter of the kind {letter.kind[:40]!a}")
    made = EmailMessage(policy=SMTP)
    made["From"] = sender
    made["To"] = letter.recipient
    made["Subject"] = _SUBJECT[letter.kind]
    made["Date"] = format_datetime(datetime.fromtimestamp(letter.created_s, _ALMATY))
    made["Message-ID"] = f"<{letter.id}@{_domain(sender)}>"
    # No answering machine need answer (RFC 3834).
    made["Auto-Submitted"] = "auto-generated"
    told = _told(json.loads(letter.body)["data"], public_url)
    parts = [text.format(**told, field=field) for text, field in zip(texts, _FIELDS[told["of"]], strict=True)]
    # Base64: a line of Cyrillic in quoted-printable is three times as long as it looks.
    made.set_content("\n\n".join(parts) + "\n", charset="utf-8", cte="base64")
    return made


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].rstrip("> ")


def _told(data: dict[str, Any], public_url: str) -> dict[str, str]:
    at = datetime.fromtimestamp(data["effective_s"], _ALMATY)
    path = data["cancel"].partition(" ")[2]
    return {
        "of": data["field"],
        "key": data["asked_by_key"],
        "old": _shown(data["field"], data["old"]),
        "new": _shown(data["field"], data["new"]),
        "time": f"{at:%Y-%m-%d %H:%M} (UTC+5)",
        "cancel": f"DELETE {public_url}{path}",
        "url": f"{public_url}/merchant",
    }


def _shown(field: str, value: str) -> str:
    if not value:
        return "-"
    if field == "iban":
        return f"{value[:4]}…{value[-4:]}"
    if field == "contact":
        name, _, domain = value.partition("@")
        return f"{name[:1]}…@{domain}"
    return checksummed_text(value) if field == "wallet" else value
