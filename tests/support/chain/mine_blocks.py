"""A program of its own, as the sample scripts call it: ``python mine_blocks.py HOST:PORT COOKIE COUNT``.

It is to a Bitcoin Core node on a private chain what ``mpchan regtest mine`` is to the embedded one.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
from pathlib import Path


def main(address: str, cookie: str, count: str) -> None:
    """Mine blocks that hold the mempool; the reward goes to a script that nobody else has."""
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Authorization": "Basic " + base64.b64encode(Path(cookie).read_bytes()).decode()}
    request = {"method": "generatetodescriptor", "params": [int(count), f"raw(08{os.urandom(8).hex()})"]}
    connection.request("POST", "/", json.dumps(request), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["error"] is None, answer


if __name__ == "__main__":
    main(*sys.argv[1:])
