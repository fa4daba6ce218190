"""The scheme's SDK for JavaScript, which we did not write: it reads the vectors, and drives our method to a receipt.

It comes from npm: pytest -m registry -n 0 tests/http/test_mppx.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from support.web.buying import buying

from mpchan.http.client.plug_in import PlugIn
from mpchan.http.wire.receipt import Receipt

pytestmark = pytest.mark.registry

PRICE = 1_000
PACKAGES = ("mppx@0.11.0", "viem@2.54.0")

READS = """
import { readFileSync } from 'node:fs'
import { Challenge, Credential, Receipt } from 'mppx'
const vectors = JSON.parse(readFileSync(process.argv[2]))
const secretKey = Buffer.from(vectors.keys.challengeSecret, 'hex').toString()
const found = {}
for (const [scheme, table] of Object.entries(vectors.constructions))
  found[scheme] = {
    challenges: table.challenges.map((each) => {
      const read = Challenge.deserialize(each.wwwAuthenticate)
      return { id: read.id, request: read.request, verified: Challenge.verify(read, { secretKey }) }
    }),
    credentials: table.credentials.map((each) => Credential.deserialize(each.authorization).payload),
    receipts: table.receipts.map((each) => Receipt.deserialize(each.paymentReceipt).reference),
  }
console.log(JSON.stringify(found))
"""

PAYS = """
import { Challenge, Method, z } from 'mppx'
import { Mppx } from 'mppx/client'
const [url, signer, times] = process.argv.slice(2)
const method = Method.toClient(
  Method.from({
    name: 'bitcoin',
    intent: 'session',
    schema: { credential: { payload: z.any() }, request: z.looseObject({}) },
  }),
  {
    async createCredential({ challenge }) {
      const answer = await fetch(signer, { method: 'POST', body: Challenge.serialize(challenge) })
      if (!answer.ok) throw new Error(await answer.text())
      return await answer.text()
    },
  },
)
const mppx = Mppx.create({ methods: [method], polyfill: false })
const receipts = []
for (let count = 0; count < Number(times); count++) {
  const headers = { 'Idempotency-Key': `request ${count}` }
  const response = await mppx.fetch(url, { method: 'POST', body: 'x', headers })
  const receipt = response.headers.get('payment-receipt')
  receipts.push({ status: response.status, text: await response.text(), receipt })
  if (receipt) await fetch(signer + 'ended', { method: 'POST', body: receipt })
}
console.log(JSON.stringify(receipts))
"""


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which it is installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("mppx")
    words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", *PACKAGES]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder


def run(folder: Path, program: str, *words: str) -> Any:
    """What one of the programs above says."""
    (folder / "program.mjs").write_text(program)
    result = subprocess.run(
        ["node", "program.mjs", *words],
        cwd=folder,
        env={**os.environ, "NODE_TLS_REJECT_UNAUTHORIZED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_it_reads_the_vectors(sdk: Path) -> None:
    path = Path(str(files("mpchan.http.wire").joinpath("vectors.json")))
    for scheme, found in run(sdk, READS, str(path)).items():
        table = json.loads(path.read_text())["constructions"][scheme]
        assert [each["request"] for each in found["challenges"]] == [
            e["request"] for e in table["challenges"]
        ]
        assert all(each["verified"] for each in found["challenges"])
        assert found["credentials"] == [each["payload"] for each in table["credentials"]]
        assert found["receipts"] == [table["channel"]["channelId"]] * len(table["receipts"])


@contextmanager
def signing(plug: PlugIn, asked: list[str]) -> Iterator[str]:
    """The plug-in behind a port, for a program in another language; challenges that it answered are noted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            if self.path == "/ended":
                plug.ended(Receipt.from_header(body).challenge_id, body)
                answer = b""
            else:
                asked.append(body)
                answer = plug.credential(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["decrementing", "taproot"])
def test_its_client_pays_our_server(sdk: Path, tmp_path: Path, chain_directory: Path, scheme: str) -> None:
    """In a channel that our own client has opened."""
    with buying(tmp_path, chain_directory, scheme, PRICE) as both, both.purse() as purse:
        with both.client(purse) as client:
            response = client.request("GET", both.url)
            assert response.status == 200
            response.release()
        asked: list[str] = []
        url = both.url.partition("#")[0]
        with signing(PlugIn(purse, url), asked) as signer:
            answers = run(sdk, PAYS, url, signer, "3")
        assert [(each["status"], each["text"]) for each in answers] == [(200, "hello x")] * 3
        spent = [Receipt.from_header(each["receipt"]).spent for each in answers]
        assert spent == [2 * PRICE, 3 * PRICE, 4 * PRICE]
        assert len(asked) == 3
        assert both.record().paid.sat == 4 * PRICE
