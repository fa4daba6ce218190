"""A program that asks once, and is killed before a step of its own choosing; run as ``python -m support.web.asking``.

    WALLET CHAIN URL KEY DEPOSIT STEP

``STEP`` counts what the program does that outlives it, or that others may see, from 1 on; 0 is for a whole run, which
says by lines on its standard output what its steps were, and in the last one what the server has charged in all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpchan import durability

_KILLED = 137


def main(wallet: str, chain_directory: str, url: str, key: str, deposit: str, at: str) -> None:
    """Ask."""
    count = 0

    def step(kind: str, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == int(at):
            os._exit(_KILLED)
        found = act(*args, **kwargs)
        print(kind)
        return found

    durability.step = step
    from mpchan.chain.embedded import EmbeddedChain
    from mpchan.http.client.blocking import Client
    from mpchan.http.client.purse import Purse

    def wait(seconds: float) -> None:
        with EmbeddedChain(Path(chain_directory)) as chain:
            chain.mine(1)

    purse = Purse(wallet, chain=lambda wallet: EmbeddedChain(Path(chain_directory)), deposit=int(deposit))
    with purse, Client(purse, wait=wait) as client:
        response = client.request("POST", url, body=b"you", key=key)
        body = response.raw.read()
        response.release()
    if response.status != 200 or body != b"hello you" or response.receipt is None:
        raise SystemExit(f"{response.status} {body!r:.80}")
    print(response.receipt.spent)


if __name__ == "__main__":
    main(*sys.argv[1:])
