"""A client with a budget: pip install 'mpchan[http]'; python paid_client.py WALLET ADDRESS, as paid_api.py prints it.

The first call opens a channel of 20,000 sat and waits for a block. No call costs more than 10 sat, no day over 500.
"""

import json
import sys
from pathlib import Path

from mpchan.http.client.blocking import Client
from mpchan.http.client.purse import Purse

address, _, pin = sys.argv[2].partition("#pin-sha256=")
with (
    Purse(Path(sys.argv[1]), deposit=20_000, max_price=10, budget=500) as purse,
    Client(purse, pin=pin or None) as client,
):
    for number in range(1, 6):
        response = client.request("GET", f"{address}square/{number}")
        answer = json.loads(b"".join(response.parts(65_536)))
        print(answer["square"], "for", response.paid.charged if response.paid else 0, "sat", flush=True)
