"""The seal of a manifest is the hash of its text with zeros in the place of the hash."""

from __future__ import annotations

import hashlib
import json

from drun.bundle.hashes import is_sealed, seal


def test_a_seal_can_be_checked_by_hand() -> None:
    text = seal({"schema_version": 2, "name": "ä", "zeros": "0" * 64})
    stated = json.loads(text)["sha256"]
    assert hashlib.sha256(text.replace(stated, "0" * 64).encode()).hexdigest() == stated
    assert is_sealed(text.encode(), stated)


def test_every_changed_bit_breaks_it() -> None:
    content = seal({"schema_version": 2, "number": 1e-05, "text": "  "}).encode()
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            try:
                stated = json.loads(bytes(changed))["sha256"]
            except (ValueError, KeyError):
                continue
            assert not is_sealed(bytes(changed), stated)
