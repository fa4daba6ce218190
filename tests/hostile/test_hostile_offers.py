"""What a hostile payee can write into an offer: refused before a key, a coin or a file is touched.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hostile import Desk, number_of, same_verdict
from support.party import SHORT, Pair

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.chain.embedded import EmbeddedChain


class Scene:
    """A payer with a coin, and a good offer."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.good = pair.offer()
        self.own = str(self.desk.done(self.desk.payer, "payee", "offer")["toml"])

    def with_value(self, key: str, value: str) -> str:
        """The good offer with another value, written as in TOML."""
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _: f"{key} = {value}", self.good)
        assert count == 1, key
        return text


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2), tmp_path_factory.mktemp("desk"))


Write = Callable[[Scene], "str | bytes"]


def put(key: str, value: str) -> Write:
    return lambda scene: scene.with_value(key, value)


def without(key: str) -> Write:
    return lambda scene: re.sub(rf"(?m)^{key} = .*\n", "", scene.good)


def key(text: str) -> Write:
    return put("payee_pubkey", f'"{text}"')


OFF_CURVE = "02" + "00" * 31 + "05"
"""No point has 5 as its x coordinate."""

GENERATOR = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
GENERATOR_Y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"

CASES: dict[str, tuple[Write, str, int]] = {
    "46 a key off the curve": (key(OFF_CURVE), "malformed-public-key", 3),
    "46 an uncompressed key": (key("04" + GENERATOR + GENERATOR_Y), "malformed-public-key", 3),
    "46 a hybrid key": (key("06" + GENERATOR + GENERATOR_Y), "malformed-public-key", 3),
    "46 an x coordinate alone": (key(GENERATOR), "malformed-public-key", 3),
    "46 zero": (key("02" + "00" * 32), "malformed-public-key", 3),
    "46 no key": (key(""), "malformed-public-key", 3),
    "46 no hex": (key("zz" * 33), "malformed-public-key", 3),
    "46 the payer's own key": (lambda scene: scene.own, "payee-key", 4),
    "47 another network": (put("network", '"mainnet"'), "wrong-network", 3),
    "47 an unknown network": (put("network", '"moon"'), "unknown-network", 3),
    "47 an address of another network": (
        put("payee_address", '"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"'),
        "wrong-network",
        3,
    ),
    "47 an unknown version": (put("version", "3"), "offer-version", 3),
    "47 version 0": (put("version", "0"), "offer-version", 3),
    "47 an unknown scheme": (put("scheme", '"spilman"'), "unknown-scheme", 3),
    "47 no scheme": (put("scheme", '""'), "unknown-scheme", 3),
    "47 a negative capacity": (put("min_capacity_sat", "-1"), "malformed-number", 3),
    "47 a negative delay": (put("min_refund_delay", "-25"), "malformed-number", 3),
    "47 a negative fee rate": (put("fee_rate_sat_per_kvb", "-1"), "malformed-number", 3),
    "47 more than there will ever be": (put("max_capacity_sat", "2100000000000001"), "malformed-number", 3),
    "47 a delay of ten thousand years": (put("max_refund_delay", "500001"), "malformed-number", 3),
    "47 no step": (put("step", "0"), "malformed-number", 3),
    "47 no settle window": (put("settle_window", "0"), "malformed-number", 3),
    "47 no confirmation at all": (put("min_confirmations", "0"), "malformed-number", 3),
    "47 too many confirmations": (put("min_confirmations", "1001"), "malformed-number", 3),
    "47 no increment": (put("min_increment_sat", "0"), "malformed-number", 3),
    "47 the least capacity above the greatest": (put("min_capacity_sat", "100000001"), "offer-limits", 3),
    "47 the least delay above the greatest": (
        put("min_refund_delay", str(SHORT["max_refund_delay"] + 1)),
        "offer-limits",
        3,
    ),
    "47 a window longer than the delay": (put("settle_window", "25"), "offer-limits", 3),
    "47 no time for the confirmations": (put("min_confirmations", "20"), "offer-limits", 3),
    "47 a unit that is none": (put("lock_time_unit", '"days"'), "malformed-offer", 3),
    "47 a fee rate below the payer's": (put("fee_rate_sat_per_kvb", "999"), "fee-rate-low", 4),
    "47 a fee rate above the payer's": (put("fee_rate_sat_per_kvb", "200001"), "fee-rate-high", 4),
    "47 a refund delay above the payer's": (
        lambda scene: re.sub(
            r"(?m)^max_refund_delay = .*$",
            "max_refund_delay = 6000",
            scene.with_value("min_refund_delay", "4303"),
        ),
        "refund-delay",
        4,
    ),
    "54 an empty offer": (lambda scene: "", "malformed-offer", 3),
    "54 an offer of a NUL": (lambda scene: "\0", "malformed-toml", 3),
    "54 a NUL behind": (lambda scene: scene.good + "\0", "malformed-toml", 3),
    "54 an offer that is not UTF-8": (lambda scene: b"\xff\xfe", "not-utf8", 3),
    "54 an offer in UTF-16": (lambda scene: scene.good.encode("utf-16"), "not-utf8", 3),
    "54 an offer cut in a line": (lambda scene: scene.good[:-20], "malformed-toml", 3),
    "54 an offer cut between lines": (
        lambda scene: scene.good[: scene.good.index("min_capacity")],
        "malformed-offer",
        3,
    ),
    "54 an offer over the limit": (lambda scene: b"#" * 400_001, "too-large", 3),
    "54 a PSBT for an offer": (lambda scene: b"psbt\xff\x01", "not-utf8", 3),
    "56 an offer nested without end": (lambda scene: "a = " + "[" * 100_000, "malformed-toml", 3),
    "56 a syntax error": (lambda scene: scene.good + "=\n", "malformed-toml", 3),
    "56 a key twice": (lambda scene: scene.good + "step = 1\n", "malformed-toml", 3),
    "56 an unknown key": (lambda scene: scene.good + "surprise = 1\n", "malformed-offer", 3),
    "56 a missing key": (without("step"), "malformed-offer", 3),
    "56 no version": (without("version"), "malformed-offer", 3),
    "56 a float as an amount": (put("min_capacity_sat", "1000.0"), "malformed-number", 3),
    "56 an infinite amount": (put("max_capacity_sat", "inf"), "malformed-number", 3),
    "56 a string as an amount": (put("min_capacity_sat", '"1000"'), "malformed-number", 3),
    "56 a truth as an amount": (put("min_capacity_sat", "true"), "malformed-number", 3),
    "56 a date as an amount": (put("min_capacity_sat", "2009-01-03"), "malformed-number", 3),
    "56 a list as an amount": (put("min_capacity_sat", "[1000]"), "malformed-number", 3),
    "56 an integer of 5000 digits": (put("min_capacity_sat", "9" * 5000), "malformed-toml", 3),
    "56 an integer of 100 digits": (put("min_capacity_sat", "9" * 100), "malformed-number", 3),
    "56 a number as a name": (put("scheme", "1"), "malformed-offer", 3),
    "56 a version in quotes": (put("version", '"1"'), "offer-version", 3),
    "56 a table as a memo": (put("memo", "{}"), "malformed-offer", 3),
    "56 a sale that is no table": (lambda scene: scene.good + "sale = 1\n", "malformed-offer", 3),
    "60 a path as the id": (put("offer_id", '"../../../../etc/x"'), "malformed-offer", 3),
    "60 an id with a NUL": (put("offer_id", '"0123456789abcd\\u0000f"'), "malformed-offer", 3),
    "60 an id in capitals": (put("offer_id", '"0123456789ABCDEF"'), "malformed-offer", 3),
    "60 a memo that moves the cursor": (put("memo", '"\\u001b[2J"'), "malformed-offer", 3),
    "60 a memo of two lines": (put("memo", '"a\\nb"'), "malformed-offer", 3),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_offer_is_refused(scene: Scene, name: str) -> None:
    write, slug, code = CASES[name]
    desk = scene.desk
    path = desk.file(write(scene))
    error = desk.refused_writing(desk.payer, "payer", "open", path, "50000")
    assert (error.slug, error.exit_code) == (slug, code), error.message
    assert len(error.message) < 400
    if code == 4:
        same_verdict(desk, desk.payer, path, error)
    else:  # it is no offer: the question is refused like the command
        asked = desk.refused(desk.payer, "verify", path)
        assert asked.exit_code == 3
        assert asked.slug == slug or number_of(name) == 54, asked


def test_46_a_key_of_another_channel(scene: Scene) -> None:
    """The payee's key of one channel, or the payer's, offered again for another."""
    pair, desk = scene.pair, scene.desk
    request = pair.request(5000)
    record = pair.payer_record(f"{request.funding_txid}-0")
    for known in (record.terms.payer_key, record.terms.offer.payee_key):
        error = desk.refused_writing(
            desk.payer,
            "payer",
            "open",
            desk.file(scene.with_value("payee_pubkey", f'"{known.sec.hex()}"')),
            "50000",
        )
        assert (error.slug, error.exit_code) == ("payee-key", 4)


def test_an_offer_that_pays_the_payer_itself(scene: Scene) -> None:
    """Two outputs to one address would be one party's word against its own."""
    desk = scene.desk
    address = script_to_address(
        key_to_p2wpkh_script(scene.pair.payer.keys.channel_key(0).public_key.sec), REGTEST
    )
    path = desk.file(scene.with_value("payee_address", f'"{address}"'))
    error = desk.refused_writing(desk.payer, "payer", "open", path, "50000", "--address", address or "")
    assert (error.slug, error.exit_code) == ("same-payout", 5)


def test_the_good_offer_is_taken(scene: Scene) -> None:
    """Last in this module: all of the above failed for its own reason."""
    desk = scene.desk
    path = desk.file(scene.good)
    assert desk.judged(desk.payer, path)["accepted"] is True
    assert desk.done(desk.payer, "payer", "open", path, "50000")["capacity_sat"] == 50_000
