"""``payer open --external`` under taproot, ``payer recover`` and what lists them, as a program: words and JSON."""

from __future__ import annotations

import pytest
from support.transcript import CHAIN, Shell

from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Txid

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
LOOK = f"{BUYER} payer open offer.toml --external"
KEYS = [
    "offer_id",
    "address",
    "uri",
    "descriptor",
    "amount_sat",
    "least_sat",
    "most_sat",
    "refund_lock_time",
    "pay_before",
    "payer_address",
    "arrived",
]
ARRIVAL = ["channel", "outpoint", "value_sat", "refund_sat", "refund_lock_time", "confirmations", "what"]


@pytest.fixture
def offered(wallets: Shell) -> Shell:
    """With a taproot offer in ``offer.toml``."""
    wallets.ok(f"{SELLER} payee offer --scheme taproot --fee-rate 2 -o offer.toml")
    return wallets


def test_what_a_person_sees(offered: Shell) -> None:
    offered.play(
        """
        $ mpchan --wallet buyer payer open offer.toml 100000 --external | sed 's/descriptor .*/descriptor/'
        offer       <offer>
        address     <address:channel>
        amount      100,384 sat, from 1,384 to 100,000,384 sat
        pay before  block <n:before>
        refund      block <n:refund>
        descriptor
        uri         bitcoin:<address:channel>?amount=0.00100384&label=mpchan%20<offer>
        2> pay it from any wallet, in one payment: its refund is stored once `mpchan watch` or this command sees it
        2> a fee may be raised by replacement: the new payment gets a refund of its own
        2> next: `mpchan wait OFFER_ID --for confirmed`, then `mpchan payer pay AMOUNT`
        $ mpchan --wallet buyer list
        awaited: offer <offer>, to <address:channel> before block <n:before>
        $ mpchan regtest faucet <address:channel> 500 -q
        $ mpchan regtest faucet <address:channel> 100384 -q
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer wait <offer> --for confirmed --timeout 0
        channel <channel> is open
        $ mpchan --wallet buyer payer recover offer.toml
        channel <channel>: 100,384 sat at <txid:one>:<n:one>; 100,132 sat come back from block <n:refund> on
        500 sat at <txid:two>:<n:two>: less than a refund costs
        """
    )
    assert offered.json(f"{BUYER} show {offered.names['offer']}")["capacity_sat"] == 100_000


def test_json(offered: Shell) -> None:
    view = offered.json(LOOK)
    assert list(view) == KEYS
    assert (view["amount_sat"], view["arrived"]) == (None, [])
    assert view["uri"] == f"bitcoin:{view['address']}?label=mpchan%20{view['offer_id']}"
    asked = offered.json(f"{BUYER} payer open offer.toml 0.001btc --external")
    assert asked["amount_sat"] == view["least_sat"] + 99_000
    assert offered.json(f"{BUYER} show {view['offer_id'].upper()}") == asked
    paid = offered.json(f"mpchan regtest faucet {view['address']} {asked['amount_sat']}")["txid"]
    done = offered.json(f"{BUYER} payer open offer.toml --funding {paid} --refund-out refund.hex")
    assert [list(each) for each in done["arrived"]] == [ARRIVAL]
    with EmbeddedChain(offered.folder / CHAIN) as chain:
        found = chain.transaction(Txid.from_hex(paid))
    assert found is not None
    (offered.folder / "paid.hex").write_text(found[0].to_hex())
    assert offered.json(f"{BUYER} payer open --funding paid.hex") == done
    assert offered.json(f"{BUYER} payer open --again {done['arrived'][0]['outpoint']}") == done
    assert list(offered.json(f"{BUYER} payer recover offer.toml")) == ["offer_id", "looked_for", "arrived"]
    # the copy of the refund needs nothing of this wallet
    offered.ok(f"mpchan regtest mine {view['refund_lock_time']}")
    assert offered.json("mpchan --wallet stranger payer refund refund.hex")["broadcast"]


def test_a_refund_that_is_not_there_yet_is_not_written(offered: Shell) -> None:
    done = offered.ok(f"{LOOK} --refund-out refund.hex")
    assert "nothing has come yet" in done.err
    assert "refund.hex" not in offered.files()


@pytest.mark.parametrize(
    "command",
    [
        "payer open --external",
        "payer open offer.toml --external -o out",
        "payer open offer.toml --external --no-broadcast",
        "payer open offer.toml --external --funding-fee-rate 2",
        "payer open offer.toml",
    ],
)
def test_wrong_usage(offered: Shell, command: str) -> None:
    assert "payer open --help" in str(offered.fails(f"{BUYER} {command}", 2, "usage")["hint"])


def test_where_no_chain_is_asked(offered: Shell) -> None:
    """The tip is told for the address, and the payment by its file; nothing else is needed."""
    path = offered.folder / "buyer" / "wallet.toml"
    path.write_text(path.read_text().replace('backend = "embedded"', 'backend = "none"'))
    offered.fails(LOOK, 2, "tip-needed")
    view = offered.json(f"{LOOK} --tip 120")
    assert offered.json(f"{BUYER} list")["awaited"][0]["offer_id"] == view["offer_id"]
    txid = offered.json(f"mpchan regtest faucet {view['address']} 50000")["txid"]
    with EmbeddedChain(offered.folder / CHAIN) as chain:
        found = chain.transaction(Txid.from_hex(txid))
    assert found is not None
    (offered.folder / "paid.hex").write_text(found[0].to_hex())
    told = offered.json(f"{BUYER} payer open --funding paid.hex --tip 120")
    assert [each["what"] for each in told["arrived"]] == ["channel"]
    offered.fails(f"{BUYER} payer recover offer.toml --tip 120", 8, "no-backend")
