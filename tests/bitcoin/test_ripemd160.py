"""mpchan.bitcoin.ripemd160: the hash where OpenSSL has none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin import ripemd160 as module
from mpchan.bitcoin.ripemd160 import pure_ripemd160, ripemd160

# the test values that the authors of RIPEMD-160 publish with it
PUBLISHED = [
    (b"", "9c1185a5c5e9fc54612808977ee8f548b2258d31"),
    (b"a", "0bdc9d2d256b3ee9daae347be6f4dc835a467ffe"),
    (b"abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
    (b"message digest", "5d0689ef49d2fae572b881b123a85ffa21595f36"),
    (b"abcdefghijklmnopqrstuvwxyz", "f71c27109c692c1b56bbdceb5b9d2865b3708dbc"),
    (b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "12a053384a9c0c88e405a06c27dcf49ada62eb2b"),
    (
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "b0e20b6e3116640286ed3a87a5713079b21f5189",
    ),
    (b"1234567890" * 8, "9b752e45573d4b39f4dbd3323cab82bf63326bfb"),
]


def openssl_has_it() -> bool:
    try:
        hashlib.new("ripemd160")
    except ValueError:
        return False
    return True


@pytest.fixture
def openssl_without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(name: str, data: bytes = b"") -> object:
        raise ValueError(f"unsupported hash type {name}")

    monkeypatch.setattr(hashlib, "new", refuse)
    module._openssl_has_it.cache_clear()
    yield
    module._openssl_has_it.cache_clear()


@pytest.mark.parametrize(("data", "digest"), PUBLISHED, ids=lambda value: None)
def test_published_values(data: bytes, digest: str) -> None:
    assert pure_ripemd160(data).hex() == digest
    assert ripemd160(data).hex() == digest


@pytest.mark.skipif(not openssl_has_it(), reason="this OpenSSL has no RIPEMD-160 to compare with")
@given(st.binary(max_size=200))
def test_same_as_openssl(data: bytes) -> None:
    assert pure_ripemd160(data) == hashlib.new("ripemd160", data).digest()


@pytest.mark.parametrize("length", [55, 56, 63, 64, 65, 119, 120, 128])
def test_lengths_about_a_block(length: int) -> None:
    """The padding takes one block more from 56 bytes on."""
    assert pure_ripemd160(bytes(length)) == ripemd160(bytes(length))


@pytest.mark.usefixtures("openssl_without")
def test_steps_in_where_openssl_has_none() -> None:
    assert ripemd160(b"abc").hex() == "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"
