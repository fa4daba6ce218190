"""PSBTs of version 2 (BIP-0370), read as what they are in version 0.

Version 2 has no unsigned transaction: each input and output holds its own part of it. All the other fields are those of
version 0. A transaction that is complete but for its signatures is the same in both.
"""

from __future__ import annotations

from collections.abc import Callable

from mpchan.bitcoin import psbt_fields
from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.psbt_map import GlobalMap, InputMap, OutputMap, Pair, PsbtMap
from mpchan.bitcoin.serialize import MAX_UINT32, Reader
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import LOCK_TIME_THRESHOLD, Amount, OutPoint, Txid

_TX_VERSION, _FALLBACK_LOCK_TIME, _INPUT_COUNT, _OUTPUT_COUNT, _MODIFIABLE = range(0x02, 0x07)
_PREVIOUS_TXID, _OUTPUT_INDEX, _SEQUENCE, _REQUIRED_TIME, _REQUIRED_HEIGHT = range(0x0E, 0x13)
_AMOUNT, _SCRIPT = range(0x03, 0x05)


def read_version_2(data: bytes) -> Psbt:
    """The PSBT of version 0 that says the same; who may still change it (``PSBT_GLOBAL_TX_MODIFIABLE``) is left out.

    Raises:
        ParseError: ``malformed-psbt`` (a field that is missing, unfit or of version 0; lock times that exclude each
            other), ``psbt-version``, ``truncated``, ``trailing-bytes``, ``malformed-compact-size``.
    """
    reader = Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise _malformed("not a PSBT")
    whole = _Fields(PsbtMap.read(reader), "the PSBT")
    psbt_version = whole.number(psbt_fields.GLOBAL_VERSION)
    if psbt_version != 2:
        raise ParseError("psbt-version", f"PSBT of version {psbt_version or 0}, not 2")
    if whole.take(psbt_fields.GLOBAL_UNSIGNED_TX) is not None:
        raise _malformed("an unsigned transaction stands in a PSBT of version 2")
    version = whole.need(_TX_VERSION, whole.number)
    fallback = whole.number(_FALLBACK_LOCK_TIME) or 0
    counts = [whole.need(kind, whole.count) for kind in (_INPUT_COUNT, _OUTPUT_COUNT)]
    whole.number(_MODIFIABLE, size=1)
    if sum(counts) > reader.remaining:
        raise ParseError("truncated", f"{sum(counts)} maps are to come, and {reader.remaining} bytes")
    inputs = [_Fields(PsbtMap.read(reader), f"input {index}") for index in range(counts[0])]
    outputs = [_Fields(PsbtMap.read(reader), f"output {index}") for index in range(counts[1])]
    reader.end()
    lock_time = _lock_time(inputs, fallback)
    sources = tuple([_source(fields) for fields in inputs])
    tx = Transaction(version, sources, tuple([_output(fields) for fields in outputs]), lock_time)
    unsigned = (bytes([psbt_fields.GLOBAL_UNSIGNED_TX]), tx.to_bytes())
    return Psbt(
        tx,
        GlobalMap((unsigned, *whole.rest())),
        tuple([InputMap(fields.rest()) for fields in inputs]),
        tuple([OutputMap(fields.rest()) for fields in outputs]),
    )


class _Fields:
    """One map, of which the fields of version 2 are taken."""

    def __init__(self, fields: PsbtMap, what: str) -> None:
        self._pairs = dict(fields.pairs)
        self._what = what

    def take(self, kind: int) -> bytes | None:
        return self._pairs.pop(bytes([kind]), None)

    def number(self, kind: int, size: int = 4) -> int | None:
        """Little endian, of so many bytes."""
        value = self.take(kind)
        if value is not None and len(value) != size:
            raise _malformed(f"field {kind:#04x} of {self._what} has {len(value)} bytes, not {size}")
        return None if value is None else int.from_bytes(value, "little")

    def count(self, kind: int) -> int | None:
        value = self.take(kind)
        if value is None:
            return None
        reader = Reader(value)
        number = reader.compact_size()
        reader.end()
        return number

    def need(self, kind: int, read: Callable[[int], int | None]) -> int:
        found = read(kind)
        if found is None:
            raise self.missing(kind)
        return found

    def missing(self, kind: int) -> ParseError:
        return _malformed(f"field {kind:#04x} of {self._what} is missing")

    def rest(self) -> tuple[Pair, ...]:
        """What version 0 has too; the checks of version 0 say what is wrong with it."""
        return tuple(self._pairs.items())

    def lock_times(self) -> tuple[int | None, int | None]:
        """The height and the time that this input requires."""
        height, time = self.number(_REQUIRED_HEIGHT), self.number(_REQUIRED_TIME)
        if height is not None and not 0 < height < LOCK_TIME_THRESHOLD:
            raise _malformed(f"the height that {self._what} requires is {height}")
        if time is not None and time < LOCK_TIME_THRESHOLD:
            raise _malformed(f"the time that {self._what} requires is {time}")
        return height, time


def _source(fields: _Fields) -> TxIn:
    txid = fields.take(_PREVIOUS_TXID)
    if txid is None:
        raise fields.missing(_PREVIOUS_TXID)
    vout = fields.need(_OUTPUT_INDEX, fields.number)
    sequence = fields.number(_SEQUENCE)
    return TxIn(OutPoint(Txid(txid), vout), MAX_UINT32 if sequence is None else sequence)


def _output(fields: _Fields) -> TxOut:
    amount = fields.need(_AMOUNT, lambda kind: fields.number(kind, size=8))
    script = fields.take(_SCRIPT)
    if script is None:
        raise fields.missing(_SCRIPT)
    return TxOut(Amount(amount), script)


def _lock_time(inputs: list[_Fields], fallback: int) -> int:
    """nLockTime (BIP-0370, "Determining Lock Time"): the height, where all that require anything require one."""
    required = [both for both in (fields.lock_times() for fields in inputs) if both != (None, None)]
    if not required:
        return fallback
    for kind in (0, 1):
        found = [both[kind] for both in required]
        known = [value for value in found if value is not None]
        if len(known) == len(found):
            return max(known)
    raise _malformed("one input requires a height as its lock time, another one a time")


def _malformed(message: str) -> ParseError:
    return ParseError("malformed-psbt", message)
