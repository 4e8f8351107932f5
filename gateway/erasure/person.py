"""How somebody is looked for: an IBAN, an IIN or BIN, a telephone or an e-mail as a person typed it in.

What was typed is compared and forgotten: it is in no message, no log and no list.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ledger.records import reject

# People and banks write numbers in groups.
_BETWEEN: Final = r"[\s\-().]*"
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
_PHONE_DIGITS, _IIN_DIGITS = 10, 12


def pattern_of(typed: str) -> re.Pattern[str]:
    """What finds it in a text, however it is grouped there; Invalid where it is none of the four (L7)."""
    text = typed.strip()
    if _EMAIL.fullmatch(text):
        return re.compile(rf"(?<![\w.+-]){re.escape(text)}(?![\w-])", re.IGNORECASE)
    bare = re.sub(_BETWEEN, "", text).upper()
    if _IBAN.fullmatch(bare):
        return _grouped(bare, "0-9A-Za-z")
    digits = bare.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        if len(digits) == _IIN_DIGITS and not bare.startswith("+"):
            return _grouped(digits, "0-9")
        if len(digits) == _PHONE_DIGITS + 1 and digits[0] in "78":
            digits = digits[1:]
        if len(digits) == _PHONE_DIGITS:
            country = rf"(?:\+?7{_BETWEEN}|8{_BETWEEN})?"
            return re.compile(rf"(?<![0-9]){country}{_BETWEEN.join(digits)}(?![0-9])")
    return reject(
        "L7", "person", f"{len(text)} characters are no IBAN, no IIN or BIN, no telephone and no e-mail"
    )


def _grouped(bare: str, alphabet: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![{alphabet}]){_BETWEEN.join(bare)}(?![{alphabet}])", re.IGNORECASE)


def text_of(content: bytes) -> str:
    """What can be read in kept bytes: the values where they are JSON, else the text."""
    text = content.decode(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        return text
    return "\n".join(_values(told))


def _values(told: Any) -> list[str]:
    if isinstance(told, dict):
        return [one for value in told.values() for one in _values(value)]
    if isinstance(told, list):
        return [one for value in told for one in _values(value)]
    return [told] if isinstance(told, str) else []
