"""Which command answers with what, and what its keys mean: for ``--help``, for the guide, and for the tests.

Nothing of this is loaded by a command that only does its work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from typing import Any

from mpchan.results.base import Result
from mpchan.values import frozen

ANSWERS: dict[str, tuple[str, ...]] = {
    "init": ("wallets.WalletMade", "wallets.WalletOfWords"),
    "passphrase set": ("wallets.Encrypted",),
    "passphrase change": ("wallets.Encrypted",),
    "passphrase remove": ("wallets.Encrypted",),
    "address": ("coins.FreshAddress",),
    "balance": ("coins.Balance",),
    "send": ("coins.Sent", "coins.Forgotten"),
    "scan": ("coins.Scanned",),
    "backup": ("wallets.BackedUp",),
    "restore": ("wallets.Restored",),
    "list": ("channels.ChannelList",),
    "show": ("channels.Channel", "channels.Descriptors", "opening.Payable"),
    "inspect": ("checks.Message",),
    "verify": ("checks.Verdict",),
    "history": ("channels.History",),
    "fsck": ("checks.FilesChecked",),
    "wait": ("opening.Standing",),
    "watch": ("watching.ChannelSeen", "watching.RoundDone"),
    "plan": ("sales.SalePlanned",),
    "payee offer": ("opening.Offered",),
    "payer open": ("opening.Opened", "opening.OpenedAtOnce", "opening.Planned", "opening.Payable"),
    "payee sign-refund": ("opening.RefundSigned",),
    "payer fund": ("opening.Funded",),
    "payee funding": ("opening.FundingTaken",),
    "payer pay": ("payments.Payment", "failures.RefusedLine"),
    "payee accept": ("payments.Accepted", "payments.Superseded", "failures.RefusedLine"),
    "payer settle": ("closing.SettlementSigned",),
    "payee settle": ("closing.Closed",),
    "payer refund": ("closing.Refunded",),
    "payee sell": (
        *("sales.OfferPublished", "sales.RequestServed"),
        *("watching.ChannelSeen", "watching.RoundDone"),
    ),
    "payee serve": (
        *("web.ServiceStarted", "web.ServiceChannel"),
        *("watching.ChannelSeen", "watching.RoundDone"),
    ),
    "payer fetch": ("web.Fetched", "web.ChannelClosed"),
    "payer spending": ("spending.Spending",),
    "payer buy": ("sales.Bought", "sales.PurchaseCancelled"),
    "payee export-latest": ("closing.Exported",),
    "payer sync": ("closing.Synced",),
    "payer recover": ("opening.Recovered",),
    "payer abandon": ("opening.Standing",),
    "payee abandon": ("opening.Standing",),
    "bump": ("closing.Bumped",),
    "regtest mine": ("wallets.ChainState",),
    "regtest faucet": ("wallets.PlayMoney",),
    "regtest status": ("wallets.ChainState",),
    "engine": ("wallets.Engine",),
    "engine install": ("wallets.Engine",),
    "guide": ("wallets.Topics", "wallets.Page"),
    "demo": ("demo.DemoPlayed",),
}
"""The classes of each command's answers, by module and name; of a command with several, the usual one comes first."""

SHORT_FORMS = {
    "open": ("payer open",),
    "pay": ("payer pay",),
    "settle": ("payer settle", "payee settle"),
    "refund": ("payer refund",),
}
"""What else these commands are called."""

LINES = ("watch", "payee sell", "payee serve")
"""These print one object on each line, of one kind or another; the others print one."""

EVERYWHERE = {
    "broadcast": "whether it was sent to the chain, or is there already",
    "capacity_sat": "what the channel can pay in all, in satoshi",
    "channel": "the channel's short id, 16 hex digits: the beginning of its funding's txid",
    "error": "slug of the rule that was broken",
    "exit_code": "that of the command, or of the line alone",
    "funding_txid": "of the funding, as block explorers show it",
    "hint": "what to do about it; null where there is nothing to say",
    "message": "what happened, in words",
    "network": "mainnet, testnet4, signet or regtest",
    "offer_id": "of the offer, 32 hex digits",
    "paid_sat": "the total that the payee has, and counts now, in satoshi",
    "payee_address": "where the payee is paid",
    "payee_pubkey": "the payee's key in the channel, 33 bytes in hex",
    "payer_address": "where the payer's share and the refund go; null where the script has no address",
    "payer_pubkey": "the payer's key in the channel, 33 bytes in hex",
    "pending_sat": "what a settlement that came late pays on top, once it is confirmed, in satoshi",
    "refund_lock_time": "nLockTime of the refund, a block height or seconds since 1970",
    "remaining_sat": "what is left to be paid, in satoshi",
    "role": "payer or payee",
    "status": "opening, funding, open, settling, refunding, closed, refunded or abandoned",
    "time": "when it was told, in UTC (RFC 3339)",
    "txid": "of the transaction, as block explorers show it",
    "updates": "how many payments were made",
    "wallet": "its directory",
    "warnings": "what people should know besides, one sentence each",
}
"""Keys that mean the same in every answer, unless its class says otherwise."""


@frozen
class Key:
    """One key of an answer.

    Attributes:
        json_type: in the words of JSON, such as ``integer or null``.
        meaning: with its unit, and what null or its absence means.
        optional: whether it may be left out.
        inside: the classes of what it holds.
    """

    name: str
    json_type: str
    meaning: str
    optional: bool
    inside: tuple[type[Result], ...]


def answers(command: str) -> tuple[type[Result], ...]:
    """The classes of a command's answers, by its words without ``mpchan``; none for one that prints no JSON."""
    commands = SHORT_FORMS.get(command, (command,))
    return tuple(_class(name) for each in commands for name in ANSWERS.get(each, ()))


def _class(name: str) -> type[Result]:
    module, _, kind = name.partition(".")
    found: type[Result] = getattr(import_module(f"mpchan.results.{module}"), kind)
    return found


def title(kind: type[Result]) -> str:
    """The first sentence of a class's docstring."""
    return (kind.__doc__ or "").partition("\n")[0].replace("``", "`")


def keys(kind: type[Result]) -> list[Key]:
    """The keys of a class, in their order.

    Raises:
        KeyError: nothing says what a key means.
    """
    described: Any = kind
    said = {name: meaning for each in reversed(kind.__mro__) for name, meaning in _attributes(each)}
    defaults = described.__value_defaults__
    return [
        _key(kind, name, said.get(name) or EVERYWHERE[name], name in defaults, defaults.get(name))
        for name in described.__value_fields__
    ]


def _key(kind: type[Result], name: str, meaning: str, optional: bool, default: object) -> Key:
    type_, inside = _json_type(kind, annotation(kind, name))
    if optional:
        meaning = f"{meaning}; {_LEFT_OUT[json.dumps(default)]}"
        type_ = type_.removesuffix(" or null")
    return Key(name, type_, meaning, optional, inside)


_LEFT_OUT = {
    "0": "left out where it is 0",
    "false": "left out where it is false",
    "null": "left out otherwise",
    "[]": "left out where there are none",
    '"update"': "left out for an update",
}
"""What is said of a key whose field has such a default."""


def annotation(kind: type[Result], name: str) -> str:
    """The annotation of a field, as it is written."""
    found = next(each.__annotations__[name] for each in kind.__mro__ if name in each.__annotations__)
    return str(found)


_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "None": "null", "dict[str, str]": "object"}


def _json_type(kind: type[Result], written: str) -> tuple[str, tuple[type[Result], ...]]:
    """An annotation in the words of JSON, and the classes in it."""
    listed = re.fullmatch(r"(?:tuple|Iterable)\[(.*?)(?:, \.\.\.)?\]", written)
    parts = [part.strip() for part in (listed[1] if listed else written).split("|")]
    inside = tuple(_class_beside(kind, part) for part in parts if part not in _TYPES)
    words = " or ".join(dict.fromkeys(_TYPES.get(part, "object") for part in parts))
    return (f"list of {words}s" if listed else words), inside


def _class_beside(kind: type[Result], name: str) -> type[Result]:
    found: type[Result] = getattr(import_module(kind.__module__), name)
    return found


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """What a docstring says under ``Attributes``; several names on one line have one meaning."""
    # CPython takes the indentation away by itself from 3.13 on
    _, _, said = cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    for entry in re.split(r"\n(?=    \w)", said.rstrip()):
        names, _, meaning = entry.strip().partition(": ")
        for name in names.split(", "):
            yield name, " ".join(meaning.replace("``", "`").split())


def all_inside(kinds: tuple[type[Result], ...]) -> list[type[Result]]:
    """These classes and all that their keys hold, each once, in the order in which a reader meets them."""
    found: list[type[Result]] = []
    for kind in kinds:
        for each in (kind, *all_inside(tuple(one for key in keys(kind) for one in key.inside))):
            if each not in found:
                found.append(each)
    return found


# the guide's page ---------------------------------------------------------------------------------

_PREFACE = """# JSON

What each command prints with `--json`. Every key is always there, unless its
row says that it may be left out; null stands where it says so. Amounts are in
satoshi, times in seconds since 1970 unless said otherwise. A command prints one
object on one line; `watch`, `payee sell` and the two `--stream` commands print
one on each line. The tests hold this page to the program, and what the program
prints to this page.

A failure is one object on standard error:

"""


def page() -> str:
    """The page of the guide, which is all made here."""
    told: dict[type[Result], str] = {}
    parts = [_PREFACE, _table(_class("failures.Failure"))]
    for command in ANSWERS:
        also = [f"`mpchan {short}`" for short, meant in SHORT_FORMS.items() if command in meant]
        parts.append(f"\n## mpchan {command}\n" + (f"\nAlso {', '.join(also)}.\n" if also else ""))
        for kind in all_inside(answers(command)):
            if kind in told:
                parts.append(f"\n**{kind.__name__}**: as above, under `mpchan {told[kind]}`.\n")
            else:
                told[kind] = command
                parts.append(f"\n**{kind.__name__}**: {_lower(title(kind))}\n\n{_table(kind)}")
    return "".join(parts)


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _table(kind: type[Result]) -> str:
    rows = [f"| `{key.name}` | {_type(key)} | {key.meaning} |\n" for key in keys(kind)]
    return "| key | type | means |\n| --- | --- | --- |\n" + "".join(rows)


def _type(key: Key) -> str:
    if not key.inside:
        return key.json_type
    return key.json_type.replace("object", " or ".join(f"*{kind.__name__}*" for kind in key.inside))
