"""Targets: what a node and a server answer, below everything that the program does with it.

An input is a script: one line for each method, its name and the whole reply. Replies to the methods that the script
does not know are refusals. A server of the Electrum protocol may lie in each of them; its proofs are checked against
headers that the program has itself, so no script makes a payment confirmed that is not.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import Any

from support.fuzz.driver import Target, check_words
from support.fuzz.files import genesis
from support.fuzz.mutations import bent_bytes, bent_json, bent_value
from support.fuzz.world import world

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Answer, read_json
from mpchan.chain.base import OutputStatus
from mpchan.chain.bitcoind import coins as node_coins
from mpchan.chain.bitcoind.backend import BitcoindChain
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.chain.electrum.address import Server
from mpchan.chain.electrum.certificates import Certificates
from mpchan.chain.electrum.connection import Connection, Reply, Request
from mpchan.chain.electrum.following import follow
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.questions import Questions
from mpchan.chain.electrum.rules import RULES
from mpchan.chain.electrum.sending import broadcast, broadcast_package
from mpchan.chain.electrum.view import Seen, View
from mpchan.errors import ChainError, MpchanError, ParseError
from mpchan.units import Height, MedianTime, OutPoint

_QUESTIONS = 200
"""So many are answered; a liar can keep a program asking for as long as it likes, and that is another matter."""


class Script:
    """The replies by their methods."""

    def __init__(self, data: bytes) -> None:
        lines = [line.partition(b" ") for line in data.split(b"\n")]
        self.replies = {method.decode(errors="replace"): reply for method, _, reply in lines}
        self.left = _QUESTIONS

    def reply(self, method: str) -> bytes:
        """As it comes over the wire.

        Raises:
            ConnectionError: enough.
        """
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("it broke off the connection")
        return self.replies.get(method, b'{"error":{"code":-5,"message":"no such thing"},"id":0}')


def script_of(results: dict[str, Any]) -> bytes:
    """The script of good replies."""
    lines = [
        f"{method} {json.dumps({'result': result, 'error': None, 'id': 0})}"
        for method, result in results.items()
    ]
    return "\n".join(lines).encode()


def bent_script(random: Random, data: bytes) -> bytes:
    """A reply bent, most often in its result."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    method, _, reply = lines[at].partition(b" ")
    try:
        message = json.loads(reply)
        if random.randrange(4) and isinstance(message, dict) and "result" in message:
            message["result"] = bent_value(random, message["result"])
            reply = json.dumps(message).encode()
        else:
            reply = bent_json(random, reply)
    except (ValueError, RecursionError):
        reply = bent_bytes(random, reply)
    lines[at] = method + b" " + reply.replace(b"\n", b"")
    return b"\n".join(lines)


def ask(*questions: Callable[[], object]) -> None:
    """Every question is answered or refused; what the last refusal was comes out.

    Raises:
        MpchanError: where one was.
    """
    refusals: list[MpchanError] = []
    for question in questions:
        try:
            question()
        except MpchanError as error:
            refusals.append(error)
    if refusals:
        raise refusals[-1]


def refusal_of(way: Callable[[], object]) -> ChainError | None:
    """How an answer was refused."""
    try:
        way()
    except ChainError as error:
        return error
    return None


# one value ----------------------------------------------------------------------------------------


def answer(data: bytes) -> None:
    """Every way to read a value of JSON; an amount is what exact decimals make of the digits."""
    try:
        value = read_json(data)
    except ValueError:
        raise ParseError("malformed-json", "no JSON") from None
    found = Answer(value, "a question")
    ways: list[Callable[[], object]] = [
        *(found.items, found.only, found.height, found.time, found.flag, found.text, found.hex, found.data),
        *(found.block_hash, found.txid, found.outpoint, found.amount, found.fee_rate),
        *(lambda: found.item(3), lambda: found["a"], lambda: "a" in found, lambda: found.integer(-5, 5)),
        *(lambda: found.output("value", "scriptPubKey", "hex"), lambda: found.transaction(_payment().txid)),
    ]
    refused = [error for error in map(refusal_of, ways) if error is not None]
    for error in refused:
        check_words(error)
    if refusal_of(found.amount) is not None:
        return
    amount = found.amount()
    assert Decimal(str(value)) * 10**8 == amount.sat


# the node -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _payment() -> Transaction:
    return Transaction.from_bytes(world().messages["funding"])


class ScriptedRpc(Rpc):
    """A node that answers by the script; its replies to several requests at once are all the same."""

    script: Script

    def _exchange(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        asked = json.loads(body)
        several = isinstance(asked, list)
        [method] = {request["method"] for request in (asked if several else [asked])}
        try:
            reply = self.script.reply(method)
        except ConnectionError:
            raise ChainError("unreachable", "the node is gone") from None
        numbers = [request["id"] for request in (asked if several else [asked])]
        replies = [reply.replace(b'"id": 0', f'"id": {number}'.encode()) for number in numbers]
        return 200, b"[" + b",".join(replies) + b"]" if several else replies[0]


def bitcoind(data: bytes) -> None:
    """Every question of the backend."""
    node_coins.SCAN_SECONDS = 0  # a node that is always busy is not waited for
    chain = BitcoindChain(REGTEST, Endpoint("127.0.0.1", 1), Credentials(world().folder / "cookie"))
    chain._rpc.__class__ = ScriptedRpc
    chain._rpc.script = Script(data)  # type: ignore[attr-defined]
    payment = _payment()
    outpoint, script = OutPoint(payment.txid, 0), payment.outputs[0].script_pubkey
    ask(
        chain.tip,
        lambda: chain.output(outpoint, not_before=Height(100)),
        lambda: chain.output(payment.inputs[0].outpoint, not_before=MedianTime(1_500_000_000)),
        lambda: chain.coins([script]),
        lambda: chain.used_scripts([script]),
        chain.fee_rate,
        lambda: chain.broadcast(payment),
        lambda: chain.broadcast_package([payment, payment]),
    )


def _node_seeds() -> list[bytes]:
    payment, block = _payment(), "ab" * 32
    value = "5.00000000"
    script = payment.outputs[0].script_pubkey.hex()
    outpoint = {"txid": str(payment.txid), "vout": 0}
    common: dict[str, Any] = {
        "getblockhash": REGTEST.genesis_hash,
        "getblockchaininfo": {
            **{"blocks": 119, "headers": 119, "bestblockhash": block, "mediantime": 1_600_000_000},
            **{"initialblockdownload": False, "time": 1_600_000_000},
        },
        "getblockheader": {
            **{"height": 119, "hash": block, "confirmations": 1, "mediantime": 1_600_000_000},
            "previousblockhash": block,
        },
        "scantxoutset": {
            **{"success": True, "height": 119, "bestblock": block},
            "unspents": [{**outpoint, "scriptPubKey": script, "amount": 0.5, "height": 7, "coinbase": False}],
        },
        "getrawmempool": [],
        "getrawtransaction": payment.to_hex(),
        "gettxspendingprevout": [outpoint],
        "getbestblockhash": block,
        "estimatesmartfee": {"feerate": 0.0002},
        "getmempoolinfo": {"mempoolminfee": 0.0001, "minrelaytxfee": 0.0001},
        "testmempoolaccept": [
            {"txid": str(payment.txid), "allowed": True, "reject-reason": "missing-inputs"}
        ],
        "sendrawtransaction": str(payment.txid),
        "submitpackage": {
            "package_msg": "success",
            "tx-results": {str(payment.wtxid): {"txid": str(payment.txid)}},
        },
    }
    unspent = {"value": value, "confirmations": 3, "scriptPubKey": {"hex": script}, "coinbase": False}
    unspent |= {"bestblock": block}
    source = payment.inputs[0].outpoint
    spent = {"txid": str(source.txid), "vout": source.vout, "spendingtxid": str(payment.txid)}
    in_block = {"hex": payment.to_hex(), "vin": [{"prevout": {**unspent, "height": 3}}] * 3}
    empty = {**common["scantxoutset"], "unspents": []}
    seeds = [
        {**common, "gettxout": unspent},
        {**common, "gettxout": unspent, "getrawmempool": [str(payment.txid)], "scantxoutset": empty},
        {**common, "gettxout": None, "getmempoolentry": {}, "gettxspendingprevout": [spent]},
        {**common, "gettxout": None, "gettxspendingprevout": [{**spent, "blockhash": block}]}
        | {"getrawtransaction": in_block},
        {**common, "gettxout": None, "getblock": (bytes(80) + b"\1" + payment.to_bytes()).hex()},
    ]
    return [script_of(seed).replace(f'"{value}"'.encode(), value.encode()) for seed in seeds]


# a server of the Electrum protocol ----------------------------------------------------------------


class ScriptedServer(Connection):
    """A server that answers by the script."""

    def __init__(self, script: Script, protocol: tuple[int, ...]) -> None:
        super().__init__(Server("127.0.0.1", 1), None, Certificates(None))
        self._script = script
        self._agreed = protocol

    def _open(self) -> None:
        self.protocol = self._agreed

    def _exchange(self, requests: Sequence[Request]) -> list[Reply]:
        replies = []
        for method, _ in requests:
            line = self._script.reply(method)
            replies.append(self._reply(self._message(line), method, line))
        return replies


_DEPTH = 2
_PAID_AT = 2


@lru_cache(maxsize=1)
def _headers() -> tuple[HeaderChain, tuple[bytes, ...]]:
    """Regtest's first blocks; the payment stands in one of them, beside another transaction."""
    other = bytes(range(32))
    root = sha256(sha256(_payment().txid.wire + other).digest()).digest()
    chain = HeaderChain.begin(RULES["regtest"], genesis())
    for height in range(1, _PAID_AT + _DEPTH):
        made = _ground(chain.tip.hash, chain.tip.time + 600, root if height == _PAID_AT else bytes(32))
        chain.append(made)
    return chain, (other,)


def _ground(parent: bytes, time: int, root: bytes) -> bytes:
    for nonce in range(1 << 20):
        header = struct.pack("<i32s32sIII", 4, parent, root, time, 0x207FFFFF, nonce)
        if sha256(sha256(header).digest()).digest()[31] < 0x7F:
            return header
    raise AssertionError("no such nonce")


def electrum(data: bytes) -> None:
    """Every question of a view; what is confirmed is what the headers hold."""
    known, _ = _headers()
    chain = known.until(known.height)
    payment = _payment()
    outpoint, script = OutPoint(payment.txid, 0), payment.outputs[0].script_pubkey
    for protocol in ((1, 4), (1, 6)):
        server = Questions(ScriptedServer(Script(data), protocol))
        view = View(chain, server, Seen())
        ask(
            lambda view=view: _true(view.outputs([outpoint]).get(outpoint)),  # type: ignore[misc]
            lambda view=view: [_deep(coin.confirmations) for coin in view.coins([script])],  # type: ignore[misc, func-returns-value]
            lambda view=view: view.used_scripts([script]),  # type: ignore[misc]
            lambda view=view: _deep(view.confirmations(payment)),  # type: ignore[misc]
            server.first_header,
            server.min_rates,
            lambda server=server: server.estimate(2),  # type: ignore[misc]
            lambda server=server, view=view: broadcast(server, view, payment),  # type: ignore[misc]
            lambda server=server, view=view: broadcast_package(server, view, [payment, payment]),  # type: ignore[misc]
            lambda server=server: follow(known.until(known.height), server),  # type: ignore[misc]
        )


def _deep(confirmations: int | None) -> None:
    assert confirmations in (None, 0, _DEPTH), "no proof says so"


def _true(found: OutputStatus | None) -> None:
    if found is not None:
        assert found.output == _payment().outputs[0]
        _deep(found.confirmations)


def _server_seeds() -> list[bytes]:
    chain, path = _headers()
    payment = _payment()
    claim = {"tx_hash": str(payment.txid), "height": _PAID_AT}
    tip = chain.raw(chain.height).hex()
    common = {
        "blockchain.transaction.get": payment.to_hex(),
        "blockchain.transaction.get_merkle": {
            **{"block_height": _PAID_AT, "pos": 0},
            "merkle": [step[::-1].hex() for step in path],
        },
        "blockchain.scripthash.get_history": [claim],
        "blockchain.scripthash.listunspent": [{**claim, "tx_pos": 0, "value": payment.outputs[0].value.sat}],
        "blockchain.block.header": chain.raw(0).hex(),
        "blockchain.headers.subscribe": {"height": chain.height, "hex": tip},
        "blockchain.block.headers": {"count": 1, "hex": tip, "max": 2016, "headers": [tip]},
        "blockchain.relayfee": 0.0001,
        "blockchain.estimatefee": 0.0002,
        "mempool.get_info": {"mempoolminfee": 0.0001, "minrelaytxfee": 0.0001},
        "blockchain.transaction.broadcast": str(payment.txid),
        "blockchain.transaction.broadcast_package": {"success": True, "errors": []},
    }
    after = _ground(chain.tip.hash, chain.tip.time + 600, bytes(32)).hex()
    grown = {"blockchain.headers.subscribe": {"height": chain.height + 1, "hex": after}}
    waiting = {"blockchain.scripthash.get_history": [{**claim, "height": 0}]}
    return [script_of(common), script_of({**common, **grown}), script_of({**common, **waiting})]


def headers(data: bytes) -> None:
    """Headers on top of a chain: each has the work and the links of its own, or is refused."""
    known, _ = _headers()
    chain = known.until(known.height)
    try:
        chain.append(data, 2_000_000_000)
    finally:
        parent = known.tip.hash
        for height in range(known.height + 1, chain.height + 1):
            raw = chain.raw(height)
            assert raw[4:36] == parent
            parent = sha256(sha256(raw).digest()).digest()
            assert parent[31] < 0x80, "regtest's work"


def _headers_seeds() -> list[bytes]:
    chain, _ = _headers()
    made, parent, time = b"", chain.tip.hash, chain.tip.time
    for _ in range(3):
        time += 600
        made += _ground(parent, time, bytes(32))
        parent = sha256(sha256(made[-80:]).digest()).digest()
    return [made, made[:80]]


def _answer_seeds() -> list[bytes]:
    outpoint = {"txid": "ab" * 32, "vout": 4}
    texts = [
        "0.00001",
        "21000000",
        "1e-05",
        "[]",
        '"ab"',
        "true",
        "null",
        json.dumps("ab" * 32),
        json.dumps([1, {}]),
    ]
    output = {"value": 0.1, "scriptPubKey": {"hex": "51"}, **outpoint}
    return [text.encode() for text in [*texts, json.dumps(output)]]


_REFUSES = (ChainError, ParseError)

ANSWERS = [
    Target("answer", answer, _answer_seeds, bent_json, _REFUSES),
    Target("bitcoind", bitcoind, _node_seeds, bent_script),
    Target("electrum", electrum, _server_seeds, bent_script),
    Target("headers", headers, _headers_seeds, bent_bytes, (ParseError,)),
]
