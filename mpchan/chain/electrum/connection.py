"""JSON-RPC with an Electrum server: one request or answer a line, over one connection that stays open.

Many requests go out at once, each on a line of its own, and the answers are matched by their numbers: every server
understands that, while not every one understands JSON-RPC's batches. Every request is one that may be repeated, also a
broadcast. So where the server has closed a connection that was idle, the requests go out once more on a new one.

A server may keep short answers back for a second, so that somebody who watches the line sees packets of one size alone
(ElectrumX 2). While an answer is awaited we therefore ask for something longer besides, which pushes it out.

There is no client library here. The one of the Electrum project (aiorpcX) and the others that exist are built on
asyncio, whose import alone takes longer than a whole `pay`, and none of them checks proofs: what is left is this
page.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Union

from mpchan.chain.answer import Answer, Decimal, Failure, read_json, words
from mpchan.chain.electrum.address import Proxy, Server
from mpchan.chain.electrum.certificates import Certificates
from mpchan.chain.electrum.dialling import dial
from mpchan.errors import ChainError
from mpchan.units import MAX_MONEY_SAT, FeeRate

CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 60.0

MAX_ANSWER_BYTES = 40_000_000
"""The most that the answers to one exchange may bring: far above what ``REQUESTS_AT_ONCE`` usual transactions take."""

REQUESTS_AT_ONCE = 50

MIN_PROTOCOL, MAX_PROTOCOL = "1.4", "1.6"
_NAME = "mpchan"  # without a version: it is no server's business

_PART_BYTES = 1 << 16
_FIRST_PUSH_SECONDS = 0.01
_SHORTEST_PUSH_SECONDS = 0.002
_PUSH = ("blockchain.block.headers", [0, 8])  # answered with more than a thousand bytes
_SATOSHI_DIGITS = 8
_RATE = r"(-)?([0-9]{1,20})(?:\.([0-9]{1,30}))?(?:[eE]([+-]?[0-9]{1,2}))?"

Request = tuple[str, Sequence[object]]
"""Method and parameters."""


class ServerAnswer(Answer):
    """One value of a server's answer."""

    __slots__ = ()

    source: ClassVar[str] = "the Electrum server"
    doubt: ClassVar[str] = "is it an Electrum server that listens there?"

    def rate(self) -> FeeRate | None:
        """A fee rate in bitcoin per 1000 virtual bytes, rounded up; None for a negative one, which stands for none.

        Servers pass on binary fractions in any notation, such as 1.001e-05.
        """
        text = str(self._value) if type(self._value) in (int, Decimal) else ""
        match = re.fullmatch(_RATE, text, re.ASCII)
        if match is None:
            raise self.malformed("a fee rate")
        minus, whole, decimals, exponent = match.groups()
        if minus:
            return None
        digits = int(whole + (decimals or ""))
        shift = _SATOSHI_DIGITS - len(decimals or "") + int(exponent or 0)
        satoshi = digits * 10**shift if shift >= 0 else -(-digits // 10**-shift)
        if satoshi > MAX_MONEY_SAT:
            raise self.malformed("a fee rate")
        return FeeRate(satoshi)


Reply = Union[ServerAnswer, Failure]


class Connection:
    """A server that can be asked. One object serves one thread.

    Every call raises ``ChainError``: ``unreachable``, ``certificate-changed``, ``proxy-missing``,
    ``malformed-answer``, or ``rpc-error`` with the server's own words.

    Args:
        seconds: how long the answers to one exchange may take.
    """

    def __init__(
        self,
        server: Server,
        proxy: Proxy | None,
        certificates: Certificates,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.server = server
        self._proxy = proxy
        self._certificates = certificates
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._last_id = 0
        self._pushes: set[int] = set()
        self._patience = _FIRST_PUSH_SECONDS
        self.protocol: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._socket = self._socket, None
        self._buffer.clear()
        self._pushes.clear()
        if connection is not None:
            connection.close()

    def call(self, method: str, *parameters: object) -> ServerAnswer:
        """The result of a request that the server must grant."""
        reply = self.attempt(method, *parameters)
        if isinstance(reply, Failure):
            raise self.refused(method, reply)
        return reply

    def attempt(self, method: str, *parameters: object) -> Reply:
        """The result of a request, or why the server refuses it."""
        [reply] = self.attempt_all([(method, parameters)])
        return reply

    def call_all(self, requests: Sequence[Request]) -> list[ServerAnswer]:
        """The results of many requests, all of which the server must grant, in their order."""
        results = []
        for (method, _), reply in zip(requests, self.attempt_all(requests), strict=True):
            if isinstance(reply, Failure):
                raise self.refused(method, reply)
            results.append(reply)
        return results

    def attempt_all(self, requests: Sequence[Request]) -> list[Reply]:
        """The results of many requests, or why the server refuses them, in their order."""
        replies: list[Reply] = []
        for start in range(0, len(requests), REQUESTS_AT_ONCE):
            replies += self._exchange_again(requests[start : start + REQUESTS_AT_ONCE])
        return replies

    def refused(self, method: str, failure: Failure) -> ChainError:
        """The error that a refusal is where nobody expected one."""
        return ChainError("rpc-error", f"the server {self.server} refuses {method}: {words(failure.message)}")

    # exchanges ------------------------------------------------------------------------------------

    def _exchange_again(self, requests: Sequence[Request]) -> list[Reply]:
        while True:
            reused = self._socket is not None
            try:
                if not reused:
                    self._open()
                return self._exchange(requests)
            except (OSError, UnicodeError) as error:
                self.close()
                if not (reused and isinstance(error, ConnectionError)):
                    raise self._unreachable(error) from error
            except BaseException:
                self.close()  # answers to these requests may still be under way
                raise

    def _open(self) -> None:
        if self.server.tls:
            self._socket = self._certificates.wrap(self.server, self._dial)
        else:
            self._socket = self._dial()
        [reply] = self._exchange([("server.version", [_NAME, [MIN_PROTOCOL, MAX_PROTOCOL]])])
        if isinstance(reply, Failure):
            raise self.refused("server.version", reply)
        agreed = reply.item(1)
        numbers = agreed.text().split(".")
        if not all(number.isascii() and number.isdecimal() and len(number) < 5 for number in numbers):
            raise agreed.malformed("a protocol's version")
        self.protocol = tuple(map(int, numbers))

    def _dial(self) -> socket.socket:
        return dial(self.server, self._proxy, min(CONNECT_SECONDS, self._seconds))

    def _exchange(self, requests: Sequence[Request]) -> list[Reply]:
        began = time.monotonic()
        deadline = began + self._seconds
        numbers = self._send(requests, deadline)
        replies: dict[int, Reply] = {}
        budget = MAX_ANSWER_BYTES
        while len(replies) < len(requests):
            line, budget = self._line(deadline, budget)
            message = self._message(line)
            if "method" in message:
                continue  # news that were subscribed to: the next question asks for them anyway
            number = message.get("id")
            if type(number) is int and number in self._pushes:
                self._pushes.remove(number)
            elif type(number) is int and number in numbers and number not in replies:
                replies[number] = self._reply(message, requests[numbers.index(number)][0], line)
            else:
                raise self._malformed("answers what was not asked", line)
        # not before the quickest answer so far could have come, but soon after
        self._patience = max(min(self._patience, 1.5 * (time.monotonic() - began)), _SHORTEST_PUSH_SECONDS)
        return [replies[number] for number in numbers]

    def _send(self, requests: Sequence[Request], deadline: float) -> range:
        """Send requests; their numbers."""
        assert self._socket is not None
        numbers = range(self._last_id + 1, self._last_id + 1 + len(requests))
        self._last_id = numbers[-1]
        lines = [
            json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": list(parameters)}) + "\n"
            for number, (method, parameters) in zip(numbers, requests, strict=True)
        ]
        self._socket.settimeout(_left(deadline))
        self._socket.sendall("".join(lines).encode())
        return numbers

    def _line(self, deadline: float, budget: int) -> tuple[bytes, int]:
        """One line, however slowly it drips, and how many bytes may still come."""
        searched, patience = 0, self._patience
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line, budget
            searched = len(self._buffer)
            part = self._receive(deadline, patience)
            if part is None:
                self._pushes.update(self._send([_PUSH], deadline))
                patience *= 2
                continue
            if not part:
                raise ConnectionError("it broke off the connection")
            budget -= len(part)
            if budget < 0:
                raise self._malformed(f"answers with more than {MAX_ANSWER_BYTES} bytes", b"")
            self._buffer += part

    def _receive(self, deadline: float, patience: float) -> bytes | None:
        """What comes next; None where nothing does for so many seconds."""
        assert self._socket is not None
        left = _left(deadline)
        self._socket.settimeout(min(left, patience))
        try:
            return self._socket.recv(_PART_BYTES)
        except TimeoutError:
            if patience >= left:
                raise
            return None

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = read_json(line)
        except ValueError:
            raise self._malformed("sends what is no JSON", line) from None
        if not isinstance(message, dict):
            raise self._malformed("sends what is no answer", line)
        return message

    def _reply(self, message: dict[str, Any], method: str, line: bytes) -> Reply:
        error = message.get("error")
        if error is None:
            if "result" not in message:
                raise self._malformed("sends neither a result nor an error", line)
            return ServerAnswer(message["result"], method)
        if isinstance(error, str):
            return Failure(0, error)
        text, code = (error.get("message"), error.get("code")) if isinstance(error, dict) else (None, None)
        if not isinstance(text, str) or type(code) is not int:
            raise self._malformed("sends an error without words", line)
        return Failure(code, text)

    # errors ---------------------------------------------------------------------------------------

    def _malformed(self, what: str, line: bytes) -> ChainError:
        shown = f": {line[:80]!r}" if line else ""
        return ChainError(
            "malformed-answer", f"the server {self.server} {what}{shown}", hint=ServerAnswer.doubt
        )

    def _unreachable(self, error: OSError | UnicodeError) -> ChainError:
        if isinstance(error, TimeoutError):
            reason = "it does not answer in time"
        else:
            reason = words(str(getattr(error, "strerror", None) or error or type(error).__name__))
            reason = reason[:1].lower() + reason[1:]
        hint = "is chain.electrum in wallet.toml right, and chain.proxy where there is one?"
        return ChainError("unreachable", f"cannot reach the server {self.server}: {reason}", hint=hint)


def _left(deadline: float) -> float:
    """The seconds until then."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
