"""Hypothesis strategies and vector files shared by the tests of the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.units import MAX_MONEY_SAT, Amount, OutPoint, Txid

UINT32 = st.integers(0, 0xFFFF_FFFF)
TXIDS = st.binary(min_size=32, max_size=32).map(Txid)
SCRIPTS = st.binary(max_size=60) | st.binary(min_size=250, max_size=260)
STACKS = st.lists(st.binary(max_size=80), max_size=4).map(tuple)
OUTPOINTS = st.builds(OutPoint, TXIDS, UINT32)
OUTPUTS = st.builds(TxOut, st.integers(0, MAX_MONEY_SAT).map(Amount), SCRIPTS)
INPUTS = st.builds(TxIn, OUTPOINTS, UINT32, SCRIPTS, STACKS)
UNSIGNED_INPUTS = st.builds(TxIn, OUTPOINTS, UINT32)


def transactions(inputs: st.SearchStrategy[TxIn] = INPUTS) -> st.SearchStrategy[Transaction]:
    """Transactions with one to four inputs: with none, the format before witnesses is ambiguous."""
    return st.builds(
        Transaction,
        UINT32,
        st.lists(inputs, min_size=1, max_size=4).map(tuple),
        st.lists(OUTPUTS, max_size=4).map(tuple),
        UINT32,
    )


def vectors(name: str) -> Any:
    """The content of one file of published vectors; its ``source`` says whose."""
    return json.loads((Path(__file__).parents[1] / "bitcoin" / "data" / name).read_text())
