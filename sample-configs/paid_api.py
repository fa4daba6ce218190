"""An API that costs 10 sat a call: pip install 'mpchan[http]' starlette; python paid_api.py WALLET.

WALLET is the payee's, and `mpchan watch` looks after its channels beside this. Clients need the address that it prints.
"""

import signal
import sys
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mpchan.http.certificates import own_certificate, pinned_url
from mpchan.http.listening.server import Listening
from mpchan.http.server.paid import Paid


async def square(request: Request) -> JSONResponse:
    number = request.path_params["number"]
    return JSONResponse({"square": number**2, "paid_sat": request.scope["mpchan"].amount})


wallet = Path(sys.argv[1])
certificate = own_certificate(wallet)
app = Paid(Starlette(routes=[Route("/square/{number:int}", square)]), wallet, 10)
with Listening(app, "127.0.0.1", 8402, certificate) as listening, suppress(KeyboardInterrupt):
    print(pinned_url(f"https://127.0.0.1:{listening.port}/", certificate), flush=True)
    signal.pause()
