"""JSON-RPC to a Bitcoin Core node over one HTTP connection that stays open.

Every request is one that may be repeated, also ``sendrawtransaction``. So where the node has closed a connection that
was idle, the request goes out once more on a new one.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union

from mpchan.chain.answer import Answer, Failure, read_json, words
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint
from mpchan.errors import ChainError
from mpchan.units import OutPoint

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0

MAX_ANSWER_BYTES = 500_000_000
"""The largest answer that is read: far above a block in hex, or a list of a full mempool."""

# Bitcoin Core's RPCErrorCode
METHOD_NOT_FOUND = -32601
IN_WARMUP = -28
NOT_FOUND = -5

_WITH_BODY = (200, 400, 404, 500)
"""HTTP statuses under which a node sends JSON: errors of the request itself have 400, 404 and 500."""

Reply = Union[Answer, Failure]


class Rpc:
    """A node that can be asked. One object serves one thread.

    Every call raises ``ChainError``: ``unreachable``, ``rpc-credentials``, ``warming-up``, ``node-busy`` or
    ``malformed-answer``.
    """

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials, *, seconds: float = ANSWER_SECONDS
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._seconds = seconds
        self._connection: HTTPConnection | None = None
        self._last_id = 0

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def call(self, method: str, *parameters: object, seconds: float | None = None) -> Answer:
        """The result of a request that the node must grant.

        Args:
            seconds: how long the answer may take.

        Raises:
            ChainError: ``rpc-error`` too, with the node's own words.
        """
        reply = self.attempt(method, *parameters, seconds=seconds)
        if isinstance(reply, Failure):
            raise self.refused(method, reply)
        return reply

    def attempt(self, method: str, *parameters: object, seconds: float | None = None) -> Reply:
        """The result of a request, or why the node refuses it."""
        request = self._request(method, parameters)
        reply = self._ask(request, method, seconds)
        return self._read(reply, request["id"], method)

    def attempt_all(self, method: str, calls: Sequence[Sequence[object]]) -> list[Reply]:
        """The same request with different parameters, all in one message; the replies in their order."""
        if len(calls) <= 1:
            return [self.attempt(method, *parameters) for parameters in calls]
        requests = [self._request(method, parameters) for parameters in calls]
        replies = self._ask(requests, method, None)
        if not isinstance(replies, list):  # the node did not even look at the single requests
            self._read(replies, None, method)
            raise self._malformed(method, replies)
        by_id = {
            reply["id"]: reply
            for reply in replies
            if isinstance(reply, dict) and type(reply.get("id")) is int
        }
        return [self._read(by_id.get(request["id"]), request["id"], method) for request in requests]

    def found(self, method: str, *parameters: object) -> Answer | None:
        """The result of a request about something; None where the node does not know that."""
        return self._found(method, self.attempt(method, *parameters))

    def found_all(self, method: str, calls: Sequence[Sequence[object]]) -> list[Answer | None]:
        """The same of many, as ``attempt_all``."""
        return [self._found(method, reply) for reply in self.attempt_all(method, calls)]

    def _found(self, method: str, reply: Reply) -> Answer | None:
        if isinstance(reply, Answer):
            return reply
        if reply.code == NOT_FOUND:
            return None
        raise self.refused(method, reply)

    def refused(self, method: str, failure: Failure) -> ChainError:
        """The error that a refusal is where nobody expected one."""
        hint = "mpchan needs Bitcoin Core 25 or newer" if failure.code == METHOD_NOT_FOUND else None
        reason = f"{words(failure.message)} (code {failure.code})"
        return ChainError("rpc-error", f"the node at {self.endpoint} refuses {method}: {reason}", hint=hint)

    # requests and replies -------------------------------------------------------------------------

    def _request(self, method: str, parameters: Sequence[object]) -> dict[str, Any]:
        self._last_id += 1
        return {"id": self._last_id, "method": method, "params": list(parameters)}

    def _ask(self, message: object, method: str, seconds: float | None) -> Any:
        body = json.dumps(message).encode()
        status, data = self._exchange(body, self._seconds if seconds is None else seconds)
        if status not in _WITH_BODY:
            raise self._odd_status(status)
        try:
            return read_json(data)
        except ValueError:
            raise self._malformed(method, data[:80]) from None

    def _read(self, reply: Any, request_id: int | None, method: str) -> Reply:
        if not isinstance(reply, dict):
            raise self._malformed(method, reply)
        error, answered = reply.get("error"), reply.get("id")
        # a node that could not read the request does not know its id
        fits = type(answered) is int and answered == request_id
        if isinstance(error, dict) and (fits or answered is None):
            code, message = error.get("code"), error.get("message")
            if type(code) is int and isinstance(message, str):
                return self._failure(code, message)
        if not fits or error is not None or "result" not in reply:
            raise self._malformed(method, reply)
        return Answer(reply["result"], method)

    def _failure(self, code: int, message: str) -> Failure:
        if code == IN_WARMUP:
            raise ChainError(
                "warming-up",
                f"the node at {self.endpoint} is still starting: {words(message)}",
                hint="try again in a moment",
            )
        return Failure(code, message)

    def _malformed(self, method: str, found: object) -> ChainError:
        shown = repr(found)
        return ChainError(
            "malformed-answer",
            f"the answer of {self.endpoint} to {method} makes no sense: {shown:.80}{'…' if len(shown) > 80 else ''}",
            hint="is it Bitcoin Core that listens there?",
        )

    def _odd_status(self, status: int) -> ChainError:
        if status == 401:
            return ChainError(
                "rpc-credentials",
                f"the node at {self.endpoint} does not accept {self._credentials} (HTTP status 401)",
                hint="does the cookie belong to this node? or is the password another one?",
            )
        if status == 403:
            return ChainError(
                "rpc-credentials",
                f"the node at {self.endpoint} forbids us what we ask (HTTP status 403)",
                hint="see rpcallowip and rpcwhitelist in the node's bitcoin.conf",
            )
        if status == 503:
            return ChainError(
                "node-busy",
                f"the node at {self.endpoint} has too many requests waiting (HTTP status 503)",
                hint="try again in a moment",
            )
        return ChainError(
            "malformed-answer",
            f"{self.endpoint} answers with HTTP status {status}",
            hint="is it Bitcoin Core that listens there?",
        )

    # HTTP -----------------------------------------------------------------------------------------

    def _exchange(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        """Post a message; HTTP status and body of the answer."""
        from http.client import HTTPException

        credentials = self._credentials.read()
        while True:
            reused = self._connection is not None
            try:
                status, data = self._post(body, credentials, seconds)
            except (OSError, HTTPException, UnicodeError) as error:
                self.close()
                if not (reused and isinstance(error, ConnectionError)):
                    raise self._unreachable(error) from error
            else:
                if status != 401 or credentials == self._credentials.read():
                    return status, data
                credentials = self._credentials.read()  # the node was restarted and has a new cookie
                self.close()

    def _post(self, body: bytes, credentials: str, seconds: float) -> tuple[int, bytes]:
        deadline = time.monotonic() + seconds
        if self._connection is None:
            self._connection = self._connect(min(seconds, CONNECT_SECONDS))
        connection = self._connection
        token = base64.b64encode(credentials.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        connection.sock.settimeout(seconds)
        connection.request("POST", self.endpoint.path, body, headers)
        sock = connection.sock
        response = connection.getresponse()
        try:
            data = _body(response, sock, deadline)
        finally:
            response.close()
        if connection.sock is None:  # the node wants to be asked anew
            self.close()
        return response.status, data

    def _connect(self, seconds: float) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        kind = HTTPSConnection if self.endpoint.tls else HTTPConnection
        connection = kind(self.endpoint.host, self.endpoint.port, timeout=seconds)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _unreachable(self, error: Exception) -> ChainError:
        if isinstance(error, TimeoutError):
            return ChainError(
                "unreachable",
                f"the node at {self.endpoint} does not answer in time",
                hint="is it busy? try again later",
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ChainError(
            "unreachable",
            f"cannot reach a node at {self.endpoint}: {words(str(reason)).lower()}",
            hint="is bitcoind running with server=1, and is chain.rpc_url in wallet.toml right?",
        )


def _body(response: HTTPResponse, sock: Any, deadline: float) -> bytes:
    """The whole body, before the deadline, however slowly it drips."""
    left = response.length  # None where only the end of the stream ends it
    parts = []
    total = 0
    while left is None or left > 0:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        sock.settimeout(seconds)
        part = response.read1(1 << 20 if left is None else min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        total += len(part)
        left = None if left is None else left - len(part)
        if total > MAX_ANSWER_BYTES:
            raise ConnectionError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    if left:
        raise ConnectionError(f"its answer broke off {left} bytes before the end")
    return b"".join(parts)


# one question about many things -------------------------------------------------------------------


T = TypeVar("T")

QUESTIONS_AT_ONCE = 1_000


def portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one message asks about."""
    for start in range(0, len(things), QUESTIONS_AT_ONCE):
        yield things[start : start + QUESTIONS_AT_ONCE]


def granted(rpc: Rpc, method: str, questions: Sequence[Sequence[object]]) -> list[Answer]:
    """The answers to requests that the node must grant, sent in one message."""
    answers = []
    for reply in rpc.attempt_all(method, questions):
        if isinstance(reply, Failure):
            raise rpc.refused(method, reply)
        answers.append(reply)
    return answers


def spenders(rpc: Rpc, outpoints: Sequence[OutPoint]) -> Iterator[tuple[OutPoint, Answer]]:
    """What the node says of what spends each output; in the mempool, unless it happens to keep an index of spends.

    Such a node answers about those first that its mempool spends.
    """
    for part in portions(outpoints):
        query = [{"txid": str(outpoint.txid), "vout": outpoint.vout} for outpoint in part]
        answer = rpc.call("gettxspendingprevout", query)
        found = {item.outpoint(): item for item in answer.exactly(len(part))}
        if found.keys() != set(part):
            raise answer.malformed("about the outputs that were asked for")
        yield from found.items()
