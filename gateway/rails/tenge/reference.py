"""Our reference on a bank transfer: what ties a payer's free text to one invoice or fee.

`QZ`, ten characters of Crockford's base 32 (50 random bits), two check characters. Read as one number in base
32, the twelve characters are 1 modulo 1021 (the scheme of ISO 7064, with the largest prime below 32 * 32):
every single wrong character, every swap of neighbours and every swap over one character is noticed, and other
damage in 1020 of 1021 cases.

People copy references by hand, in Cyrillic layouts, on phones; so reading is tolerant and writing is not.

T30 a reference is QZ and 12 characters in its one spelling
T31 its check characters are right
"""

from __future__ import annotations

import re
import unicodedata

from ledger.records import reject

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
_PREFIX = "QZ"
_BODY = 10
_MODULUS = 1021
RANDOM_BYTES = 7

# What an eye takes for one of ours: Latin letters that Crockford leaves out, then Cyrillic and Greek, in
# capitals.
_LOOK_ALIKES = str.maketrans(
    "OIL" + "АВЕЗКМНОРСТУХІЅЈԚԜҮҺӀ" + "ΑΒΕΖΗΚΜΝΟΡΤΥΧΙ",
    "011" + "ABE3KMH0PCTYX1SJQWYH1" + "ABEZHKMN0PTYX1",
)
# In the prefix the Kazakh for Q and the Cyrillic for Z mean what they sound like.
_PREFIX_SPELLINGS = {"Q": "QԚҚ", "Z": "ZЗΖ"}


def _check_characters(body: str) -> str:
    number = 0
    for character in body:
        number = number * 32 + _VALUE[character]
    check = (1 - number * 1024) % _MODULUS
    return _ALPHABET[check // 32] + _ALPHABET[check % 32]


def new_reference(random_bytes: bytes) -> str:
    """Make a reference from seven random bytes, of which 50 bits are used."""
    assert len(random_bytes) == RANDOM_BYTES, f"{RANDOM_BYTES} random bytes, not {len(random_bytes)}"
    return reference_of(int.from_bytes(random_bytes, "big") >> 6)


def reference_of(number: int) -> str:
    """Write a number below 2^50 as a reference; references sort as their numbers do."""
    assert 0 <= number < 1 << 50, f"a reference has 50 bits, this is {number}"
    body = "".join(_ALPHABET[number >> shift & 31] for shift in range(45, -1, -5))
    return _PREFIX + body + _check_characters(body)


def check_reference(reference: str, where: str = "reference") -> None:
    """Refuse a reference that is not in its one spelling (T30, T31)."""
    if not re.fullmatch(f"{_PREFIX}[{_ALPHABET}]{{12}}", reference):
        reject("T30", where, f"QZ and 12 of {_ALPHABET} are needed")
    expected = _check_characters(reference[2:-2])
    if reference[-2:] != expected:
        reject("T31", where, f"the check characters are {reference[-2:]}, computed {expected}")


def is_reference(reference: str) -> bool:
    """Tell whether a text is a reference in its one spelling."""
    return bool(re.fullmatch(f"{_PREFIX}[{_ALPHABET}]{{12}}", reference)) and (
        reference[-2:] == _check_characters(reference[2:-2])
    )


def _is_separator(character: str) -> bool:
    # Zs space, Pd dash, Cf soft hyphen and zero width, Cc line end.
    return unicodedata.category(character) in {"Zs", "Pd", "Cf", "Cc"} or character in "._/'*−"


def find_reference(text: str) -> str | None:
    """Find our reference in what a payer wrote; None where there is none, or two different ones.

    Two references mean that the text does not say which invoice the money is for: a person decides.
    """
    characters = [c for c in unicodedata.normalize("NFKC", text).upper() if not _is_separator(c)]
    found = set()
    at = 0
    while at + 2 + _BODY + 2 <= len(characters):
        end = at + 2 + _BODY + 2
        candidate = _PREFIX + "".join(characters[at + 2 : end]).translate(_LOOK_ALIKES)
        has_prefix = characters[at] in _PREFIX_SPELLINGS["Q"] and characters[at + 1] in _PREFIX_SPELLINGS["Z"]
        if has_prefix and is_reference(candidate):
            found.add(candidate)
            at = end
        else:
            at += 1
    return found.pop() if len(found) == 1 else None
