"""The worst inputs of the greatest size that is read: much structure in few bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from support.fuzz.mutations import Input, Raw, RawPsbt, size

from mpchan.units import MAX_MESSAGE_BYTES

LIMIT = MAX_MESSAGE_BYTES


def _head(count: int) -> bytes:
    return b"\2\0\0\0" + size(count)


_ONE_OUTPUT = b"\1" + bytes(8) + b"\0" + bytes(4)


def many_inputs() -> bytes:
    """41 bytes each."""
    count = (LIMIT - 30) // 41
    return _head(count) + bytes(41) * count + _ONE_OUTPUT


def many_outputs() -> bytes:
    """9 bytes each."""
    count = (LIMIT - 60) // 9
    return _head(1) + bytes(41) + size(count) + bytes(9) * count + bytes(4)


def many_items() -> bytes:
    """A byte each: empty items of one witness."""
    count = LIMIT - 80
    one = Raw(2, (Input(bytes(36), b"", 0, (b"",)),), ((0, b""),), 0).to_bytes()
    return one[:-6] + size(count) + bytes(count) + bytes(4)


def announced() -> bytes:
    """Nothing of what is announced is there."""
    return _head(1)[:4] + b"\xfe\xff\xff\xff\x01"


def _psbt(raw: Raw, *more: list[tuple[bytes, bytes]]) -> bytes:
    return RawPsbt([[(b"\0", raw.to_bytes())], *more]).to_bytes()


def many_pairs() -> bytes:
    """5 bytes each."""
    one = Raw(2, (Input(bytes(36), b"", 0),), ((0, b""),), 0)
    count = (LIMIT - 100) // 6
    pairs = [(b"\xf0" + index.to_bytes(3, "little"), b"") for index in range(count)]
    return _psbt(one, pairs, [])


def many_maps() -> bytes:
    """A transaction of very many outputs, each with a map."""
    count = (LIMIT - 100) // 10
    raw = Raw(2, (Input(bytes(36), b"", 0),), ((0, b""),) * count, 0)
    return _psbt(raw, [], *([[]] * count))


def many_steps() -> bytes:
    """A derivation of very many steps, 4 bytes each."""
    one = Raw(2, (Input(bytes(36), b"", 0),), ((0, b""),), 0)
    key = b"\6\2" + bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    return _psbt(one, [(key, bytes(LIMIT - 300))], [])


def whole(text: str) -> bytes:
    """Repeated to the greatest size."""
    return (text * (LIMIT // len(text))).encode()


def deep(opening: str, closing: str) -> bytes:
    """As many brackets as fit."""
    count = LIMIT // 2 - 10
    return b"a = " + (opening * count + closing * count).encode()


def long_key() -> bytes:
    """One key of very many parts."""
    return (".".join("a" * (LIMIT // 2 - 10)) + " = 1\n").encode()


def many_keys() -> bytes:
    """As many keys as fit."""
    lines = "".join(f"a{index} = 1\n" for index in range(LIMIT // 10))
    return lines.encode()[:LIMIT]


def many_tables() -> bytes:
    """As many tables."""
    return "".join(f"[a{index}]\n" for index in range(LIMIT // 10)).encode()[:LIMIT]


def number(digits: str) -> bytes:
    """A number of very many digits."""
    return b"version = " + (digits * (LIMIT - 20)).encode()


WORST: dict[str, dict[str, Callable[[], bytes]]] = {
    "message": {
        "inputs": many_inputs,
        "outputs": many_outputs,
        "witness items": many_items,
        "announced": announced,
        "inputs in hex": lambda: many_inputs()[: LIMIT // 2].hex().encode(),
        "pairs": many_pairs,
        "maps": many_maps,
        "steps": many_steps,
        "spaces": lambda: b" " * LIMIT,
        "line breaks": lambda: b"cHNidP" + b"\n" * (LIMIT - 6),
        "digits": lambda: b"0" * LIMIT,
        "base64": lambda: b"cHNidP" + b"A" * (LIMIT - 6),
    },
    "offer": {
        "brackets": lambda: deep("[", "]"),
        "tables": lambda: deep("{a=", "}"),
        "a long key": long_key,
        "keys": many_keys,
        "table heads": many_tables,
        "digits": lambda: number("9"),
        "a hex number": lambda: b"version = 0x" + b"f" * (LIMIT - 20),
        "a fraction": lambda: b"version = 0." + b"9" * (LIMIT - 20),
        "a list": lambda: b"version = [" + whole("1,")[:-20] + b"]",
        "a text": lambda: b'memo = "' + b"x" * (LIMIT - 20) + b'"',
        "escapes": lambda: b'memo = "' + whole("\\u00e9")[:-20] + b'"',
        "blank lines": lambda: whole("\n"),
        "table lists": lambda: whole("[[a]]\n"),
        "nested table lists": lambda: whole("[[a.a]]\n"),
    },
    "any-message": {
        "lines": lambda: whole("a = 1\n"),
        "nearly lines": lambda: whole("a \n"),
        "spaces": lambda: whole("a" + " " * 1000),
        "letters": lambda: b"a" * LIMIT,
        "inputs": many_inputs,
    },
    "answer": {
        "brackets": lambda: b"[" * (LIMIT // 2) + b"]" * (LIMIT // 2),
        "objects": lambda: whole('{"a":'),
        "a list": lambda: json.dumps([{}] * (LIMIT // 5)).encode(),
        "digits": lambda: b"9" * LIMIT,
        "a fraction": lambda: b"0." + b"9" * LIMIT,
        "an exponent": lambda: b"1e" + b"9" * (LIMIT - 2),
    },
    "address": {"digits": lambda: b"1" * LIMIT, "segwit": lambda: b"bc1" + b"q" * LIMIT},
    "base58": {"digits": lambda: b"z" * LIMIT},
    "seed-words": {"words": lambda: whole("abandon ")},
    "amount": {"digits": lambda: b"9" * LIMIT, "zeros": lambda: b"0." + b"0" * LIMIT + b"btc"},
    "key-path": {"steps": lambda: whole("0/")},
    "der": {"bytes": lambda: b"\x30" * LIMIT},
    "challenge": {
        "parameters": lambda: (b"Payment " + b"a=b, " * LIMIT)[:16_384],
        "schemes": lambda: (b"Payment a=b, " * LIMIT)[:16_384],
        "blanks": lambda: b"Payment" + b" " * 16_000,
        "escapes": lambda: b'Payment a="' + b"\\\\" * 8_000 + b'"',
        "an open quote": lambda: (b'Payment a="' + b"x" * LIMIT)[:16_384],
        "commas": lambda: b"," * 16_384,
    },
    "credential": {
        "brackets": lambda: b"Payment " + base64.b64encode(b"[" * 5_700).rstrip(b"="),
        "objects": lambda: b"Payment " + base64.b64encode(b'{"a":' * 1_100).rstrip(b"="),
        "blanks": lambda: b"Payment" + b" " * 7_000,
    },
    "problem": {
        "brackets": lambda: b"[" * 30_000 + b"]" * 30_000,
        "objects": lambda: b'{"a":' * 12_000,
        "digits": lambda: b"9" * 65_000,
        "a slug": lambda: b'{"slug":"' + b"a-" * 30_000 + b'"}',
    },
    "block": {"announced": lambda: bytes(80) + b"\xfe\xff\xff\xff\x01", "transactions": lambda: bytes(LIMIT)},
    "headers": {"zeros": lambda: bytes(LIMIT)},
    "accept": {"pairs": many_pairs, "inputs": many_inputs},
    "open": {"a long key": long_key, "brackets": lambda: deep("[", "]")},
    "verify": {"outputs": many_outputs},
}
"""By target and by what there is much of."""
