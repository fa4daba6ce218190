"""Inputs made of others: by bytes, by the structure of a transaction or a PSBT, of JSON, of TOML, of text.

Everything here takes its chances from one ``Random``, so a number repeats a run. The formats are taken apart by code
of their own, not by the program's: a mutation may leave what no reader would take.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

EDGES = (0, 1, 2, 3, 252, 253, 254, 255, 256, 499_999_999, 500_000_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFD)
EDGES_64 = (
    *EDGES,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    1 << 32,
    21 * 10**14,
    21 * 10**14 + 1,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_COUNTS = (b"\xfd\x00\x00", b"\xfd\xff\xff", b"\xfe\xff\xff\xff\x01", b"\xfe\xff\xff\xff\xff", b"\xff" * 9)
"""Compact sizes: overlong, and of more than there is."""


# bytes --------------------------------------------------------------------------------------------


def bent_bytes(random: Random, data: bytes) -> bytes:
    """A few bytes changed, inserted, doubled, moved or cut off."""
    made = bytearray(data)
    at = random.randrange(len(made) + 1)
    length = random.choice((1, 1, 1, 2, 4, 8, 32, 33))
    kind = random.randrange(8)
    if kind == 0 and made:
        made[at % len(made)] ^= 1 << random.randrange(8)
    elif kind == 1 and made:
        made[at % len(made)] = random.choice(
            (0, 1, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF, random.randrange(256))
        )
    elif kind == 2:
        made[at:at] = random.randbytes(length)
    elif kind == 3:
        made[at:at] = made[at : at + length]
    elif kind == 4:
        del made[at : at + length]
    elif kind == 5:
        made[at : at + length] = random.choice(_COUNTS)
    elif kind == 6:
        del made[at:]
    else:
        other = random.randrange(len(made) + 1)
        made[at : at + length] = made[other : other + length]
    return bytes(made)


def bent_text(random: Random, data: bytes) -> bytes:
    """The same for what a person types: other digits, signs and letters, also such as only look right."""
    if random.randrange(3) == 0:
        return bent_bytes(random, data)
    text = data.decode(errors="replace")
    at = random.randrange(len(text) + 1)
    piece = random.choice(
        (*"0129.,-+eE:_ '/#*xX", "\t", "\n", "\0", "٣", "１", "é", "\u0130", "\ufeff", "𝟙", "9" * 30)
    )
    cut = random.choice((0, 0, 1, 1, 2, len(text)))
    turned = random.choice((str.upper, str.lower, str.swapcase, str.title, str.strip))
    changed = turned(text) if random.randrange(8) == 0 else text[:at] + piece + text[at + cut :]
    return changed.encode()


# transactions -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """One input of ``Raw``."""

    outpoint: bytes
    script: bytes
    sequence: int
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Raw:
    """A transaction taken apart; its numbers may be more than fit."""

    version: int
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[int, bytes], ...]
    lock_time: int

    def to_bytes(
        self, *, witness: bool = True, write: Callable[[int], bytes] | None = None, mark: bool = False
    ) -> bytes:
        """The wire format.

        Args:
            write: writes the compact sizes; None for the right way.
            mark: whether a witness record stands there even where no input has a witness.
        """
        put = size if write is None else write
        marked = witness and (mark or any(source.witness for source in self.inputs))
        parts = [struct.pack("<I", self.version & 0xFFFF_FFFF), b"\x00\x01" if marked else b""]
        parts.append(put(len(self.inputs)))
        for source in self.inputs:
            parts += [source.outpoint, put(len(source.script)), source.script]
            parts.append(struct.pack("<I", source.sequence & 0xFFFF_FFFF))
        parts.append(put(len(self.outputs)))
        for value, script in self.outputs:
            parts += [struct.pack("<Q", value & 0xFFFF_FFFF_FFFF_FFFF), put(len(script)), script]
        for source in self.inputs if marked else ():
            parts.append(put(len(source.witness)))
            parts += [put(len(item)) + item for item in source.witness]
        return b"".join([*parts, struct.pack("<I", self.lock_time & 0xFFFF_FFFF)])


def sometimes_wide(random: Random) -> Callable[[int], bytes]:
    """Writes some compact sizes in more bytes than they need."""

    def write(number: int) -> bytes:
        if random.randrange(4):
            return size(number)
        width = random.choice((2, 4, 8))
        return bytes([{2: 0xFD, 4: 0xFE, 8: 0xFF}[width]]) + (number % (1 << 8 * width)).to_bytes(
            width, "little"
        )

    return write


def size(number: int) -> bytes:
    """A compact size."""
    if number < 0xFD:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", number)
    return b"\xfe" + struct.pack("<I", number)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        part = self.data[self.at : self.at + length]
        if len(part) < length:
            raise ValueError("too short")
        self.at += length
        return part

    def size(self) -> int:
        first = self.take(1)[0]
        return first if first < 0xFD else int.from_bytes(self.take(2 << (first - 0xFD)), "little")

    def blob(self) -> bytes:
        return self.take(self.size())

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")


def parse_raw(data: bytes) -> Raw:
    """Take a transaction apart.

    Raises:
        ValueError: it is none.
    """
    cursor = _Cursor(data)
    version = cursor.number(4)
    marked = data[4:6] == b"\x00\x01"
    if marked:
        cursor.take(2)
    inputs = [Input(cursor.take(36), cursor.blob(), cursor.number(4)) for _ in range(cursor.size())]
    outputs = [(cursor.number(8), cursor.blob()) for _ in range(cursor.size())]
    if marked:
        inputs = [
            replace(source, witness=tuple([cursor.blob() for _ in range(cursor.size())])) for source in inputs
        ]
    return Raw(version, tuple(inputs), tuple(outputs), cursor.number(4))


def _number(random: Random, value: int) -> int:
    """A number beside this one, or at an edge."""
    if random.randrange(2):
        return value + random.choice((-1000, -144, -2, -1, 1, 2, 144, 1000))
    return random.choice(EDGES_64)


def _items(random: Random, items: tuple[Any, ...]) -> tuple[Any, ...]:
    """One of them dropped, doubled, or moved."""
    made = list(items)
    if not made:
        return items
    at = random.randrange(len(made))
    kind = random.randrange(3)
    if kind == 0:
        del made[at]
    elif kind == 1:
        made += [made[at]] * random.choice((1, 1, 1, 2, 300))
    else:
        made.insert(random.randrange(len(made)), made.pop(at))
    return tuple(made)


def bent_raw(random: Random, raw: Raw) -> Raw:
    """One field of a transaction changed."""
    kind = random.randrange(9)
    if kind == 0:
        return replace(raw, version=_number(random, raw.version))
    if kind == 1:
        return replace(raw, lock_time=_number(random, raw.lock_time))
    if kind == 2:
        return replace(raw, inputs=_items(random, raw.inputs))
    if kind == 3:
        return replace(raw, outputs=_items(random, raw.outputs))
    if kind in (4, 5, 6) and raw.outputs:
        outputs = list(raw.outputs)
        at = random.randrange(len(outputs))
        value, script = outputs[at]
        bent = (_number(random, value), script) if kind < 6 else (value, bent_bytes(random, script))
        if kind == 5 and len(outputs) > 1:  # moved from one to the other: the fee stays as it was
            step = random.choice((1, 100, 1000, 5000))
            outputs = [
                (old + (step if index == at else -step), script)
                for index, (old, script) in enumerate(outputs)
            ]
        else:
            outputs[at] = bent
        return replace(raw, outputs=tuple(outputs))
    if not raw.inputs:
        return replace(raw, inputs=(Input(random.randbytes(36), b"", 0xFFFF_FFFD),))
    at = random.randrange(len(raw.inputs))
    source = raw.inputs[at]
    bent_source = random.choice(
        (
            replace(source, sequence=_number(random, source.sequence)),
            replace(source, outpoint=bent_bytes(random, source.outpoint)[:36].ljust(36, b"\0")),
            replace(source, script=bent_bytes(random, source.script)),
            replace(source, witness=_items(random, source.witness)),
            replace(source, witness=tuple([bent_bytes(random, item) for item in source.witness])),
        )
    )
    return replace(raw, inputs=(*raw.inputs[:at], bent_source, *raw.inputs[at + 1 :]))


def bent_transaction(random: Random, data: bytes) -> bytes:
    """A transaction changed by its fields, or by its bytes."""
    try:
        raw = parse_raw(data)
    except ValueError:
        return bent_bytes(random, data)
    kind = random.randrange(8)
    if kind < 2:
        return bent_bytes(random, data)
    if kind == 2:
        return raw.to_bytes(write=sometimes_wide(random))
    return raw.to_bytes(mark=True) if kind == 3 else bent_raw(random, raw).to_bytes()


# PSBTs --------------------------------------------------------------------------------------------

Pairs = list[tuple[bytes, bytes]]
_MAGIC = b"psbt\xff"


@dataclass
class RawPsbt:
    """A PSBT taken apart into maps of raw pairs, the global one first."""

    maps: list[Pairs] = field(default_factory=list)

    def to_bytes(self, write: Callable[[int], bytes] | None = None) -> bytes:
        """The binary format, whether it makes sense or not; ``write`` as in ``Raw.to_bytes``."""
        put = size if write is None else write
        parts = [_MAGIC]
        for pairs in self.maps:
            parts += [put(len(key)) + key + put(len(value)) + value for key, value in pairs]
            parts.append(b"\x00")
        return b"".join(parts)

    @property
    def transaction(self) -> Raw:
        """The unsigned one.

        Raises:
            ValueError: there is none.
        """
        for key, value in self.maps[0]:
            if key == b"\x00":
                return parse_raw(value)
        raise ValueError("no transaction")

    def with_transaction(self, raw: Raw) -> RawPsbt:
        """A copy with another one, and as many maps as that needs."""
        own = raw.to_bytes(witness=False)
        head = [(key, own if key == b"\x00" else value) for key, value in self.maps[0]]
        before = len(self.transaction.inputs)
        inputs, outputs = self.maps[1 : before + 1], self.maps[before + 1 :]
        return RawPsbt([head, *_as_many(inputs, len(raw.inputs)), *_as_many(outputs, len(raw.outputs))])


def _as_many(maps: list[Pairs], count: int) -> list[Pairs]:
    return [*maps[:count], *([] for _ in range(count - len(maps)))]


def parse_psbt(data: bytes) -> RawPsbt:
    """Take a PSBT apart.

    Raises:
        ValueError: it is none.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("no magic")
    cursor, maps = _Cursor(data), []
    cursor.take(len(_MAGIC))
    while cursor.at < len(data):
        pairs: Pairs = []
        while key := cursor.blob():
            pairs.append((key, cursor.blob()))
        maps.append(pairs)
    if not maps:
        raise ValueError("no maps")
    return RawPsbt(maps)


def bent_psbt(random: Random, data: bytes) -> bytes:
    """A PSBT with a pair dropped, doubled, moved, resized or made up, or another transaction in it."""
    try:
        psbt = parse_psbt(data)
        raw = psbt.transaction
    except ValueError:
        return bent_bytes(random, data)
    kind = random.randrange(11)
    if kind == 0:
        return bent_bytes(random, data)
    if kind == 10:
        return psbt.to_bytes(sometimes_wide(random))
    if kind < 4:
        return psbt.with_transaction(bent_raw(random, raw)).to_bytes()
    maps = [list(pairs) for pairs in psbt.maps]
    pairs = random.choice(maps)
    if kind == 4:
        other = random.choice(maps)
        pairs.append(random.choice(other) if other else (b"\x02", b""))
    elif kind == 5:
        made = (
            bytes([random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x13, 0x16, 0xFB, 0xFC))]),
            random.randbytes(4),
        )
        pairs.insert(0, (made[0] + random.choice((b"", b"", random.randbytes(33))), made[1]))
    elif kind == 6:
        random.choice((lambda: maps.append([]), maps.pop, lambda: random.shuffle(maps)))()
    elif pairs:
        at = random.randrange(len(pairs))
        key, value = pairs[at]
        bent: list[Pairs] = [
            [],
            [(key, value), (key, value)],
            [(key, bent_bytes(random, value))],
            [(bent_bytes(random, key) or b"\x01", value)],
            [(key, b"")],
            [(key, value + bytes(random.choice((1, 75, 253, 70_000))))],
        ]
        pairs[at : at + 1] = random.choice(bent)
    return RawPsbt(maps).to_bytes()


# JSON and TOML ------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e308, float("inf")),
    *(
        float("nan"),
        "",
        "0",
        "00",
        "a" * 63,
        "0" * 64,
        "é",
        "\ud800",
        "x" * 5000,
        [],
        {},
        [[]],
        {"a": {}},
        [None, 0],
    ),
)
_NOT_IN_TOML = (None, "\ud800")


def bent_value(random: Random, value: Any, odd: tuple[Any, ...] = ODD) -> Any:
    """A value with one place in it changed, dropped, doubled or put inside others."""
    kind = random.randrange(6)
    if isinstance(value, dict) and value and kind:
        made = dict(value)
        key = random.choice(list(made))
        if kind == 1:
            del made[key]
        elif kind == 2:
            made[random.choice(("", "version", "x" * 300, key + "x"))] = made[key]
        elif kind == 3:
            made[key] = made[random.choice(list(made))]
        else:
            made[key] = bent_value(random, made[key], odd)
        return made
    if isinstance(value, list) and value and kind:
        return bent_value_list(random, value, odd)
    if isinstance(value, str) and value and kind > 2:
        return bent_text(random, value.encode("utf-8", "replace")).decode("utf-8", "replace")
    if type(value) is int and kind > 2:
        return _number(random, value)
    if kind == 1:
        return [value]
    return random.choice(odd)


def bent_value_list(random: Random, value: list[Any], odd: tuple[Any, ...]) -> list[Any]:
    """The same of a list."""
    if random.randrange(2):
        return list(_items(random, tuple(value)))
    made = list(value)
    at = random.randrange(len(made))
    made[at] = bent_value(random, made[at], odd)
    return made


def nested(random: Random, text: bytes) -> bytes:
    """A number of the text replaced by very many brackets, which a reader that calls itself cannot follow."""
    depth = random.choice((50, 900, 990, 1010, 5000, 50_000))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a=", b"}")))
    at = random.randrange(len(text) + 1)
    return text[:at] + opening * depth + b"0" + closing * depth + text[at:]


def bent_json(random: Random, data: bytes) -> bytes:
    """JSON changed by its structure, or by its bytes."""
    kind = random.randrange(8)
    if kind == 0:
        return nested(random, data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return bent_bytes(random, data)
    return bent_bytes(random, data) if kind == 1 else json.dumps(bent_value(random, value)).encode()


def bent_toml(random: Random, data: bytes) -> bytes:
    """TOML changed by its structure, or by its bytes."""
    import tomli
    import tomli_w

    kind = random.randrange(8)
    if kind == 0:
        return nested(random, data)
    odd = tuple([value for value in ODD if value not in _NOT_IN_TOML and value != [None, 0]])
    try:
        made = bent_value(random, tomli.loads(data.decode()), odd)
        return (
            bent_text(random, data)
            if kind == 1 or not isinstance(made, dict)
            else tomli_w.dumps(made).encode()
        )
    except (ValueError, RecursionError, TypeError):
        return bent_text(random, data)
