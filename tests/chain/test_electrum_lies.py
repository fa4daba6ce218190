"""A lying Electrum server: it can withhold, but it cannot fake a confirmation, whatever it answers."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chain.bitcoind import account, first, fresh_script, spend
from support.chain.electrum_server import ElectrumServer
from support.chain.lying import Harm, Liar, Lie, Refuse, Silence, lying

from mpchan.bitcoin.network import REGTEST
from mpchan.chain.electrum import ElectrumChain, connection, pool
from mpchan.chain.electrum.address import Server
from mpchan.chain.electrum.rules import RULES
from mpchan.errors import ChainError
from mpchan.units import ChainTip, FeeRate, OutPoint

GET = "blockchain.transaction.get"
MERKLE = "blockchain.transaction.get_merkle"
HISTORY = "blockchain.scripthash.get_history"
UNSPENT = "blockchain.scripthash.listunspent"
TIP = "blockchain.headers.subscribe"
HEADERS = "blockchain.block.headers"

OTHER = "ab" * 32


@pytest.fixture
def liar(electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    monkeypatch.setattr(pool, "PAUSES", (0.01,))  # its lies do not pass, whatever the wait
    with lying(electrum.port) as server:
        yield server


class Case:
    """A funding with three confirmations, its spend with one, and one that waits in the mempool."""

    def __init__(self, electrum: ElectrumServer) -> None:
        node = electrum.node
        self.script = fresh_script()
        self.funding = node.pay(self.script, 50_000, 60_000)
        node.mine(2)
        self.close = spend(self.funding, 49_000, script=fresh_script())
        node.call("sendrawtransaction", self.close.to_hex())
        node.mine(1)
        self.waiting = node.pay(fresh_script(), 70_000)
        electrum.settle()
        self.truth = account(node)


@pytest.fixture(scope="module")
def case(electrum: ElectrumServer) -> Case:
    """One for all: whoever mines more looks at ``truth`` no more."""
    return Case(electrum)


def refusal(look: Callable[[], object]) -> ChainError:
    with pytest.raises(ChainError) as caught:
        look()
    assert caught.value.exit_code == 8
    return caught.value


def test_the_go_between_is_transparent(liar: Liar, case: Case, electrum: ElectrumServer) -> None:
    """Without a lie the answers are true: what the other tests see is due to the lies."""
    truth = account(electrum.node)
    with liar.chain() as chain:
        for transaction in (case.funding, case.close, case.waiting):
            assert chain.output(first(transaction)) == truth[first(transaction)]


# confirmations ------------------------------------------------------------------------------------


def height_lie(change: Callable[[int], int]) -> Lie:
    return lambda parameters, history: [{**item, "height": change(item["height"])} for item in history]


CONFIRMATIONS: dict[str, tuple[str, Lie]] = {
    "one block earlier": (HISTORY, height_lie(lambda height: height - 1 if height > 0 else height)),
    "one block later": (HISTORY, height_lie(lambda height: height + 1 if height > 0 else height)),
    "at block 1": (HISTORY, height_lie(lambda height: 1)),
    "above the tip": (HISTORY, height_lie(lambda height: height + 1000)),
    "a proof for another position": (MERKLE, lambda parameters, proof: {**proof, "pos": proof["pos"] ^ 1}),
    "a position that no block has": (MERKLE, lambda parameters, proof: {**proof, "pos": 1 << 20}),
    "a proof without its last step": (
        MERKLE,
        lambda parameters, proof: {**proof, "merkle": proof["merkle"][:-1]},
    ),
    "a proof with a step too many": (
        MERKLE,
        lambda parameters, proof: {**proof, "merkle": [*proof["merkle"], OTHER]},
    ),
    "a proof with another hash": (MERKLE, lambda parameters, proof: {**proof, "merkle": [OTHER]}),
    "a proof of endless length": (MERKLE, lambda parameters, proof: {**proof, "merkle": [OTHER] * 10_000}),
    "no proof": (MERKLE, lambda parameters, proof: refuse("no such transaction")),
}


def refuse(words: str) -> None:
    raise Refuse(words)


@pytest.mark.parametrize("name", CONFIRMATIONS)
def test_a_false_confirmation(liar: Liar, case: Case, name: str) -> None:
    """Never another depth, never silently none."""
    method, lie = CONFIRMATIONS[name]
    liar.lies[method] = lie
    with liar.chain() as chain:
        error = refusal(lambda: chain.output(OutPoint(case.funding.txid, 1)))
    assert error.slug in ("proof-refused", "chain-moving"), error.message
    assert (error.slug == "chain-moving") == (name == "above the tip")


def test_a_transaction_of_the_mempool_that_is_called_confirmed(liar: Liar, case: Case) -> None:
    liar.lies[HISTORY] = height_lie(lambda height: 100)
    liar.lies[MERKLE] = lambda parameters, proof: {"block_height": 100, "pos": 0, "merkle": []}
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(first(case.waiting))).slug == "proof-refused"


def test_the_proof_of_another_transaction(liar: Liar, case: Case, electrum: ElectrumServer) -> None:
    """A true proof, of the coinbase of the same block."""
    height = electrum.node.height - 2
    [coinbase, *_] = electrum.node.call("getblock", electrum.node.call("getblockhash", height))["tx"]
    proof = electrum.ask(MERKLE, coinbase, height)
    liar.lies[MERKLE] = lambda parameters, true: proof
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(OutPoint(case.funding.txid, 1))).slug == "proof-refused"


def test_a_spend_that_is_called_deeper_than_what_it_spends(liar: Liar, case: Case) -> None:
    """Its funding is named as waiting, so that the spend comes first."""

    def lie(parameters: list[Any], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        funding = str(case.funding.txid)
        return [{**item, "height": 0} if item["tx_hash"] == funding else item for item in history]

    liar.lies[HISTORY] = lie
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(first(case.funding))).slug == "proof-refused"


def test_a_proof_is_void_when_its_block_is(liar: Liar, electrum: ElectrumServer) -> None:
    """It is remembered with the block: at the same height of another branch it proves nothing."""
    node = electrum.node
    funding = node.pay(fresh_script(), 50_000)
    node.mine()
    electrum.settle()
    height = node.height
    with liar.chain() as chain:
        status = chain.output(first(funding))
        assert status is not None
        assert status.confirmations == 1
        node.drop(1)
        node.mine_with([])
        node.mine_with([])
        electrum.settle()
        liar.lies[HISTORY] = lambda parameters, history: [{**history[0], "height": height}]
        assert refusal(lambda: chain.output(first(funding))).slug == "proof-refused"
    node.mine()
    electrum.settle()


def test_false_coins(liar: Liar, case: Case) -> None:
    coin = {"tx_hash": str(case.funding.txid), "tx_pos": 1, "value": 60_000}
    with liar.chain() as chain:
        [true] = chain.coins([case.script])
        height = chain.tip().height - true.confirmations + 1
        for told, slug in (
            ({"height": height - 1}, "proof-refused"),
            ({"height": 1}, "proof-refused"),
            ({"height": height, "value": 60_001}, "proof-refused"),
            ({"height": height, "tx_pos": 2}, "proof-refused"),
            ({"height": height, "tx_pos": 2, "value": case.funding.outputs[2].value.sat}, "proof-refused"),
            ({"height": height, "tx_pos": 9}, "proof-refused"),
            ({"height": height, "tx_hash": str(case.close.txid), "tx_pos": 0}, "proof-refused"),
            ({"height": height, "tx_hash": OTHER}, "chain-moving"),
            ({"height": height, "value": -1}, "malformed-answer"),
            ({"height": height, "value": 1.5}, "malformed-answer"),
            ({"height": "1"}, "malformed-answer"),
        ):
            liar.lies[UNSPENT] = lambda parameters, true, told=told: [{**coin, **told}]  # type: ignore[misc]
            assert refusal(lambda: chain.coins([case.script])).slug == slug, told
        liar.lies[UNSPENT] = lambda parameters, true: true * 2
        assert refusal(lambda: chain.coins([case.script])).slug == "proof-refused"


# transactions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    ["", "zz", "00", "11" * 64, 5, None, {}, [], "02000000000101" + "00" * 30],
)
def test_what_is_no_transaction(liar: Liar, case: Case, told: object) -> None:
    liar.lies[GET] = lambda parameters, raw: told
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(first(case.funding))).slug == "malformed-answer"


def test_another_transaction_than_the_one_asked_for(liar: Liar, case: Case) -> None:
    """Any change to it is another transaction: the txid is its hash."""
    liar.lies[GET] = lambda parameters, raw: case.close.to_hex()
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(first(case.funding))).slug == "malformed-answer"
    dearer = case.funding.to_hex().replace(case.funding.outputs[0].to_bytes().hex(), "ff" * 8 + "00")
    liar.lies[GET] = lambda parameters, raw: dearer
    with liar.chain() as chain:
        assert refusal(lambda: chain.output(first(case.funding))).slug == "malformed-answer"


def test_what_it_can_do_is_withhold(liar: Liar, case: Case) -> None:
    """The limit, said in the docstring of ``View``: a hidden spend, coin or transaction is not noticed."""
    liar.lies[HISTORY] = lambda parameters, history: history[:1]
    with liar.chain() as chain:
        status = chain.output(first(case.funding))
    assert status is not None
    assert status.spend is None
    liar.lies[HISTORY] = lambda parameters, history: []
    with liar.chain() as chain:
        assert chain.output(first(case.funding)) is None


def test_fee_rates_out_of_bounds(liar: Liar) -> None:
    with liar.chain() as chain:
        for told, estimate in (
            (-1, 5000),
            (0, 5000),
            (1e-05, 1000),
            (21_000_000, 1_000_000),
            (0.00012345, 12345),
        ):
            liar.lies["blockchain.estimatefee"] = lambda parameters, true, told=told: told  # type: ignore[misc]
            if estimate != 5000 or told == -1:
                assert chain.fee_rate() == FeeRate(estimate)
        for told, lowest in ((0, 100), (1e-05, 1000), (0.00001001, 1001), (20_000_000, 200_000), (-1, 100)):
            liar.lies["mempool.get_info"] = lambda parameters, true, told=told: {  # type: ignore[misc]
                "mempoolminfee": told,
                "minrelaytxfee": 0,
            }
            assert chain.min_fee_rate() == FeeRate(lowest)
        wrong: Any
        for wrong in ("0.1", None, [], {}, True, 1e30):
            liar.lies["blockchain.estimatefee"] = lambda parameters, true, wrong=wrong: wrong  # type: ignore[misc]
            assert refusal(chain.fee_rate).slug == "malformed-answer", wrong


def test_another_txid_for_a_broadcast(liar: Liar, electrum: ElectrumServer) -> None:
    funding = electrum.node.pay(fresh_script(), 50_000)
    liar.lies["blockchain.transaction.broadcast"] = lambda parameters, txid: OTHER
    with liar.chain() as chain:
        assert refusal(lambda: chain.broadcast(spend(funding, 40_000))).slug == "malformed-answer"


# headers ------------------------------------------------------------------------------------------


def ground(parent: bytes, time: int, *, bits: int = 0x207FFFFF, version: int = 4, work: bool = True) -> bytes:
    """A header of our own on top of ``parent``, with the work that regtest wants, or without."""
    link = hashlib.sha256(hashlib.sha256(parent).digest()).digest()
    target = (1 << 255) - 1
    for nonce in range(1 << 20):
        header = struct.pack("<i32s32sIII", version, link, bytes(32), time, bits, nonce)
        value = int.from_bytes(hashlib.sha256(hashlib.sha256(header).digest()).digest(), "little")
        if (value <= target) == work:
            return header
    raise AssertionError("no such nonce")


def shown(liar: Liar, headers: dict[int, bytes], height: int) -> None:
    """From now on this is the tip, and these are the headers where they differ from the true ones."""
    raw = headers[height]
    liar.lies[TIP] = lambda parameters, true: {"height": height, "hex": raw.hex()}

    def some(parameters: list[Any], true: dict[str, Any]) -> dict[str, Any]:
        start, count = parameters[:2]
        known = {start + index: item for index, item in enumerate(true["headers"])}
        known.update({at: item.hex() for at, item in headers.items()})
        told = [known[at] for at in range(start, min(start + count, height + 1)) if at in known]
        return {"count": len(told), "max": 2016, "headers": told}

    liar.lies[HEADERS] = some


def true_header(electrum: ElectrumServer, height: int) -> bytes:
    return bytes.fromhex(
        electrum.node.call("getblockheader", electrum.node.call("getblockhash", height), False)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"work": False}, "no work"),
        ({"bits": 0x207FFFFE}, "its target is 207ffffe"),
        ({"bits": 0x1D00FFFF}, "its target is 1d00ffff"),
        ({"time": 1}, "not above the median"),
        ({"version": 3}, "its version is 3"),
    ],
)
def test_a_header_that_breaks_a_rule(
    liar: Liar, electrum: ElectrumServer, case: Case, options: dict[str, Any], words: str
) -> None:
    height = electrum.node.height
    tip = true_header(electrum, height)
    time = options.pop("time", struct.unpack_from("<I", tip, 68)[0] + 600)
    shown(liar, {height + 1: ground(tip, time, **options)}, height + 1)
    with liar.chain() as chain:
        error = refusal(chain.tip)
    assert error.slug == "headers-refused"
    assert words in error.message
    assert f"block {height + 1}" in error.message


def test_a_header_that_does_not_follow(liar: Liar, electrum: ElectrumServer) -> None:
    height = electrum.node.height
    tip = true_header(electrum, height)
    for parent in (bytes(80), true_header(electrum, height - 1)):
        stranger = ground(parent, struct.unpack_from("<I", tip, 68)[0] + 600)
        shown(liar, {height + 1: stranger}, height + 1)
        with liar.chain() as chain:
            error = refusal(chain.tip)
        assert error.slug == "headers-refused"
        assert "does not follow" in error.message


def behind(tip: ChainTip, seen: ChainTip) -> str:
    """Why a tip is out of date, which is the one that was seen before."""
    assert (tip.height, tip.median_time) == (seen.height, seen.median_time)
    assert tip.lag is not None
    return tip.lag.why


def test_66_a_chain_with_too_little_work(liar: Liar, electrum: ElectrumServer, tmp_path: Path) -> None:
    """Forged from a few blocks back, and shorter than the one that was seen, which counts: the server is behind."""
    with electrum.chain(tmp_path) as honest:
        tip = honest.tip()
    headers: dict[int, bytes] = {}
    parent = true_header(electrum, tip.height - 4)
    for height in range(tip.height - 3, tip.height):
        headers[height] = parent = ground(parent, struct.unpack_from("<I", parent, 68)[0] + 700)
    shown(liar, headers, tip.height - 1)
    with liar.chain(directory=tmp_path) as chain:
        assert behind(chain.tip(), tip)
    with electrum.chain(tmp_path) as honest:
        assert honest.tip() == tip


def test_66_a_server_that_holds_back_the_last_block(
    liar: Liar, electrum: ElectrumServer, tmp_path: Path
) -> None:
    with electrum.chain(tmp_path) as honest:
        tip = honest.tip()
    height = tip.height - 1
    shown(liar, {height: true_header(electrum, height)}, height)
    with liar.chain(directory=tmp_path) as chain:
        late = chain.tip()
        assert f"stands at block {height}" in behind(late, tip)
        assert refusal(lambda: chain.used_scripts([fresh_script()])).slug == "node-behind"
        liar.lies.clear()
        assert chain.tip() == tip, "it has caught up"
    with liar.chain(electrum.name) as chain:
        assert chain.tip() == tip, "and of two servers the one with more work is asked"


def test_of_chains_with_equal_work_the_first_named_counts(liar: Liar, electrum: ElectrumServer) -> None:
    height = electrum.node.height
    parent = true_header(electrum, height - 1)
    shown(liar, {height: ground(parent, struct.unpack_from("<I", parent, 68)[0] + 900)}, height)
    asked = "blockchain.estimatefee"
    for names, count in (((electrum.name, liar.name), 0), ((liar.name, electrum.name), 1)):
        with ElectrumChain(REGTEST, [Server.parse(name) for name in names]) as chain:
            chain.fee_rate()
        assert liar.asked[asked] == count


def test_a_chain_from_another_genesis(liar: Liar, electrum: ElectrumServer) -> None:
    """Of another network, and of none."""
    mainnet = bytes.fromhex(
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61"
        "7fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    liar.lies["blockchain.block.header"] = lambda parameters, true: mainnet.hex()
    with liar.chain() as chain:
        error = refusal(chain.tip)
    assert error.slug == "wrong-network"
    assert "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f" in error.message
    del liar.lies["blockchain.block.header"]
    own = ground(bytes(80), 1_296_688_602)
    shown(liar, {0: own, 1: ground(own, 1_296_689_202)}, 1)
    with liar.chain() as chain:
        assert refusal(chain.tip).slug == "headers-refused"


def test_a_confirmation_in_a_forged_branch(liar: Liar, electrum: ElectrumServer, case: Case) -> None:
    """On regtest work costs nothing, so such a branch wins; it proves nothing of what it does not hold."""
    assert not RULES["regtest"].retargets
    height = electrum.node.height
    tip = true_header(electrum, height)
    shown(liar, {height + 1: ground(tip, struct.unpack_from("<I", tip, 68)[0] + 600)}, height + 1)
    liar.lies[HISTORY] = height_lie(lambda at: height + 1)
    liar.lies[MERKLE] = lambda parameters, true: {"block_height": height + 1, "pos": 0, "merkle": []}
    with liar.chain() as chain:
        assert chain.tip().height == height + 1
        assert refusal(lambda: chain.output(first(case.waiting))).slug == "proof-refused"


@pytest.mark.parametrize(
    "told",
    [
        {"count": 0, "max": 2016, "headers": []},
        {"count": 1, "max": 2016, "headers": ["00" * 79]},
        {"count": 1, "max": 2016, "headers": ["00" * 80] * 2017},
        {"count": 1, "max": 2016, "headers": "00" * 80},
        {"count": 1, "max": 2016, "hex": "00" * 80},
        [],
        None,
    ],
)
def test_what_are_no_headers(liar: Liar, told: object) -> None:
    liar.lies[HEADERS] = lambda parameters, true: told
    with liar.chain() as chain:
        assert refusal(chain.tip).slug == "malformed-answer"


@pytest.mark.parametrize("height", [-1, 1 << 40, "7", 7.0, None, True])
def test_a_tip_at_no_height(liar: Liar, height: object) -> None:
    liar.lies[TIP] = lambda parameters, true: {**true, "height": height}
    with liar.chain() as chain:
        assert refusal(chain.tip).slug == "malformed-answer"


def test_a_tip_that_is_never_shown(liar: Liar) -> None:
    """It claims a height of many blocks more, and has no headers for them."""
    liar.lies[TIP] = lambda parameters, true: {**true, "height": 400_000_000}
    with liar.chain() as chain:
        assert refusal(chain.tip).slug in ("malformed-answer", "headers-refused")


# the line itself ----------------------------------------------------------------------------------


def sends(data: bytes) -> Harm:
    return lambda client, line: client.sendall(data)


def truncated(client: socket.socket, line: bytes) -> None:
    client.sendall(line[: len(line) // 2])
    client.shutdown(socket.SHUT_RDWR)


def wrong_id(change: Callable[[int], object]) -> Harm:
    def harm(client: socket.socket, line: bytes) -> None:
        message = json.loads(line)
        client.sendall(json.dumps({**message, "id": change(message["id"])}).encode() + b"\n")

    return harm


HARMS: dict[str, tuple[Harm, str]] = {
    "no JSON": (sends(b"garbage\n"), "malformed-answer"),
    "no UTF-8": (sends(b"\xff\xfe\x00\n"), "malformed-answer"),
    "nothing but an end of line": (sends(b"\n"), "malformed-answer"),
    "a list": (sends(b"[]\n"), "malformed-answer"),
    "a number": (sends(b"17\n"), "malformed-answer"),
    "HTTP": (sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "malformed-answer"),
    "nested too deep": (sends(b"[" * 200_000 + b"\n"), "malformed-answer"),
    "a number of a million digits": (sends(b'{"id": ' + b"9" * 1_000_000 + b"}\n"), "malformed-answer"),
    "another id": (wrong_id(lambda number: number + 1000), "malformed-answer"),
    "an id of before": (wrong_id(lambda number: 1), "malformed-answer"),
    "an id that is a text": (wrong_id(str), "malformed-answer"),
    "an id that is true": (wrong_id(lambda number: True), "malformed-answer"),
    "an answer cut in half": (truncated, "unreachable"),
    "an end of the connection": (lambda client, line: client.shutdown(socket.SHUT_RDWR), "unreachable"),
}


@pytest.mark.parametrize("name", HARMS)
def test_a_harmed_answer(liar: Liar, case: Case, name: str) -> None:
    """An error of its own kind; and the next question, to a server that has recovered, is answered."""
    harm, slug = HARMS[name]
    with liar.chain() as chain:
        chain.tip()
        liar.harms[HISTORY] = harm
        assert refusal(lambda: chain.output(first(case.close))).slug == slug
        del liar.harms[HISTORY]
        status = chain.output(first(case.close))
    assert status is not None
    assert status.confirmations > 0


def test_an_answer_that_is_true_twice(liar: Liar, case: Case) -> None:
    liar.harms[HISTORY] = lambda client, line: client.sendall(line * 2)
    with liar.chain() as chain:
        error = refusal(lambda: [chain.output(first(case.close)) for _ in range(2)])
    assert error.slug == "malformed-answer"


def test_an_answer_that_is_true_twice_before_the_others(liar: Liar, case: Case) -> None:
    liar.harms[UNSPENT] = lambda client, line: client.sendall(line * 2)
    with liar.chain() as chain:
        error = refusal(lambda: chain.coins([case.script, fresh_script(), fresh_script()]))
    assert error.slug == "malformed-answer"


def test_a_first_answer_whose_number_is_true(liar: Liar) -> None:
    """In Python it equals 1."""
    liar.harms["server.version"] = wrong_id(lambda number: True)
    with liar.chain() as chain:
        assert refusal(chain.tip).slug == "malformed-answer"


def test_an_error_without_words(liar: Liar) -> None:
    for told, slug in (({}, "malformed-answer"), (7, "malformed-answer"), ("busy\x1b[31m", "rpc-error")):

        def harm(client: socket.socket, line: bytes, told: object = told) -> None:
            client.sendall(json.dumps({"id": json.loads(line)["id"], "error": told}).encode() + b"\n")

        liar.harms[TIP] = harm
        with liar.chain() as chain:
            error = refusal(chain.tip)
        assert error.slug == slug
        assert "\x1b" not in error.message


def test_an_answer_that_never_ends(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER_BYTES", 1_000_000)

    def endless(client: socket.socket, line: bytes) -> None:
        for _ in range(100):
            client.sendall(b"x" * 100_000)

    liar.harms[TIP] = endless
    with liar.chain() as chain:
        error = refusal(chain.tip)
    assert error.slug == "malformed-answer"
    assert "more than 1000000 bytes" in error.message


def test_a_flood_of_news(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER_BYTES", 1_000_000)
    news = json.dumps({"method": TIP, "params": [{}]}).encode() + b"\n"

    def flood(client: socket.socket, line: bytes) -> None:
        client.sendall(news * 100_000)

    liar.harms[TIP] = flood
    with liar.chain() as chain:
        assert refusal(chain.tip).slug == "malformed-answer"
    liar.harms[TIP] = lambda client, line: client.sendall(news * 3 + line)
    with liar.chain() as chain:
        assert chain.tip().height > 0


def test_an_answer_that_never_comes(liar: Liar) -> None:
    def silent(parameters: list[Any], true: object) -> None:
        raise Silence

    liar.lies[TIP] = silent
    with liar.chain(seconds=0.5) as chain:
        error = refusal(chain.tip)
    assert error.slug == "unreachable"
    assert "in time" in error.message


def test_an_answer_that_drips(liar: Liar) -> None:
    """Each byte comes soon, all of them not."""

    def drip(client: socket.socket, line: bytes) -> None:
        for _ in range(200):
            client.sendall(b" ")
            stop.wait(0.02)

    stop = threading.Event()
    liar.harms[TIP] = drip
    with liar.chain(seconds=0.5) as chain:
        assert refusal(chain.tip).slug == "unreachable"
    stop.set()


def test_a_connection_that_was_idle_and_is_gone(liar: Liar, case: Case) -> None:
    """Servers end those; the same question goes out on a new one."""
    with liar.chain() as chain:
        chain.tip()
        for _ in range(3):
            liar.hang_up()
            assert chain.output(first(case.close)) is not None


@pytest.mark.parametrize("version", ["9", "1.x", "", "1.4.99999", "-1", 7, None])
def test_a_protocol_that_is_none(liar: Liar, version: object) -> None:
    liar.lies["server.version"] = lambda parameters, true: [true[0], version]
    with liar.chain() as chain:
        if version == "9":
            chain.tip()
        else:
            assert refusal(chain.tip).slug == "malformed-answer"
