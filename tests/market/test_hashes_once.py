"""The hashes of a file's pieces stand where it is on sale or on order, once, and in no channel."""

from __future__ import annotations

import pytest
from support.market.cheats import Forger
from support.market.market import PIECE, PRICE, Market

from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.terms import Terms
from mpchan.errors import ParseError
from mpchan.wallet import records
from mpchan.wallet.wallet import Wallet


def test_no_channel_holds_them(market: Market) -> None:
    """Neither the seller's nor the buyer's, in any of its files; and the sale ends whole all the same."""
    market.buy("1-3")
    market.chain.mine(1)
    market.restart()
    market.buy()
    assert market.is_whole()
    hashes = [digest.hex().encode() for digest in market.hashes.hashes]
    for home in (market.pair.payer.directory, market.pair.payee.directory):
        files = [path for path in (home / "channels").iterdir() if path.is_file()]
        assert len(files) > 3
        for path in files:
            data = path.read_bytes()
            assert not any(digest in data for digest in hashes), path
    published = (market.pair.payee.directory / "offers" / f"{market.own.offer.offer_id}.toml").read_bytes()
    assert all(published.count(digest) == 1 for digest in hashes)


def test_very_many_pieces_make_no_larger_channel(
    tmp_path_factory: pytest.TempPathFactory, chain: EmbeddedChain
) -> None:
    sizes = []
    for pieces in (5, 600):
        market = Market(tmp_path_factory.mktemp("pieces"), chain, pieces=pieces, step=1)
        ann = Forger(market, "aa" * 16)
        ann.open("1-5")
        assert ann.pay(1) == 1
        channels = market.pair.payee.directory / "channels"
        sizes.append(sum(path.stat().st_size for path in channels.iterdir()))
    assert abs(sizes[1] - sizes[0]) < 200


def test_files_that_hold_them_are_read(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another version wrote them: the sale goes on, and what is written from then on is without them."""
    ann = Forger(market, "aa" * 16)
    real = records._terms_fields

    def with_them(terms: Terms) -> dict[str, object]:
        fields = real(terms)
        sale = fields["offer"]["sale"]
        sale["pieces"] = [digest.hex() for digest in market.hashes.hashes]
        return fields

    with monkeypatch.context() as patch:
        patch.setattr(records, "_terms_fields", with_them)
        ann.open()
        assert ann.pay(1) == 1
    state = market.pair.payee.channels.state_path(ann.name)
    assert market.hashes.hashes[0].hex() in state.read_text()
    market.restart()
    assert "pieces" in (market.pair.payee.channels.load(ann.name).terms.offer.sale or {})
    assert ann.pay(3) == 3
    assert ann.piece(2) == 2
    assert market.hashes.hashes[0].hex() not in state.read_text()
    again = Wallet.open(market.pair.payee.directory).channels.load(ann.name)
    assert again.paid.sat == 3 * PRICE


def test_a_sale_without_them_is_none(market: Market) -> None:
    """But for whoever has the very same file on sale."""
    ann = Forger(market, "aa" * 16)
    bare = dict(ann.offer().without_pieces().sale or {})
    with pytest.raises(ParseError, match="lacks the key pieces"):
        market.sale.from_table(bare)
    read = market.sale.from_table(bare, market.sale)
    assert (read.hashes, read.buyer) == (market.sale.hashes, "aa" * 16)
    with pytest.raises(ParseError, match="lacks the key pieces"):
        market.sale.from_table({**bare, "merkle_root": "00" * 32}, market.sale)
    short = {**bare, "length": 4 * PIECE}
    with pytest.raises(ParseError, match="4 pieces, of which 5"):
        market.sale.from_table(short, market.sale)
