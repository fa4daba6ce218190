"""What ``mpchan payee serve`` tells, line by line: JSON, or words for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mpchan.cli.render.watch_lines import Lines
from mpchan.party.watch.watcher import clock
from mpchan.results.base import Result
from mpchan.results.web import ServiceChannel, ServiceStarted

if TYPE_CHECKING:
    from mpchan.http.server.desk import ChannelEvent


class ServiceLines(Lines):
    """A watcher's lines, and those of a service."""

    def started(self, url: str) -> None:
        """Clients are served from now on."""
        now = clock(time.time())
        self._tell(f"{now}  serving at {url}", ServiceStarted(now, "serving", url))
        self._app.say(f"clients run `mpchan payer fetch '{url}' --deposit N`")

    def service(self, event: ChannelEvent) -> None:
        """A channel was opened or closed."""
        now = clock(time.time())
        words = f"channel {event.channel} is {event.kind}"
        if event.kind == "closed":
            words += f" by {event.txid}: {event.paid:,} sat"
        self._tell(f"{now}  {words}", ServiceChannel(now, event.kind, event.channel, event.paid, event.txid))

    def _tell(self, line: str, result: Result) -> None:
        if self._app.json:
            self._print(result.to_json())
        elif not self._app.quiet:
            self._print(line)
