"""Transactions and their wire format with witnesses (BIP-0144)."""

from __future__ import annotations

from collections.abc import Iterable

from mpchan.bitcoin.script import double_sha256
from mpchan.bitcoin.serialize import MAX_UINT32, Reader, compact_size, var_bytes
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint, Txid, checked_int, is_hex
from mpchan.values import field, frozen, replace

WITNESS_SCALE_FACTOR = 4
"""Weight units of a byte outside the witness; a witness byte has one (BIP-0141)."""

_MARKER_AND_FLAG = b"\x00\x01"

# smallest serialised sizes, so that a count can be held against the bytes that are left
_MIN_INPUT = 32 + 4 + 1 + 4  # txid, index, length of an empty scriptSig, sequence
_MIN_OUTPUT = 8 + 1  # value, length of an empty scriptPubKey


MAX_REPLACEABLE = 0xFFFF_FFFD
"""The largest nSequence that lets a transaction be replaced (BIP-0125); lock times count with it, BIP-0068 does not."""

TRUC_VERSION = 3
"""Transactions of this version form pairs of one parent and one child in the mempool, and no more (BIP-0431).

Nodes relay them since Bitcoin Core 28.
"""


NULL_OUTPOINT = OutPoint(Txid(bytes(32)), MAX_UINT32)
"""What the one input of a coinbase names."""


@frozen
class TxIn:
    """One input.

    Attributes:
        outpoint: the output that it spends.
        sequence: nSequence, 32 bits unsigned.
        script_sig: empty for native segwit.
        witness: the stack, bottom first; empty means none.
    """

    outpoint: OutPoint
    sequence: int
    script_sig: bytes = b""
    witness: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        checked_int(self.sequence, 0, MAX_UINT32, "sequence")

    @classmethod
    def read(cls, reader: Reader) -> TxIn:
        """Take an input, which has no witness yet, from ``reader``."""
        outpoint = OutPoint(Txid(reader.take(32)), reader.uint32())
        script_sig = reader.var_bytes()
        return cls(outpoint, reader.uint32(), script_sig)

    def to_bytes(self) -> bytes:
        """The input without its witness, as transactions hold it."""
        return (
            outpoint_to_bytes(self.outpoint)
            + var_bytes(self.script_sig)
            + self.sequence.to_bytes(4, "little")
        )


@frozen
class TxOut:
    """One output: an amount and the script that guards it."""

    value: Amount
    script_pubkey: bytes

    @classmethod
    def read(cls, reader: Reader) -> TxOut:
        """Take an output from ``reader``."""
        return cls(Amount(reader.uint64()), reader.var_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> TxOut:
        """Read one output and nothing after it.

        Raises:
            ParseError: as ``read``; ``trailing-bytes``.
        """
        reader = Reader(data)
        output = cls.read(reader)
        reader.end()
        return output

    def to_bytes(self) -> bytes:
        """Value (8 bytes, little endian) and script after its length."""
        return self.value.sat.to_bytes(8, "little") + var_bytes(self.script_pubkey)


@frozen
class Transaction:
    """A transaction, complete or not.

    Attributes:
        version: 32 bits, unsigned (Bitcoin Core shows the same four bytes).
        lock_time: nLockTime, 32 bits unsigned; 0 is none.
    """

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    lock_time: int
    # once they were asked for
    _txid: Txid = field(init=False, repr=False, compare=False)
    _base: bytes = field(init=False, repr=False, compare=False)
    _with_witness: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked_int(self.version, 0, MAX_UINT32, "transaction version")
        checked_int(self.lock_time, 0, MAX_UINT32, "lock time")

    @classmethod
    def from_bytes(cls, data: bytes, *, allow_witness: bool = True) -> Transaction:
        """Read one whole transaction (BIP-0144).

        Args:
            allow_witness: False reads the old format only, in which a transaction may have outputs but no
                inputs (PSBT, BIP-0174); True reads both as Bitcoin Core does.

        Raises:
            ParseError: ``truncated``, ``trailing-bytes``, ``malformed-compact-size``, ``malformed-number``
                (an amount), ``malformed-transaction`` (unknown flag, witness record without a witness).
        """
        reader = Reader(data)
        transaction = cls.read(reader, allow_witness=allow_witness)
        reader.end()
        object.__setattr__(transaction, "_with_witness" if transaction.has_witness else "_base", bytes(data))
        return transaction

    @classmethod
    def read(cls, reader: Reader, *, allow_witness: bool = True) -> Transaction:
        """Take a transaction from ``reader``, as a block holds one after the other."""
        version = reader.uint32()
        flag = 0
        inputs = _read_inputs(reader)
        if not inputs and allow_witness:
            # no inputs: the count was the marker. A flag of 0 is then the count of no outputs
            flag = reader.uint8()
            inputs = _read_inputs(reader) if flag else ()
        outputs = () if not inputs and allow_witness and not flag else _read_outputs(reader)
        if flag:
            inputs = _read_witnesses(reader, flag, inputs)
        return cls(version, inputs, outputs, reader.uint32())

    @classmethod
    def from_hex(cls, text: str) -> Transaction:
        """Read a transaction of hex digits, lower or upper case, and nothing else.

        Raises:
            ParseError: ``malformed-hex``, or as ``from_bytes``.
        """
        if not isinstance(text, str) or not is_hex(text):
            raise ParseError("malformed-hex", f"not a transaction in hex: {text!r:.80}")
        return cls.from_bytes(bytes.fromhex(text))

    def to_bytes(self, *, include_witness: bool = True) -> bytes:
        """The wire format; without witnesses (or when there are none) the one before BIP-0144."""
        with_witness = include_witness and self.has_witness
        form = "_with_witness" if with_witness else "_base"
        try:
            return getattr(self, form)  # type: ignore[no-any-return]
        except AttributeError:
            data = self._serialised(with_witness)
            object.__setattr__(self, form, data)
            return data

    def _serialised(self, with_witness: bool) -> bytes:
        parts = [self.version.to_bytes(4, "little")]
        if with_witness:
            parts.append(_MARKER_AND_FLAG)
        parts.append(compact_size(len(self.inputs)))
        parts.extend(txin.to_bytes() for txin in self.inputs)
        parts.append(compact_size(len(self.outputs)))
        parts.extend(output.to_bytes() for output in self.outputs)
        if with_witness:
            parts.extend(witness_to_bytes(txin.witness) for txin in self.inputs)
        parts.append(self.lock_time.to_bytes(4, "little"))
        return b"".join(parts)

    def to_hex(self) -> str:
        """The wire format in lower-case hex."""
        return self.to_bytes().hex()

    @property
    def is_coinbase(self) -> bool:
        """Whether it makes new coins: its one input spends nothing."""
        return len(self.inputs) == 1 and self.inputs[0].outpoint == NULL_OUTPOINT

    @property
    def has_witness(self) -> bool:
        """Whether any input carries a witness."""
        return any(txin.witness for txin in self.inputs)

    @property
    def txid(self) -> Txid:
        """Double SHA-256 of the format without witnesses: no signature in a witness changes it."""
        try:
            return self._txid
        except AttributeError:
            txid = Txid(double_sha256(self.to_bytes(include_witness=False)))
            object.__setattr__(self, "_txid", txid)
            return txid

    @property
    def wtxid(self) -> Txid:
        """Double SHA-256 of the format with witnesses (BIP-0141); the txid when there are none."""
        return Txid(double_sha256(self.to_bytes()))

    @property
    def weight(self) -> int:
        """Three times the size without witnesses plus the size with them (BIP-0141)."""
        base_size = len(self.to_bytes(include_witness=False))
        return base_size * (WITNESS_SCALE_FACTOR - 1) + len(self.to_bytes())

    @property
    def vsize(self) -> int:
        """Virtual bytes: a quarter of the weight, rounded up (BIP-0141)."""
        return -(-self.weight // WITNESS_SCALE_FACTOR)

    def without_witness(self) -> Transaction:
        """A copy in which no input has a witness."""
        return replace(self, inputs=tuple(replace(txin, witness=()) for txin in self.inputs))

    def with_witness(self, index: int, stack: tuple[bytes, ...]) -> Transaction:
        """A copy in which input ``index`` has the witness ``stack``.

        Raises:
            ParseError: ``malformed-number`` when there is no such input.
        """
        checked_int(index, 0, len(self.inputs) - 1, "input index")
        inputs = list(self.inputs)
        inputs[index] = replace(inputs[index], witness=stack)
        return replace(self, inputs=tuple(inputs))


def total_of(outputs: Iterable[TxOut]) -> Amount:
    """What outputs hold together."""
    return Amount(sum(output.value.sat for output in outputs))


def outpoint_to_bytes(outpoint: OutPoint) -> bytes:
    """The 36 bytes of an outpoint: txid in wire order, index little endian."""
    return outpoint.txid.wire + outpoint.vout.to_bytes(4, "little")


def read_witness(reader: Reader) -> tuple[bytes, ...]:
    """Take one input's witness stack: a count, then that many byte strings (BIP-0144)."""
    return tuple([reader.var_bytes() for _ in range(reader.count(1))])


def witness_to_bytes(stack: tuple[bytes, ...]) -> bytes:
    """A witness stack as transactions and PSBTs hold it (BIP-0144)."""
    return compact_size(len(stack)) + b"".join(var_bytes(item) for item in stack)


def _read_inputs(reader: Reader) -> tuple[TxIn, ...]:
    return tuple([TxIn.read(reader) for _ in range(reader.count(_MIN_INPUT))])


def _read_outputs(reader: Reader) -> tuple[TxOut, ...]:
    return tuple([TxOut.read(reader) for _ in range(reader.count(_MIN_OUTPUT))])


def _read_witnesses(reader: Reader, flag: int, inputs: tuple[TxIn, ...]) -> tuple[TxIn, ...]:
    if flag != 1:
        raise ParseError("malformed-transaction", f"unknown flag {flag} after the witness marker")
    inputs = tuple([replace(txin, witness=read_witness(reader)) for txin in inputs])
    if not any(txin.witness for txin in inputs):
        # the same transaction has a shorter form, and a format must have one form only
        raise ParseError("malformed-transaction", "a witness record without a single witness")
    return inputs
