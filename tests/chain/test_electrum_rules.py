"""The rules on headers, held against Bitcoin Core: its test values for the difficulty, its verdicts on a real node."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.node import Node, Refusal, needs_node, running

from mpchan.bitcoin.block import HEADER_SIZE, Header, bits_from_target, target_from_bits
from mpchan.bitcoin.network import MAINNET, NETWORKS, REGTEST, TESTNET4
from mpchan.bitcoin.script import double_sha256
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.rules import MEDIAN_BLOCKS, PERIOD, RULES, Rules
from mpchan.errors import ParseError
from mpchan.values import replace

EASIEST = 0x207FFFFF
NOW = 1_800_000_000


def ground(parent: bytes, time: int, *, bits: int = EASIEST, version: int = 4, work: bool = True) -> bytes:
    """A header after ``parent`` with the work that its target wants, or without."""
    target = min(target_from_bits(bits), RULES["regtest"].limit)
    for nonce in range(1 << 24):
        header = struct.pack("<i32s32sIII", version, double_sha256(parent), bytes(32), time, bits, nonce)
        if (int.from_bytes(double_sha256(header), "little") <= target) == work:
            return header
    raise AssertionError("no such nonce")


# the constants ------------------------------------------------------------------------------------


def test_every_network_has_rules() -> None:
    assert set(RULES) == set(NETWORKS)
    for rules in RULES.values():
        height, block = rules.checkpoint
        assert len(bytes.fromhex(block)) == 32
        assert target_from_bits(bits_from_target(rules.limit)) <= rules.limit
        assert int(block, 16) <= rules.limit, "there is work in it"
        assert height == 0 or height % PERIOD >= MEDIAN_BLOCKS
    assert [name for name, rules in RULES.items() if rules.easy_blocks or rules.bip94] == [TESTNET4.name]
    assert [name for name, rules in RULES.items() if not rules.retargets] == [REGTEST.name]


# the difficulty: Bitcoin Core, pow_tests.cpp ------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "bits", "wanted"),
    [
        (1261130161, 1262152739, 0x1D00FFFF, 0x1D00D86A),  # blocks 30240 to 32255
        (1231006505, 1233061996, 0x1D00FFFF, 0x1D00FFFF),  # blocks 0 to 2015: the limit
        (1279008237, 1279297671, 0x1C05A3F4, 0x1C0168FD),  # blocks 66528 to 68543: four times as hard
        (1263163443, 1269211443, 0x1C387F6F, 0x1D00E1FD),  # four times as easy
    ],
)
def test_adjustments_are_those_of_bitcoin_core(first: int, last: int, bits: int, wanted: int) -> None:
    assert RULES[MAINNET.name].adjusted(bits, last - first) == wanted


class Made:
    """A chain without work, of which only times and targets count."""

    def __init__(self, height: int, blocks: list[tuple[int, int]]) -> None:
        self.height = height
        self._first = height - len(blocks) + 1
        self._blocks = blocks

    def header(self, height: int) -> Header:
        time, bits = self._blocks[height - self._first]
        return Header(4, bytes(32), bytes(32), time, bits, bytes(32))

    def median_time(self) -> int:
        return 0

    def hard_bits(self, easiest: int) -> int:
        """As Bitcoin Core's loop in GetNextWorkRequired has it."""
        height = self.height
        while height % PERIOD and self.header(height).bits == easiest:
            height -= 1
        return self.header(height).bits


HARD, HARDER = 0x1B00FFFF, 0x1A00FFFF
EASY = 0x1D00FFFF


def test_the_target_changes_only_between_periods() -> None:
    rules = RULES[MAINNET.name]
    blocks = [(600 * number, HARD) for number in range(PERIOD)]
    for height in (2 * PERIOD - 2, 2 * PERIOD):
        assert rules.next_bits(Made(height, blocks), 10**9) == HARD
    quick = [(300 * number, HARD) for number in range(PERIOD)]
    assert rules.next_bits(Made(2 * PERIOD - 1, quick), 10**9) == rules.adjusted(HARD, 300 * (PERIOD - 1))
    assert rules.next_bits(Made(2 * PERIOD - 1, quick), 10**9) != HARD


def test_testnet4_allows_easy_blocks_after_twenty_minutes() -> None:
    """And goes back to the last block that was none; at the beginning of a period to whatever that has."""
    rules = RULES[TESTNET4.name]
    start = 5 * PERIOD
    blocks = [(0, HARD), (600, EASY), (1200, EASY)]
    for time, wanted in ((2400, HARD), (2401, EASY)):
        assert rules.next_bits(Made(start + 2, blocks), time) == wanted
    assert rules.next_bits(Made(start + 2, [(0, HARDER), (600, HARD), (1200, EASY)]), 1300) == HARD
    assert rules.next_bits(Made(start, [(0, HARDER), (600, EASY)]), 700) == EASY
    assert RULES[MAINNET.name].next_bits(Made(start + 2, blocks), 10**6) == EASY, (
        "as the block before, whatever the time"
    )


def test_testnet4_adjusts_from_the_first_block_of_a_period() -> None:
    """BIP-0094: the last one may have been easy, which would throw the difficulty away."""
    blocks = [(600 * number, HARD) for number in range(PERIOD - 1)] + [(600 * PERIOD, EASY)]
    chain = Made(2 * PERIOD - 1, blocks)
    seconds = 600 * PERIOD
    assert RULES[TESTNET4.name].next_bits(chain, 0) == RULES[TESTNET4.name].adjusted(HARD, seconds)
    assert RULES[MAINNET.name].next_bits(chain, 0) == RULES[MAINNET.name].adjusted(EASY, seconds)


def test_no_adjustment_leaves_the_256_bits_of_bitcoin_core() -> None:
    """There such a product would lose its upper bits; ours would not."""
    for rules in RULES.values():
        assert not rules.retargets or rules.limit * 4 * 14 * 24 * 60 * 60 < 1 << 256


# a chain of our own -------------------------------------------------------------------------------


def made(rules: Rules, count: int, seconds: int = 600) -> HeaderChain:
    """A chain from regtest's genesis block with some more."""
    genesis = struct.pack("<i32s32sIII", 1, bytes(32), ROOT, 1_296_688_602, EASIEST, 2)
    chain = HeaderChain.begin(rules, genesis)
    for _ in range(count):
        chain.append(ground(chain.raw(chain.height), chain.tip.time + seconds), NOW)
    return chain


ROOT = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]


def broken(chain: HeaderChain, header: bytes) -> str:
    height = chain.height
    with pytest.raises(ParseError) as caught:
        chain.append(header, NOW)
    assert chain.height == height
    return caught.value.message


def test_times_ahead_of_the_clock() -> None:
    rules = replace(RULES["regtest"], ahead=True)
    chain = made(rules, 12)
    parent = chain.raw(chain.height)
    assert "ahead of this machine's clock" in broken(chain, ground(parent, NOW + 7201))
    chain.append(ground(parent, NOW + 7200), NOW)
    made(RULES["regtest"], 1).append(ground(made(RULES["regtest"], 1).raw(1), NOW + 10**6), NOW)


def test_times_below_the_median() -> None:
    chain = made(RULES["regtest"], 20)
    parent, median = chain.raw(chain.height), chain.median_time()
    assert median == chain.tip.time - 5 * 600
    assert "median" in broken(chain, ground(parent, median))
    chain.append(ground(parent, median + 1), NOW)


def test_headers_before_a_bad_one_stay() -> None:
    chain = made(RULES["regtest"], 3)
    good = ground(chain.raw(3), chain.tip.time + 1)
    bad = ground(good, chain.tip.time + 2, work=False)
    with pytest.raises(ParseError):
        chain.append(good + bad, NOW)
    assert chain.height == 4


def test_the_last_hard_target_is_remembered_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """From block to block the same as looked up anew; in periods of eight blocks, so that there are many."""
    monkeypatch.setattr("mpchan.chain.electrum.rules.PERIOD", 8)
    monkeypatch.setattr("mpchan.chain.electrum.headers.PERIOD", 8)
    rules = replace(RULES["regtest"], retargets=True, easy_blocks=True)
    chance = random.Random(1)
    chain, seen = made(rules, 0), set()
    for _ in range(60):
        late = chance.random() < 0.5
        time = chain.tip.time + (1300 if late else 600)
        bits = rules.next_bits(chain, time)
        chain.append(ground(chain.raw(chain.height), time, bits=bits), NOW + 10**9)
        fresh = HeaderChain(rules, 0, b"".join(chain.raw(height) for height in range(chain.height + 1)))
        assert chain.hard_bits(EASIEST) == fresh.hard_bits(EASIEST)
        seen.add(chain.hard_bits(EASIEST))
    assert len(seen) > 2


def test_work_and_copies() -> None:
    chain = made(RULES["regtest"], 10)
    assert chain.work_after(4) == 2 * 6
    assert chain.work_after(10) == 0
    shorter = chain.until(4)
    assert (shorter.height, shorter.tip) == (4, chain.header(4))
    shorter.append(ground(shorter.raw(4), shorter.tip.time + 7), NOW)
    assert chain.header(5) != shorter.header(5)


def test_older_headers_come_in_by_their_hashes(tmp_path: Path) -> None:
    """A chain that begins at a checkpoint in its second period reaches back, and is saved so."""
    whole = made(RULES["regtest"], PERIOD + 20)
    rules = replace(RULES["regtest"], checkpoint=(PERIOD + 15, str(whole.header(PERIOD + 15))))
    assert HeaderChain.first_height(rules) == PERIOD
    raw = b"".join(whole.raw(height) for height in range(PERIOD, PERIOD + 16))
    chain = HeaderChain.begin(rules, raw)
    assert (chain.base, chain.height) == (PERIOD, PERIOD + 15)
    for wrong in (
        raw[:-HEADER_SIZE],
        raw[HEADER_SIZE:],
        raw[:200] + b"\x01" + raw[201:],
        raw[HEADER_SIZE:] + raw[:HEADER_SIZE],
    ):
        with pytest.raises(ParseError):
            HeaderChain.begin(rules, wrong)
    older = b"".join(whole.raw(height) for height in range(1000, PERIOD))
    with pytest.raises(ParseError):
        chain.prepend(older[:-1] + b"\x01")
    assert chain.base == PERIOD
    chain.prepend(older)
    assert (chain.base, chain.height) == (1000, PERIOD + 15)
    assert chain.raw(1000) == whole.raw(1000)
    with pytest.raises(IndexError):
        chain.raw(999)
    chain.save(tmp_path / "seen" / "headers")
    loaded = HeaderChain.load(rules, tmp_path / "seen" / "headers")
    assert loaded is not None
    assert (loaded.base, loaded.height, loaded.tip) == (1000, PERIOD + 15, chain.tip)
    other = replace(rules, checkpoint=(PERIOD + 15, "00" * 32))
    assert HeaderChain.load(other, tmp_path / "seen" / "headers") is None


# the node as judge --------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["regtest", "with BIP-0094"])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Node, Rules]]:
    """A node and the rules by which it goes."""
    rules = replace(RULES["regtest"], bip94=request.param)
    with running(tmp_path / "node", *(["-test=bip94"] if request.param else []), ripe=False) as node:
        yield node, rules


def accepts(node: Node, header: bytes) -> bool:
    """Bitcoin Core's own verdict on a header."""
    try:
        node.call("submitheader", header.hex())
    except Refusal:
        return False
    return True


def _refusal(chain: HeaderChain, header: bytes) -> str | None:
    """Our verdict: why a header is refused, or None; then it has been added."""
    try:
        chain.append(header, NOW)
    except ParseError as error:
        return error.message
    return None


@needs_node
def test_verdicts_are_those_of_bitcoin_core(judged: tuple[Node, Rules]) -> None:
    """Random headers, most of them wrong in some way, over the end of a period and a time warp there."""
    node, rules = judged
    chance = random.Random(7)
    chain = made(rules, 0)
    refused = taken = 0
    while chain.height < PERIOD + 12:
        parent, tip = chain.raw(chain.height), chain.tip
        near = chain.height < 40 or abs(chain.height + 1 - PERIOD) < 12
        time = tip.time + 60
        version, bits, work = 4, EASIEST, True
        if near:
            time = chain.median_time() + chance.choice([-1, 0, 1, 60, 600]) + chance.choice([0, 0, 3000])
            version = chance.choice([4, 4, 4, 4, 0x2000_0000, 3, 1, 0, -1])
            bits = chance.choice([EASIEST] * 5 + [0x207FFFFE, 0x2000FFFF])
            work = chance.random() < 0.9
        if chain.height + 1 == PERIOD and taken % 2 == 0:
            time = tip.time - chance.choice([599, 600, 601, 700])
        header = ground(parent, time, bits=bits, version=version, work=work)
        verdict = accepts(node, header)
        reason = _refusal(chain, header)
        assert verdict == (reason is None), (
            f"block {chain.height}: for Bitcoin Core {verdict}, for us {reason}"
        )
        refused, taken = refused + (not verdict), taken + verdict
    assert refused > 100
    [tip_seen] = [tip for tip in node.call("getchaintips") if tip["status"] == "headers-only"]
    assert (tip_seen["height"], tip_seen["hash"]) == (chain.height, str(chain.tip))


@needs_node
@pytest.mark.parametrize("back", [599, 600, 601])
def test_a_time_warp_between_periods(judged: tuple[Node, Rules], back: int) -> None:
    """BIP-0094: a period's first block may be at most 600 seconds before the last of the one before."""
    node, rules = judged
    chain = made(rules, PERIOD - 1)
    for height in range(1, PERIOD):
        assert accepts(node, chain.raw(height))
    header = ground(chain.raw(chain.height), chain.tip.time - back)
    verdict = accepts(node, header)
    assert verdict == (not rules.bip94 or back <= 600)
    if verdict:
        chain.append(header, NOW)
    else:
        assert "period before" in broken(chain, header)
