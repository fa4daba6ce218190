"""Sockets, TLS, and the thread that serves what comes in."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from ssl import SSLContext
from typing import Any

import uvicorn

from mpchan.errors import MpchanError, NotPossible, StorageError
from mpchan.http.certificates import Certificate, server_context
from mpchan.http.listening.door import MOST_CONNECTIONS, Door, Guest
from mpchan.http.listening.protocol import IDLE_SECONDS, Guarded
from mpchan.transport.places import source_of

HANDSHAKE_SECONDS = 5.0
_GRACE_SECONDS = 10
_BACKLOG = 512
_BREATH_SECONDS = 0.1
_LAST_TURNS = 100
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, on IPv4 too where the host is ``::``.

    Raises:
        NotPossible: ``cannot-listen``.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (str(where[0]), port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise NotPossible("cannot-listen", f"{host} port {port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


class Listening:
    """An application that is served, in a thread of its own; use it as a context manager.

    Args:
        app: any ASGI application.
        host, port: where to listen; port 0 takes any that is free.
        certificate: None for plain HTTP.
        trusted: addresses of proxies in front, which are believed what they say of their clients.
        most: as ``Door`` has it.

    Attributes:
        port: where it listens.

    Raises:
        NotPossible: ``cannot-listen``.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        certificate: Certificate | None,
        *,
        trusted: Sequence[str] = (),
        most: int = MOST_CONNECTIONS,
    ) -> None:
        context = None if certificate is None else server_context(certificate)
        self._socket = listening_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=Guarded,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted),
            forwarded_allow_ips=list(trusted),
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = _Server(config, context, frozenset(trusted), Door(most))
        self._failure: BaseException | None = None
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        self._began.wait()
        if self._failure is not None:
            self.__exit__()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more, let what is served come to its end, and raise what has ended it before.

        Raises:
            MpchanError: the application did not start, or the server has failed.
        """
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        if isinstance(self._failure, (MpchanError, KeyboardInterrupt)):
            raise self._failure
        if self._failure is not None:
            raise NotPossible("server-failed", f"the server has ended: {self._failure!s:.200}")

    @property
    def has_ended(self) -> bool:
        """Whether it serves no more, for whatever reason."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            loop = _new_loop()
            try:
                loop.run_until_complete(self._server.serving(self._socket, self._began))
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()
        except BaseException as error:  # noqa: BLE001  # the other thread raises it
            self._failure = error
        finally:
            self._began.set()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _Server(uvicorn.Server):
    """uvicorn's, with an entrance of its own: who has no place is not even greeted."""

    def __init__(
        self, config: uvicorn.Config, context: SSLContext | None, trusted: frozenset[str], door: Door
    ) -> None:
        super().__init__(config)
        self._context = context
        self._trusted = trusted
        self._door = door
        self._entering: set[asyncio.Task[None]] = set()
        self._proxied = 0

    async def serving(self, listener: socket.socket, began: threading.Event) -> None:
        """Serve until ``should_exit`` is set."""
        if not self.config.loaded:
            self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise StorageError("server-failed", "the service did not start: " + _why(self.lifespan))
        self.servers = []
        accepting = asyncio.get_running_loop().create_task(self._accept(listener))
        self.started = True
        began.set()
        try:
            await self.main_loop()
        finally:
            accepting.cancel()
            for task in list(self._entering):
                task.cancel()
            self._door.close()
            await self.shutdown()
            for _ in range(_LAST_TURNS):
                if not self._door.close(all_of_them=True):
                    break
                await asyncio.sleep(0.01)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _TOO_MANY_FILES:
                    await asyncio.sleep(_BREATH_SECONDS)
                continue
            guest = self._door.enter(self._source(peer[0]), connection.close)
            if guest is None:
                connection.close()
                continue
            task = loop.create_task(self._enter(loop, connection, guest))
            guest.leave = task.cancel  # type: ignore[assignment]
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _source(self, host: str) -> str:
        """A proxy's connections are those of its clients: none of them is bounded by the others."""
        if host in self._trusted:
            self._proxied += 1
            return f"{host} {self._proxied}"
        return source_of(host)

    async def _enter(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, guest: Guest) -> None:
        """The handshake."""

        def protocol() -> Guarded:
            return Guarded(self.config, self.server_state, self.lifespan.state, loop, self._door, guest)

        entered = False
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls: dict[str, Any] = {}
            if self._context is not None:
                tls = {"ssl": self._context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
            await loop.connect_accepted_socket(protocol, connection, **tls)
            entered = True
        except OSError:  # it has gone, is no TLS, or takes too long for it
            pass
        finally:
            if not entered:
                self._door.left(guest)
                with suppress(OSError):
                    connection.close()


def _why(lifespan: Any) -> str:
    """What the application has said of it."""
    return str(getattr(lifespan, "startup_failed_message", "") or "see its log")
