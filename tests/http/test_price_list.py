"""Prices from a file: which table a request falls under, and what is no list of prices."""

from __future__ import annotations

import pytest

from mpchan.errors import ParseError, Refused
from mpchan.http.server.price_list import PriceList
from mpchan.http.server.prices import Asked, Price

TEXT = """
[[price]]
path = "/status"
amount = 0

[[price]]
method = ["POST", "PUT"]
path = "/images/*"
amount = 25
once = true
description = "one picture"

[[price]]
path = "/files/*"
amount = 2
per = "kib"
most = 2000

[[price]]
path = "*"
amount = 1
deposit = 5000
"""
LAST = '\n[[price]]\npath = "*"\namount = 1\n'


def asked(path: str, method: str = "GET", raw: str | None = None) -> Asked:
    return Asked(method, path, path if raw is None else raw)


@pytest.mark.parametrize(
    ("request_", "price"),
    [
        (asked("/status"), None),
        (asked("/status/x"), Price(1, deposit=5_000)),
        (asked("/images/a/b", "POST"), Price(25, once=True, description="one picture")),
        (asked("/images/a", "PUT"), Price(25, once=True, description="one picture")),
        (asked("/images/a"), Price(1, deposit=5_000)),
        (asked("/images", "POST"), Price(1, deposit=5_000)),
        (asked("/files/a"), Price(2, "kib", 1_024, 2_000)),
        (asked("/"), Price(1, deposit=5_000)),
        (asked("/statu\n"[:6]), Price(1, deposit=5_000)),
    ],
)
def test_the_first_table_that_fits_says_it(request_: Asked, price: Price | None) -> None:
    assert PriceList(TEXT)(request_) == price


def test_a_pattern_has_no_other_signs_than_the_star() -> None:
    prices = PriceList('[[price]]\npath = "/[a]?"\namount = 0\n' + LAST)
    assert prices(asked("/[a]?")) is None
    assert prices(asked("/ab")) == Price(1)


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/status/../files/a", None),
        ("/./status", None),
        ("//status", None),
        ("/status/..", None),
        ("/a\\b", None),
        ("/a\x00", None),
        ("/files/a", "/files%2fa"),
        ("/files\\a", "/files%5Ca"),
        ("status", None),
    ],
)
def test_91_a_path_that_could_be_read_in_two_ways(path: str, raw: str | None) -> None:
    """It might fall under a cheaper table here than what the service makes of it."""
    with pytest.raises(Refused) as error:
        PriceList(TEXT)(asked(path, raw=raw))
    assert error.value.slug == "ambiguous-path"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "price = 1",
        "[[price]\n",
        TEXT + "\n[other]\n",
        '[[price]]\npath = "/a"\namount = 1\n',
        '[[price]]\nmethod = "GET"\npath = "*"\namount = 1\n',
        '[[price]]\npath = "a"\namount = 1\n' + LAST,
        "[[price]]\namount = -1\n" + LAST,
        "[[price]]\namount = 1.5\n" + LAST,
        '[[price]]\namount = "1"\n' + LAST,
        "[[price]]\namount = true\n" + LAST,
        "[[price]]\n" + LAST,
        '[[price]]\namount = 1\nper = "gib"\n' + LAST,
        '[[price]]\namount = 1\nper = "kib"\n' + LAST,
        '[[price]]\namount = 5\nper = "kib"\nmost = 4\n' + LAST,
        "[[price]]\namount = 1\nmost = 4\n" + LAST,
        "[[price]]\namount = 0\nonce = true\n" + LAST,
        "[[price]]\namount = 1\nonce = 1\n" + LAST,
        '[[price]]\namount = 1\nmethod = "get"\n' + LAST,
        "[[price]]\namount = 1\nmethod = []\n" + LAST,
        '[[price]]\namount = 1\ndescription = "a\\nb"\n' + LAST,
        "[[price]]\namount = 1\nprice = 2\n" + LAST,
    ],
)
def test_what_is_no_list_of_prices(text: str) -> None:
    with pytest.raises(ParseError) as error:
        PriceList(text)
    assert error.value.slug == "malformed-prices"
