"""One connection of HTTP/1.1, with a limit to whatever its client may take time or memory for.

uvicorn's protocol reads and writes; by itself it waits for ever for a header, and takes one of any size.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mpchan.http.listening.door import Door, Guest

HEAD_SECONDS = 5.0
STALL_SECONDS = 30.0
IDLE_SECONDS = 300
"""What a client may take for the head of a request, for each part of a body or of an answer that it takes in, and
between two requests."""

MOST_HEAD_BYTES = 65_536


class Guarded(HttpToolsProtocol):
    """A connection that has a place at the door.

    Args:
        config, server_state, app_state, loop: as uvicorn has them.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        door: Door,
        guest: Guest,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._door = door
        self._guest = guest
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._head = 0
        self._in_head = True
        self._refused = False

    # connections ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is over: the first request is to come."""
        super().connection_made(transport)
        self._guest.leave = transport.abort
        if self._guest.has_to_go:
            transport.abort()
        self._within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._within(None)
        if self._writing is not None:
            self._writing.cancel()
        self._door.left(self._guest)
        super().connection_lost(exc)

    def _within(self, seconds: float | None) -> None:
        """The connection ends unless something comes in time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self.transport.abort()

    # what comes in --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is too long ends here."""
        if self._refused:
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._refused:
            return
        if self._in_head and self._head > MOST_HEAD_BYTES:
            self._refuse("Request header fields too large.")
        elif not self._in_head and self.cycle is not None and self.cycle.more_body:
            self._within(STALL_SECONDS)

    def on_message_begin(self) -> None:
        """A request begins: its head is to come in time."""
        self._in_head, self._head = True, 0
        self._within(HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there: exactly one Host belongs in it (RFC 9112, section 3.2)."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MOST_HEAD_BYTES:
            self._refuse("Request header fields too large.")  # it came in one part with what follows
            return
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and not (not hosts and self.parser.get_http_version() == "1.0"):
            self._refuse("Exactly one Host is needed.")
            return
        self._in_head = False
        self._within(None)
        self._guest.note(busy=True)
        self.scope["extensions"] = {"mpchan.paid": {"note": self._note_paid}}
        super().on_headers_complete()

    def _note_paid(self) -> None:
        self._guest.paid = True

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of a request is there."""
        if not self._refused:
            self._within(None)
            super().on_message_complete()

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._within(HEAD_SECONDS)  # whoever does not take the answer in does not hold the connection
        self.send_400_response(why)

    # what goes out --------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An answer has left: another request may come."""
        if not self.pipeline:
            self._guest.note(busy=False)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client takes nothing in for the moment."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(STALL_SECONDS, self._too_slow)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
