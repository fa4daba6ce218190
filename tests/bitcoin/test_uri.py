"""mpchan.bitcoin.uri: BIP-0021's examples, and the standard library reads back what is written."""

from __future__ import annotations

import re
from decimal import Decimal
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.uri import payment_uri
from mpchan.units import MAX_MONEY_SAT, Amount

ADDRESS = "175tWpb8K1S7NmH4Zx6rewF9WQrcZv245W"


@pytest.mark.parametrize(
    ("amount", "label", "uri"),
    [
        (2_030_000_000, "Luke-Jr", f"bitcoin:{ADDRESS}?amount=20.3&label=Luke-Jr"),
        (5_000_000_000, "", f"bitcoin:{ADDRESS}?amount=50"),
        (
            5_000_000_000,
            "Donation for project xyz",
            f"bitcoin:{ADDRESS}?amount=50&label=Donation%20for%20project%20xyz",
        ),
        (1, "", f"bitcoin:{ADDRESS}?amount=0.00000001"),
        (MAX_MONEY_SAT, "", f"bitcoin:{ADDRESS}?amount=21000000"),
        (100_338, "a&b=c?ü#%+", f"bitcoin:{ADDRESS}?amount=0.00100338&label=a%26b%3Dc%3F%C3%BC%23%25%2B"),
    ],
)
def test_examples(amount: int, label: str, uri: str) -> None:
    assert payment_uri(ADDRESS, Amount(amount), label) == uri


@given(st.integers(0, MAX_MONEY_SAT), st.text(st.characters(codec="utf-8"), min_size=1))
def test_the_standard_library_reads_it_back(sat: int, label: str) -> None:
    uri = payment_uri(ADDRESS, Amount(sat), label)
    parts = urlsplit(uri)
    assert (parts.scheme, parts.path, parts.fragment) == ("bitcoin", ADDRESS, "")
    amount, _, rest = parts.query.partition("&label=")
    assert re.fullmatch(r"amount=[0-9]+(\.[0-9]*[1-9])?", amount)
    assert Decimal(amount.removeprefix("amount=")) * 10**8 == sat
    assert not set(rest) & set("&=+ ")
    assert unquote(rest, errors="strict") == label
