"""A server with a certificate of its own, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from mpchan.http.certificates import own_certificate, pinned_url


@contextmanager
def served(app: Any, directory: Path) -> Iterator[str]:
    """The address of an application that is served over TLS, with its pin."""
    certificate = own_certificate(directory)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="error",
        ssl_certfile=str(certificate.path),
        ssl_keyfile=str(certificate.key),
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
    [socket] = server.servers[0].sockets
    try:
        yield pinned_url(f"https://127.0.0.1:{socket.getsockname()[1]}/", certificate)
    finally:
        server.should_exit = True
        thread.join()
