"""The sample files are valid, and the two scripts run the whole story as two users."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.network import MAINNET, NETWORKS
from mpchan.chain import open_chain
from mpchan.chain.bitcoind.endpoint import Endpoint, usual_cookie
from mpchan.channel.construction.registry import CONSTRUCTIONS, construction, own_terms_of
from mpchan.channel.offer import Offer
from mpchan.channel.offer_rules import is_current
from mpchan.values import replace
from mpchan.wallet.config import BACKENDS, Config, offer_defaults  # type: ignore[attr-defined]

SAMPLES = Path(__file__).parents[2] / "sample-configs"
BIN = Path(sys.executable).parent
PIECES, PRICE = 6, 1000


WALLETS = [f"wallet-{network}.toml" for network in ("regtest", "signet", "testnet4", "mainnet")]
SETTING = re.compile(r"(?:# )?((\w+) = .+)")


def test_every_network_has_a_sample() -> None:
    names = [Config.from_toml((SAMPLES / name).read_text()).network.name for name in WALLETS]
    assert sorted(names) == sorted(NETWORKS)


def alternatives(name: str) -> dict[str, str]:
    """The whole file as it is, and with each backend that stands in it as a comment instead of the one that does not.

    The settings of a backend stand below its name, up to an empty line.
    """
    before, head, rest = (SAMPLES / name).read_text().partition("[chain]\n")
    body, tail = rest[: rest.index("\n[")], rest[rest.index("\n[") :]
    found = {}
    for block in body.split("\n\n"):
        settings = [match[1] for match in map(SETTING.fullmatch, block.strip().split("\n")) if match]
        [backend] = [setting for setting in settings if setting.startswith("backend = ")]
        found[tomli.loads(backend)["backend"]] = "\n".join([before + head, *settings]) + tail
    return found


@pytest.mark.parametrize("name", WALLETS)
def test_sample_wallet_is_read(name: str, tmp_path: Path) -> None:
    """As it is, with every setting that is commented out, and with every other backend: each is one that is there."""
    config = Config.from_toml((SAMPLES / name).read_text(), source=name)
    switched = alternatives(name)
    assert set(switched) == ({*BACKENDS} if name == "wallet-regtest.toml" else {*BACKENDS} - {"embedded"})
    for backend, text in switched.items():
        other = Config.from_toml(text, source=f"{name} with {backend}")
        assert other.chain.backend == backend
        assert replace(other, chain=config.chain) == config
        open_chain(other.chain, other.network, tmp_path)
    assert config.chain.backend == ("embedded" if name == "wallet-regtest.toml" else "bitcoind")


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
@pytest.mark.parametrize("name", WALLETS)
def test_the_limits_of_a_sample_wallet_admit_its_own_offers(name: str, scheme: str) -> None:
    """Each table makes sense, and two users with the same sample can trade, in the construction that it names."""
    chosen = re.sub(r'(?m)^scheme = "\w+"', f'scheme = "{scheme}"', (SAMPLES / name).read_text())
    config = Config.from_toml(chosen, source=name)
    sample = Offer.from_toml((SAMPLES / "offer.toml").read_text())
    terms = {key: value for key, value in sample.terms().items() if key not in sample.own_terms}
    terms |= {**offer_defaults(config, None), "network": config.network.name, "version": 2}
    tip = {"blocks": 800_000, "seconds": 1_800_000_000}[terms["lock_time_unit"]]
    terms |= {term.name: tip for term in own_terms_of(scheme) if term.of_tip}
    terms["payee_address"] = script_to_address(b"\x00\x14" + bytes(20), config.network)
    offer = Offer.from_terms(terms)
    assert offer.scheme == scheme
    limits = config.limits
    assert limits.min_fee_rate <= offer.fee_rate <= limits.max_fee_rate
    assert offer.max_refund_delay <= limits.max_refund_delay(offer.lock_time_unit)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_usual_port_stands_in_the_sample(network: str) -> None:
    """The URL in the comment is the one that holds without it."""
    chain = Config.from_toml(alternatives(f"wallet-{network}.toml")["bitcoind"]).chain
    assert chain.rpc_url is not None
    assert Endpoint.parse(chain.rpc_url) == Endpoint.usual(NETWORKS[network])
    below = usual_cookie(NETWORKS[network]).relative_to(usual_cookie(MAINNET).parent)
    assert chain.rpc_cookie == str("/home/me/.bitcoin" / below)


def test_sample_offer_is_read() -> None:
    """And it is one under which a channel may begin."""
    offer = Offer.from_toml((SAMPLES / "offer.toml").read_text())
    assert offer.memo == "one file in 100 pieces"
    assert is_current(offer)


def test_there_is_no_other_sample() -> None:
    expected = {
        "wallet-regtest.toml",
        "wallet-signet.toml",
        "wallet-testnet4.toml",
        "wallet-mainnet.toml",
        "offer.toml",
        "payer.sh",
        "payee.sh",
        "sale-payer.sh",
        "sale-payee.sh",
        "mpchan-watch.service",
        "mpchan-watch-once.service",
        "mpchan-watch-once.timer",
        "mpchan-serve.service",
        "nginx.conf",
        "paid_api.py",
        "paid_client.py",
    }
    assert {path.name for path in SAMPLES.iterdir()} == expected


@pytest.mark.parametrize("script", ["payer.sh", "payee.sh", "sale-payer.sh", "sale-payee.sh"])
def test_shellcheck_finds_nothing(script: str) -> None:
    result = subprocess.run(
        [BIN / "shellcheck", SAMPLES / script], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


def _start(script: str, home: Path, shared: Path, **settings: str) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MPCHAN_REGTEST": str(shared / "chain"),
        "EXCHANGE": str(shared / "exchange"),
        "PIECES": str(PIECES),
        "PRICE": str(PRICE),
        **settings,
    }
    environment.pop("MPCHAN_WALLET", None)
    return subprocess.Popen(
        ["sh", SAMPLES / script],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run_both(tmp_path: Path, scheme: str) -> dict[str, tuple[int, str, str]]:
    names = ("payee", "payer")
    running = {name: _start(f"{name}.sh", tmp_path / name, tmp_path, SCHEME=scheme) for name in names}
    ended = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=180)
        ended[name] = (process.returncode, out, err)
    return ended


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_the_scripts_sell_every_piece(tmp_path: Path, scheme: str) -> None:
    ended = _run_both(tmp_path, scheme)
    assert f'scheme = "{scheme}"' in (tmp_path / "exchange" / "offer.toml").read_text()
    exchanged = (tmp_path / "exchange" / "request.psbt").exists()
    assert exchanged == construction(scheme).has_exchange
    assert (tmp_path / "payer" / "payer-wallet" / "refund.hex").exists()
    assert {name: (code, err) for name, (code, _, err) in ended.items()} == {
        "payee": (0, ""),
        "payer": (0, ""),
    }
    for number in range(1, PIECES + 1):
        assert (tmp_path / "exchange" / f"piece-{number}").read_text() == f"the content of piece {number}\n"
    for name, (_, out, _) in ended.items():
        assert f"{name}  closed" in out
        assert f"{PIECES * PRICE:,}     0" in out
    assert f"confirmed    {PIECES * PRICE:,} sat" in ended["payee"][1]


@pytest.mark.parametrize("scheme", CONSTRUCTIONS)
def test_the_sale_scripts_sell_a_file(tmp_path: Path, scheme: str) -> None:
    """Everything that their users type is here, but for the file and the folder."""
    (tmp_path / "file").write_bytes(os.urandom(1_000_000))
    places = {"MAILBOX": str(tmp_path / "mailbox"), "FILE": str(tmp_path / "file")}
    places |= {"PIECES": "10", "SCHEME": scheme}
    running = {
        name: _start(f"sale-{name}.sh", tmp_path / name, tmp_path, **places) for name in ("payee", "payer")
    }
    ended = {}
    try:
        for name, process in running.items():
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, out + err
            ended[name] = out
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    assert (tmp_path / "payer" / "bought").read_bytes() == (tmp_path / "file").read_bytes()
    assert "confirmed    10,000 sat" in ended["payee"]
    assert "payer  closed" in ended["payer"] or "payer  settling" in ended["payer"]
