"""A connection that drops, delays, truncates and corrupts: a clear error or the right answer, never a third thing."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chain.bitcoind import first, fresh_script, spend
from support.chain.faulty import Faulty, Harm, answer, body, cut, faulty, reset, sent, silent, through
from support.chain.node import Node, needs_node

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Decimal
from mpchan.chain.bitcoind import BitcoindChain, rpc
from mpchan.chain.bitcoind.endpoint import Credentials
from mpchan.errors import ChainError
from mpchan.units import Height

pytestmark = needs_node

Operation = Callable[[BitcoindChain], Any]


class Scene:
    """A chain on which nothing happens, and the questions that can be asked of it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.closed = node.pay(fresh_script(), 50_000)
        self.open = node.pay(fresh_script(), 50_000)
        self.unused = fresh_script()
        self.fresh = node.pay(fresh_script(), 50_000)
        node.mine(3)
        self.close = spend(self.closed, 49_000)
        node.mine_with([self.close])
        node.mine(2)
        self.bound = Height(node.height - 3)
        self.pending = node.pay(fresh_script(), 50_000)
        node.call("sendrawtransaction", spend(self.pending, 49_000).to_hex())
        self.sent = spend(self.fresh, 49_000)
        node.call("sendrawtransaction", self.sent.to_hex())

    @property
    def operations(self) -> dict[str, Operation]:
        """Every question, and the request to broadcast what is known already."""
        nowhere = first(Transaction(2, self.closed.inputs, self.open.outputs, 0))
        scripts = [tx.outputs[0].script_pubkey for tx in (self.open, self.closed, self.fresh, self.pending)]
        return {
            "tip": lambda chain: chain.tip(),
            "unspent": lambda chain: chain.output(first(self.open)),
            "spent": lambda chain: chain.output(first(self.closed), not_before=self.bound),
            "pending": lambda chain: chain.output(first(self.pending)),
            "nowhere": lambda chain: chain.output(nowhere, not_before=self.bound),
            "coins": lambda chain: chain.coins([*scripts, self.unused]),
            "used": lambda chain: chain.used_scripts([*scripts, self.unused]),
            "broadcast": lambda chain: chain.broadcast(self.sent),
            "package": lambda chain: chain.broadcast_package([self.fresh, self.sent]),
            "fee rate": lambda chain: chain.fee_rate(),
        }


@pytest.fixture(scope="module")
def scene(shared_node: Node) -> Scene:
    """Prepared once: no test here changes the chain."""
    return Scene(shared_node)


@pytest.fixture
def server(scene: Scene) -> Iterator[Faulty]:
    """Between the backend and the node."""
    with faulty(scene.node) as started:
        yield started


# harm ---------------------------------------------------------------------------------------------


def _json(change: Callable[[Any], Any]) -> Harm:
    """The same answer with something else in its JSON."""

    def changed(body: bytes) -> bytes:
        reply = json.loads(body)
        replies = [change(one) for one in reply] if isinstance(reply, list) else change(reply)
        return json.dumps(replies).encode()

    return body(changed)


BREAKS: dict[str, Harm] = {
    "closes": lambda client, _: None,
    "resets": reset,
    "breaks off in the head": cut(0.02),
    "breaks off in the body": cut(0.95),
    "breaks off before the last byte": lambda client, whole: client.sendall(whole[:-1]),
    "no HTTP": sent(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "binary": sent(bytes(range(256)) * 40),
    "endless head": sent(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000),
    "long line": sent(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000),
}
NONSENSE: dict[str, Harm] = {
    "half of the body": body(lambda body: body[: len(body) // 2]),
    "no body": body(lambda body: b""),
    "a web page": body(lambda body: b"<html>It works!</html>"),
    "another encoding": body(lambda body: b"\xff\xfe\xff" + body),
    "a trailing comma": body(lambda body: body.strip()[:-1] + b",}"),
    "too deep": body(lambda body: b"[" * 200_000),
    "a huge number": body(lambda body: b'{"result":' + b"9" * 5_000 + b',"error":null,"id":1}'),
    "null": body(lambda body: b"null"),
    "a list": body(lambda body: b"[]"),
    "a list of nothing": body(lambda body: b"[null, 7, {}]"),
    "an object": body(lambda body: b"{}"),
    "no result": _json(lambda reply: {"error": None, "id": reply["id"]}),
    "another id": _json(lambda reply: {**reply, "id": reply["id"] + 1}),
    "no id": _json(lambda reply: {"result": reply["result"], "error": None}),
    "a list as id": _json(lambda reply: {**reply, "id": [reply["id"]]}),
    "an error of another form": _json(lambda reply: {**reply, "error": "wrong"}),
    "an error without code": _json(lambda reply: {**reply, "error": {"message": "wrong"}}),
    "a bad gateway": sent(answer(b"<html>502</html>", "502 Bad Gateway")),
    "a redirection": sent(answer(b"", "301 Moved", head=b"Location: http://127.0.0.1:1/\r\n")),
    "nothing to say": sent(answer(b"", "204 No Content")),
    "not found": sent(answer(b"no such page", "404 Not Found")),
}
REFUSALS: dict[str, tuple[Harm, str]] = {
    "wrong password": (sent(answer(b"", "401 Unauthorized")), "rpc-credentials"),
    "forbidden": (sent(answer(b"", "403 Forbidden")), "rpc-credentials"),
    "busy": (sent(answer(b"Work queue depth exceeded", "503 Service Unavailable")), "node-busy"),
    "warming up": (
        _json(
            lambda reply: {
                "result": None,
                "error": {"code": -28, "message": "Loading block index…"},
                "id": reply["id"],
            }
        ),
        "warming-up",
    ),
    "an error": (
        _json(
            lambda reply: {
                "result": None,
                "error": {"code": -7, "message": "out\x1b[2J\n"},
                "id": reply["id"],
            }
        ),
        "rpc-error",
    ),
}


def outcomes(
    server: Faulty, scene: Scene, operation: Operation, harm: Harm, **options: float
) -> Iterator[tuple[object, ChainError | None]]:
    """What comes out when the first request is harmed, then the second one, and so on: an answer or an error."""
    nth = 1
    while True:
        server.set(harm, nth)
        with through(server, Credentials(scene.node.cookie), **options) as chain:
            try:
                found: object = operation(chain)
            except ChainError as error:
                yield None, error
            else:
                if server.asked < nth:
                    return
                yield found, None
        nth += 1


def check_words(error: ChainError) -> None:
    """Something that a person can be shown."""
    assert error.exit_code == 8
    assert error.message.isprintable(), error.message
    assert not error.message.endswith("."), error.message
    assert error.message[0].islower() or error.message.startswith("http"), error.message
    assert len(error.message) < 400, error.message


def the_right_answer(server: Faulty, scene: Scene, operation: Operation) -> Any:
    """Where nothing is harmed."""
    server.set(None)
    with through(server, Credentials(scene.node.cookie)) as chain:
        return operation(chain)


@pytest.mark.parametrize("name", BREAKS)
def test_a_connection_that_breaks(server: Faulty, scene: Scene, name: str) -> None:
    for operation in scene.operations.values():
        right = the_right_answer(server, scene, operation)
        failed = 0
        for found, error in outcomes(server, scene, operation, BREAKS[name]):
            # what breaks on a connection that has served before is asked once more: the second answer counts
            if error is None:
                assert found == right
                continue
            failed += 1
            check_words(error)
            assert error.slug in ("unreachable", "malformed-answer"), error.message
        assert failed, "at least the first request has nothing before it"


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_makes_no_sense(server: Faulty, scene: Scene, name: str) -> None:
    for question, operation in scene.operations.items():
        for found, error in outcomes(server, scene, operation, NONSENSE[name]):
            assert error is not None, (question, found)
            check_words(error)
            assert error.slug == "malformed-answer", (question, error.message)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_node_that_refuses(server: Faulty, scene: Scene, name: str) -> None:
    harm, slug = REFUSALS[name]
    for question, operation in scene.operations.items():
        for found, error in outcomes(server, scene, operation, harm):
            assert error is not None, (question, found)
            check_words(error)
            assert error.slug == slug, (question, error.message)
            password = scene.node.cookie.read_text().partition(":")[2]
            assert password not in f"{error.message} {error.hint}"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value within a JSON value, the whole first."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value[:3]):
            yield from leaves(item, (*path, index))


def with_leaf(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """The same value with something else in that place; without it where ``new`` is ``...``."""
    if not path:
        return None if new is ... else new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = with_leaf(value[path[0]], path[1:], new)
    return copy


WRONG = (..., None, True, False, -1, 10**30, Decimal("0.5"), "", "zz", "00", "00" * 32, [], {}, [{}])  # type: ignore[var-annotated]


class Replay:
    """Answers requests as a node has answered them before, the ``nth`` one with another result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._replies: dict[str, list[Any]] = {}
        self._real = rpc.Rpc._ask
        self.results: list[Any] = []
        self.nth = 0
        self.result: object = None
        monkeypatch.setattr(rpc.Rpc, "_ask", lambda *parameters: self._ask(*parameters))

    def start(self, nth: int, result: object) -> None:
        """Begin anew."""
        self.results.clear()
        self.nth, self.result = nth, result

    def _ask(self, node: rpc.Rpc, message: Any, method: str, seconds: float | None) -> Any:
        requests = message if isinstance(message, list) else [message]
        key = json.dumps([[one["method"], one["params"]] for one in requests])
        if key not in self._replies:
            reply = self._real(node, message, method, seconds)
            self._replies[key] = reply if isinstance(reply, list) else [reply]
        replies = [
            {**known, "id": one["id"]} for known, one in zip(self._replies[key], requests, strict=True)
        ]
        self.results.append(replies[0]["result"])
        if len(self.results) == self.nth:
            replies = [{**reply, "result": self.result} for reply in replies]
        return replies if isinstance(message, list) else replies[0]


@pytest.mark.parametrize("question", ["tip", "unspent", "spent", "pending", "nowhere", "coins", "fee rate"])
def test_a_value_of_another_kind_in_any_place(
    scene: Scene, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place of each answer with each wrong value: an error, or that place does not matter."""
    operation = scene.operations[question]
    replay = Replay(monkeypatch)
    with scene.node.chain() as chain:
        right = operation(chain)
    results = list(replay.results)
    errors = 0
    for nth, result in enumerate(results, 1):
        for path in leaves(result):
            for wrong in WRONG:
                replay.start(nth, with_leaf(result, path, wrong))
                with scene.node.chain() as chain:
                    try:
                        found = operation(chain)
                    except ChainError as error:
                        check_words(error)
                        errors += 1
                        continue
                assert found == right or _plausible(path, wrong), (nth, path, wrong, found)
    assert errors > 10 * len(results)


def _plausible(path: tuple[Any, ...], wrong: object) -> bool:
    """Whether a node that says so could not be told from an honest one that knows another chain."""
    if path == ():
        return wrong in (..., None, {})  # no such output, no estimate
    if path == ("feerate",):
        return wrong in (..., None, {}, Decimal("0.5"))  # no estimate, or another one
    if path == ("unspents",):
        return wrong == []
    if path[-1] in ("value", "amount", "mempoolminfee", "minrelaytxfee", "feerate"):
        return wrong == Decimal("0.5")
    if path[-1] == "hex":
        return path[-2] == "scriptPubKey"  # type: ignore[no-any-return]
    if path[-1] == "coinbase":
        return wrong is True
    if path[-1] == "txid":
        return wrong == "00" * 32
    return wrong is ... and (path[-1] == "spendingtxid" or path[:-1] == ("unspents",))


@pytest.mark.parametrize("question", ["spent", "pending", "coins"])
def test_another_transaction_than_the_one_asked_for(
    scene: Scene, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is computed from its bytes, whatever the node says."""
    operation = scene.operations[question]
    replay = Replay(monkeypatch)
    with scene.node.chain() as chain:
        operation(chain)
    tried = 0
    for nth, result in enumerate(list(replay.results), 1):
        for path in leaves(result):
            value = result
            for step in path:
                value = value[step]
            if not isinstance(value, str) or value[:8] != "02000000":
                continue
            replay.start(nth, with_leaf(result, path, scene.open.to_hex()))
            with scene.node.chain() as chain, pytest.raises(ChainError) as error:
                operation(chain)
            assert error.value.slug == "malformed-answer"
            tried += 1
    assert tried


def test_a_lying_amount_is_no_float(server: Faulty, scene: Scene) -> None:
    """Digits beyond the satoshi, signs and exponents are refused, not rounded."""
    for text in (b"0.000500001", b"-0.0005", b"5e-4", b"1E-3", b"NaN", b"Infinity", b"21000001", b'"0.0005"'):
        server.set(body(lambda body: body.replace(b"0.00050000", text)), 2)  # noqa: B023
        chain = through(server, Credentials(scene.node.cookie))
        with chain, pytest.raises(ChainError, match="bitcoin"):
            chain.output(first(scene.open))


# time ---------------------------------------------------------------------------------------------


def _dripping(client: socket.socket, whole: bytes) -> None:
    client.settimeout(0.01)
    for start in range(0, len(whole), 100):
        client.sendall(whole[start : start + 100])
        with contextlib.suppress(TimeoutError):
            if not client.recv(1):  # the other side has given up
                return


def _dripping_for_long(client: socket.socket, whole: bytes) -> None:
    _dripping(client, answer(whole.partition(b"\r\n\r\n")[2] + b" " * 1_000_000))


@pytest.mark.parametrize("harm", [silent, _dripping_for_long])
def test_an_answer_that_does_not_come_in_time(server: Faulty, scene: Scene, harm: Harm) -> None:
    for name in ("tip", "spent"):
        for found, error in outcomes(server, scene, scene.operations[name], harm, seconds=0.2):
            assert found is None
            assert error is not None
            check_words(error)
            assert error.slug in ("unreachable", "malformed-answer")


def test_a_slow_answer_is_an_answer(server: Faulty, scene: Scene) -> None:
    right = the_right_answer(server, scene, scene.operations["tip"])
    for found, error in outcomes(server, scene, scene.operations["tip"], _dripping):
        assert error is None
        assert found == right


def test_an_answer_without_end(server: Faulty, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(client: socket.socket, _: bytes) -> None:
        client.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"result": "')
        while True:
            client.sendall(b"0" * 100_000)

    monkeypatch.setattr(rpc, "MAX_ANSWER_BYTES", 1_000_000)
    server.set(endless)
    with through(server, Credentials(scene.node.cookie)) as chain, pytest.raises(ChainError) as error:
        chain.tip()
    assert error.value.slug == "unreachable"
    assert "longer than 1000000 bytes" in error.value.message


# what is no harm ----------------------------------------------------------------------------------


def _chunked(client: socket.socket, whole: bytes) -> None:
    body = whole.partition(b"\r\n\r\n")[2]
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(body), 1000):
        part = body[start : start + 1000]
        client.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    client.sendall(b"0\r\n\r\n")


def _till_the_end(client: socket.socket, whole: bytes) -> None:
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + whole.partition(b"\r\n\r\n")[2])


def _and_closes(client: socket.socket, whole: bytes) -> None:
    client.sendall(whole.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))


def _and_is_gone(client: socket.socket, whole: bytes) -> None:
    client.sendall(whole)  # as a node that closes a connection which was idle for long


@pytest.mark.parametrize("harmless", [_chunked, _till_the_end, _and_closes, _and_is_gone])
def test_other_ways_to_answer(server: Faulty, scene: Scene, harmless: Harm) -> None:
    for name, operation in scene.operations.items():
        right = the_right_answer(server, scene, operation)
        for found, error in outcomes(server, scene, operation, harmless):
            assert error is None, (name, error)
            assert found == right, name


def test_a_broadcast_whose_answer_was_lost(server: Faulty, scene: Scene) -> None:
    """Whatever the moment: it can be asked again, and then the node has the transaction."""
    parent = scene.node.pay(fresh_script(), *[10_000] * 10)
    nth = 0
    while True:
        nth += 1
        transaction = spend(parent, 9_000, vout=nth)
        server.set(BREAKS["breaks off in the body"], nth)
        with through(server, Credentials(scene.node.cookie)) as chain, contextlib.suppress(ChainError):
            chain.broadcast(transaction)
        hit = server.asked >= nth
        server.set(None)
        with through(server, Credentials(scene.node.cookie)) as chain:
            chain.broadcast(transaction)
        assert str(transaction.txid) in scene.node.call("getrawmempool")
        if not hit:
            break
    assert nth == 4
    assert Path(scene.node.cookie).exists()
