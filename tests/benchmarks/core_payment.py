"""A payment in a channel as one would make it by hand: Bitcoin Core's wallets hold the keys, bitcoin-cli carries."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from support.chain.node import Node

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.base58 import base58check_encode
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import key_to_p2wpkh_script, script_to_p2wsh_script, two_of_two_script
from mpchan.bitcoin.signature import PrivateKey

CAPACITY = 1_000_000


class CorePayment:
    """A channel's funding on a node, and a wallet for each party.

    Args:
        node: with wallets.
        program: path of bitcoin-cli.
    """

    def __init__(self, node: Node, program: str) -> None:
        self._cli = [program, "-regtest", f"-datadir={node.directory}", f"-rpcport={node.port}"]
        keys = [PrivateKey(bytes([number] * 32)) for number in (11, 22)]
        publics = [key.public_key.sec for key in keys]
        funding = node.pay(script_to_p2wsh_script(two_of_two_script(*publics)), CAPACITY)
        node.mine(1)
        self._input = {"txid": str(funding.txid), "vout": 0, "sequence": 0xFFFF_FFFD}
        self._addresses = []
        for at, name in enumerate(("payer", "payee")):
            parts = [public.hex() for public in publics]
            parts[at] = base58check_encode(b"\xef" + keys[at].to_bytes() + b"\x01")
            descriptor = f"wsh(sortedmulti(2,{','.join(parts)}))"
            checksum = node.call("getdescriptorinfo", descriptor)["checksum"]
            node.call("createwallet", name, False, True)
            entry = {"desc": f"{descriptor}#{checksum}", "timestamp": 0}
            [done] = node.call("importdescriptors", [entry], wallet=name)
            assert done["success"], done
            self._addresses.append(script_to_address(key_to_p2wpkh_script(publics[at]), REGTEST) or "")

    def _run(self, *words: object, wallet: str | None = None) -> Any:
        options = [] if wallet is None else [f"-rpcwallet={wallet}"]
        texts = [each if isinstance(each, str) else json.dumps(each) for each in words]
        done = subprocess.run([*self._cli, *options, *texts], capture_output=True, text=True, check=True)
        return json.loads(done.stdout) if done.stdout[:1] == "{" else done.stdout.strip()

    def make(self, number: int) -> dict[str, float]:
        """Update ``number``; the seconds that each step took.

        The payer creates and signs; the payee looks at what it got, and adds its signature, which verifies the other.
        """
        paid = 10_000 * number
        outputs = [{self._addresses[0]: (CAPACITY - 1000 - paid) / 1e8}, {self._addresses[1]: paid / 1e8}]
        times, start = {}, time.perf_counter()
        psbt = self._run("createpsbt", [self._input], outputs, 2_000_000_000 - number)
        times["create"] = time.perf_counter() - start
        start = time.perf_counter()
        signed = self._run("walletprocesspsbt", psbt, wallet="payer")
        assert signed["complete"] is False
        times["sign"] = time.perf_counter() - start
        start = time.perf_counter()
        seen = self._run("decodepsbt", signed["psbt"])
        assert len(seen["inputs"][0]["partial_signatures"]) == 1
        times["look"] = time.perf_counter() - start
        start = time.perf_counter()
        done = self._run("walletprocesspsbt", signed["psbt"], wallet="payee")
        assert done["complete"] is True
        times["countersign"] = time.perf_counter() - start
        return times
