"""Fuzz targets: what passes over HTTP. The oracles: it comes out again as it went in, and the SDK of the scheme."""

from __future__ import annotations

import base64
import json
import re
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from random import Random
from typing import Any

from support.fuzz.driver import Target
from support.fuzz.mutations import bent_bytes, bent_json, bent_text

from mpchan.errors import ParseError
from mpchan.http.wire.challenge import Challenge, challenges_in
from mpchan.http.wire.credential import Credential
from mpchan.http.wire.problems import Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.http.wire.session import SessionRequest

_VECTORS = json.loads(files("mpchan.http.wire").joinpath("vectors.json").read_text(encoding="utf-8"))
_SDK: Any = import_module("mpp") if find_spec("mpp") else None
"""pympp, where its Python is new enough."""

_UNLIKE = ("header", "opaque", "description")
"""The SDK reads them as something, and refuses what is none; nothing of ours rests on them."""


def header_text(data: bytes) -> str:
    """What a server makes of a header's bytes."""
    return data.decode("latin-1")


def challenge(data: bytes) -> None:
    """What is taken is written as the same, and the SDK reads the same."""
    found = challenges_in([header_text(data)])
    for each in found:
        if all(value.isascii() and value.isprintable() for value in each.parameters().values()):
            assert challenges_in([each.header(), f"Basic x, {each.header()}"]) == [each, each]
            _sdk_reads_challenge(each)
        request = SessionRequest.decode(each.request)
        assert SessionRequest.decode(request.encode()) == request


_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_-]*", re.ASCII)


def _sdk_reads_challenge(ours: Challenge) -> None:
    """Where it reads as RFC 9110 has it: to it \\u begins a character's number, and a name is of letters and digits."""
    names, values = ours.parameters().keys(), ours.parameters().values()
    if _SDK is None or any("\\" in value for value in values) or not all(map(_PLAIN_NAME.fullmatch, names)):
        return
    try:
        theirs = _SDK.Challenge.from_www_authenticate(ours.header())
    except (_SDK.ParseError, RecursionError):
        try:
            SessionRequest.decode(ours.request)
        except ParseError:
            return
        assert ours.method != "bitcoin" or not (ours.realm and ours.intent) or _unlike(ours.parameters())
        return
    for name in ("id", "realm", "method", "intent", "expires", "digest"):
        assert getattr(theirs, name) == getattr(ours, name), name


def _unlike(parameters: Any) -> bool:
    return any(name in parameters for name in _UNLIKE)


def credential(data: bytes) -> None:
    """What is taken is written as the same, and the SDK reads the same."""
    found = Credential.from_header(header_text(data))
    assert Credential.from_header(found.header()) == found
    if _SDK is None:
        return
    try:
        theirs = _SDK.Credential.from_authorization(found.header())
    except _SDK.ParseError:
        assert found.challenge["method"] != "bitcoin" or _unlike(found.challenge)
        return
    assert theirs.payload == found.payload.to_table()
    for name in ("id", "realm", "method", "intent", "request"):
        assert getattr(theirs.challenge, name) == found.challenge[name], name
    assert theirs.source == (found.source or None)


def receipt(data: bytes) -> None:
    """What is taken is written as the same, and the SDK reads the same."""
    found = Receipt.from_header(header_text(data))
    assert Receipt.from_header(found.header()) == found
    if _SDK is None or not found.timestamp.endswith("Z") or "t" in found.timestamp:
        return  # it reads no small letters in a time
    theirs = _SDK.Receipt.from_payment_receipt(found.header())
    assert (theirs.status, theirs.method, theirs.reference) == ("success", "bitcoin", found.channel)


def problem(data: bytes) -> None:
    """What is taken is written as the same, in one line that a terminal shows as it stands."""
    found = Problem.from_body(data, 402)
    assert Problem.from_body(found.body(), 402) == found
    for text in (found.detail, found.hint or "", found.slug):
        assert text.isprintable()


# inputs -------------------------------------------------------------------------------------------


def _from_base64url(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _to_base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def bent_base64url(random: Random, data: bytes) -> bytes:
    """Another JSON in base64url, with what stands before it."""
    start = b"Payment " if data.startswith(b"Payment ") else b""
    if random.randrange(4) == 0:
        return bent_bytes(random, data)
    try:
        inner = _from_base64url(data.removeprefix(start))
    except ValueError:
        return bent_text(random, data)
    return start + _to_base64url(bent_json(random, inner))


def bent_challenge(random: Random, data: bytes) -> bytes:
    """Another request in a challenge, or another header."""
    before, name, rest = data.partition(b'request="')
    kind = random.randrange(4)
    if kind == 0 or not name:
        return bent_bytes(random, data)
    if kind == 1:
        return bent_text(random, data)
    if kind == 2:
        return b", ".join(random.choices((data, b"Basic a=b", b"Payment id=x", b"Payment abc==", data), k=3))
    text, quote, after = rest.partition(b'"')
    return before + name + bent_base64url(random, text) + quote + after


def _of_all(kind: str, member: str) -> list[bytes]:
    constructions = _VECTORS["constructions"].values()
    return [entry[member].encode() for each in constructions for entry in each[kind]]


WEB = [
    Target(
        "challenge", challenge, lambda: _of_all("challenges", "wwwAuthenticate"), bent_challenge, limit=20_000
    ),
    Target(
        "credential",
        credential,
        lambda: _of_all("credentials", "authorization"),
        bent_base64url,
        (ParseError,),
        limit=20_000,
    ),
    Target(
        "payment-receipt",
        receipt,
        lambda: _of_all("receipts", "paymentReceipt"),
        bent_base64url,
        (ParseError,),
        limit=20_000,
    ),
    Target(
        "problem",
        problem,
        lambda: [json.dumps(each["body"]).encode() for each in _VECTORS["problems"]],
        bent_json,
        (ParseError,),
        limit=100_000,
    ),
]
