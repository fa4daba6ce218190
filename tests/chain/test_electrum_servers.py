"""Several Electrum servers, their certificates, and the way to them through a SOCKS5 proxy."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.chain.bitcoind import account, first, fresh_script, spend
from support.chain.electrum_server import CERTIFICATES, ElectrumServer, serving
from support.chain.faulty import break_off
from support.chain.lying import Refuse, lying

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.electrum import ElectrumChain, pool
from mpchan.chain.electrum.address import PROXY_PASSWORD_VARIABLE, PROXY_USER_VARIABLE, Proxy, Server
from mpchan.chain.electrum.connection import Connection, Reply, Request
from mpchan.errors import ChainError, ParseError, StorageError

NOBODY = "127.0.0.1:1"


def asking(
    *names: str, directory: Path | None = None, proxy: str | None = None, **options: Any
) -> ElectrumChain:
    """The backend on these servers."""
    through = None if proxy is None else Proxy.parse(proxy)
    return ElectrumChain(REGTEST, [Server.parse(name) for name in names], through, directory, **options)


def refusal(chain: ElectrumChain) -> ChainError:
    with chain, pytest.raises(ChainError) as caught:
        chain.tip()
    assert caught.value.exit_code == 8
    return caught.value


# several servers ----------------------------------------------------------------------------------


def test_one_that_is_down_is_passed_over(electrum: ElectrumServer) -> None:
    with asking(NOBODY, electrum.name, NOBODY) as chain:
        assert chain.tip().height == electrum.node.height


def test_all_are_down() -> None:
    error = refusal(asking(NOBODY, "127.0.0.1:2"))
    assert error.slug == "unreachable"
    assert "127.0.0.1:1:t" in error.message
    assert "127.0.0.1:2:t" in error.message


def test_one_that_lies_is_passed_over(electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes from the next; without a next it is the error (``test_electrum_lies``)."""
    monkeypatch.setattr(pool, "PAUSES", (0.01,))
    funding = electrum.node.pay(fresh_script(), 50_000)
    electrum.node.mine(2)
    electrum.settle()
    with lying(electrum.port) as liar, liar.chain(electrum.name) as chain:
        liar.lies["blockchain.scripthash.get_history"] = lambda parameters, history: [
            {**item, "height": 1} for item in history
        ]
        assert chain.output(first(funding)) == account(electrum.node)[first(funding)]
        assert liar.asked["blockchain.scripthash.get_history"] == 2
        assert chain.output(first(funding)) == account(electrum.node)[first(funding)]
        assert liar.asked["blockchain.scripthash.get_history"] == 2, "it is not asked again"


def test_one_that_breaks_off_in_the_middle(electrum: ElectrumServer) -> None:
    with lying(electrum.port) as liar, liar.chain(electrum.name) as chain:
        assert chain.tip().height == electrum.node.height
        asked = liar.asked["blockchain.headers.subscribe"]
        liar.close()
        assert chain.tip().height == electrum.node.height
        assert liar.asked["blockchain.headers.subscribe"] == asked


def test_one_server_cannot_hold_back_a_transaction(electrum: ElectrumServer) -> None:
    """It says that it took what it threw away; the others get it too, whether or not one of them can be reached."""
    funding = electrum.node.pay(fresh_script(), 50_000, 100_000)
    electrum.node.mine()
    electrum.settle()
    with lying(electrum.port) as liar, liar.chain(NOBODY, electrum.name) as chain:
        liar.swallowed["blockchain.transaction.broadcast"] = lambda parameters: str(
            Transaction.from_hex(parameters[0]).txid
        )
        liar.swallowed["blockchain.transaction.broadcast_package"] = lambda parameters: {"success": True}
        alone = spend(funding, 40_000)
        chain.broadcast(alone)
        assert liar.asked["blockchain.transaction.broadcast"] == 1
        parent = spend(funding, 100_000, vout=1, script=fresh_script())
        child = spend(parent, 90_000)
        chain.broadcast_package([parent, child])
        assert liar.asked["blockchain.transaction.broadcast_package"] == 1
    waiting = electrum.node.call("getrawmempool")
    assert {str(transaction.txid) for transaction in (alone, parent, child)} <= set(waiting)


def test_a_refusal_that_is_a_lie(electrum: ElectrumServer) -> None:
    """Its word counts, so that a person looks; but the transaction is out there."""

    def refuse(parameters: list[Any]) -> None:
        raise Refuse("the transaction was rejected by network rules.\n\nbad-txns-oversize\n[00]")

    funding = electrum.node.pay(fresh_script(), 50_000)
    close = spend(funding, 40_000)
    with lying(electrum.port) as liar, liar.chain(electrum.name) as chain:
        liar.swallowed["blockchain.transaction.broadcast"] = refuse
        with pytest.raises(ChainError) as caught:
            chain.broadcast(close)
        assert caught.value.slug == "rejected"
        assert caught.value.message.endswith(": bad-txns-oversize [00]")
    assert str(close.txid) in electrum.node.call("getrawmempool")


def test_the_first_named_of_equals_is_asked(electrum: ElectrumServer) -> None:
    with lying(electrum.port) as one, lying(electrum.port) as two:
        with one.chain(two.name) as chain:
            chain.tip()
            chain.fee_rate()
        assert one.asked["blockchain.estimatefee"] == 1
        assert two.asked["blockchain.estimatefee"] == 0
        assert two.asked["blockchain.headers.subscribe"] == 1, "asked where its chain stands"


def test_a_server_of_another_network_is_named(electrum: ElectrumServer) -> None:
    chain = ElectrumChain(REGTEST, [Server.parse(electrum.name)])
    chain._pool._network = type(REGTEST)(
        **{name: getattr(REGTEST, name) for name in REGTEST.__value_init__ if name != "genesis_hash"},  # type: ignore[attr-defined]
        genesis_hash="00" * 32,
    )
    error = refusal(chain)
    assert error.slug == "wrong-network"
    assert REGTEST.genesis_hash in error.message


def test_many_outputs_are_asked_about_together(electrum: ElectrumServer) -> None:
    """Those that are unspent, spent and unknown: from the second time on a history of each, and the tip once."""
    node = electrum.node
    fundings = [node.pay(fresh_script(), 50_000) for _ in range(8)]
    electrum.settle()
    closes = [spend(funding, 40_000) for funding in fundings[:3]]
    unknown = [first(spend(close, 30_000)) for close in closes]
    asked = dict.fromkeys([*map(first, fundings), *unknown])
    history, get = "blockchain.scripthash.get_history", "blockchain.transaction.get"
    with lying(electrum.port) as liar, liar.chain() as chain:
        for confirmations in range(4):
            before = liar.asked.copy()
            found = chain.outputs(asked)
            truth = account(node)
            assert found == {outpoint: truth[outpoint] for outpoint in asked if outpoint in truth}
            assert len(found) == len(fundings)
            now = liar.asked - before
            assert now[history] == len(fundings)
            if confirmations == 3:
                assert (now[get], now["blockchain.transaction.get_merkle"]) == (len(unknown), 0)
                assert now["blockchain.headers.subscribe"] == 1
            if confirmations == 1:
                for close in closes:
                    chain.broadcast(close)
                electrum.settle()
                assert chain.outputs(asked) == {outpoint: account(node)[outpoint] for outpoint in found}
            node.mine()
            electrum.settle()


def test_one_exchange_for_each_kind_of_question(
    electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process, over channels that are open, closed, and never funded."""
    node = electrum.node
    fundings = [node.pay(fresh_script(), 50_000) for _ in range(8)]
    node.mine()
    closes = [spend(funding, 40_000) for funding in fundings[:4]]
    node.mine_with(closes)
    electrum.settle()
    asked = dict.fromkeys([*map(first, fundings), *(first(spend(close, 30_000)) for close in closes)])
    exchanges: list[str] = []
    exchange = Connection._exchange

    def counted(self: Connection, requests: Sequence[Request]) -> list[Reply]:
        exchanges.append(requests[0][0])
        return exchange(self, requests)

    monkeypatch.setattr(Connection, "_exchange", counted)
    with electrum.chain() as chain:
        chain.tip()
        exchanges.clear()
        truth = account(node)
        assert chain.outputs(asked) == {first(funding): truth[first(funding)] for funding in fundings}
    kinds = [name.rpartition(".")[2] for name in exchanges]
    assert kinds == ["subscribe", "get", "get_history", "get", "get_merkle"]


def test_the_own_broadcast_and_a_block_are_seen_at_once(electrum: ElectrumServer) -> None:
    """Nothing of what was said a moment ago is taken for what is so now."""
    node = electrum.node
    fundings = [node.pay(fresh_script(), 50_000) for _ in range(3)]
    node.mine()
    electrum.settle()
    asked = dict.fromkeys(map(first, fundings))
    with electrum.chain() as chain:
        assert len(chain.outputs(asked)) == len(fundings)
        close = spend(fundings[1], 40_000)
        chain.broadcast(close)
        electrum.settle()
        assert chain.output(first(fundings[1])) == account(node)[first(fundings[1])]
        other = node.pay(fresh_script(), 60_000)
        node.mine()
        electrum.settle()
        assert chain.output(first(other)) == account(node)[first(other)]
        assert chain.outputs(asked) == {outpoint: account(node)[outpoint] for outpoint in asked}


# certificates -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vouched(electrum: ElectrumServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElectrumServer]:
    """A second server, whose certificate an authority of the tests has signed."""
    with serving(electrum.node, tmp_path_factory.mktemp("vouched") / "server", "vouched") as server:
        yield server


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this machine trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))


def kept(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (directory / "certificates").iterdir()}


def test_a_certificate_of_its_own_is_kept_at_the_first_connection(
    electrum: ElectrumServer, tmp_path: Path
) -> None:
    for _ in range(2):
        with asking(electrum.tls_name, directory=tmp_path) as chain:
            assert chain.tip().height == electrum.node.height
        name = f"localhost-{electrum.tls_port}.pem"
        assert kept(tmp_path) == {name: (CERTIFICATES / "own.pem").read_text()}
    with asking(electrum.tls_name) as chain:
        assert chain.tip().height == electrum.node.height


def test_another_certificate_later_is_refused(electrum: ElectrumServer, tmp_path: Path) -> None:
    """Also where another server could be asked: this must be seen."""
    with asking(electrum.tls_name, directory=tmp_path) as chain:
        chain.tip()
    path = tmp_path / "certificates" / f"localhost-{electrum.tls_port}.pem"
    for text in ((CERTIFICATES / "other.pem").read_text(), "", "nonsense"):
        path.write_text(text)
        for others in ((), (electrum.name,)):
            error = refusal(asking(electrum.tls_name, *others, directory=tmp_path))
            assert error.slug == "certificate-changed"
            assert error.hint is not None
            assert str(path) in error.hint
        assert path.read_text() == text
    path.unlink()
    with asking(electrum.tls_name, directory=tmp_path) as chain:
        chain.tip()


@pytest.mark.usefixtures("authority")
def test_a_certificate_that_an_authority_vouches_for(vouched: ElectrumServer, tmp_path: Path) -> None:
    for _ in range(2):
        with asking(vouched.tls_name, directory=tmp_path) as chain:
            assert chain.tip().height == vouched.node.height
    [text] = kept(tmp_path).values()
    assert "BEGIN CERTIFICATE" not in text, "it may be renewed as often as it likes"


def test_a_certificate_that_no_authority_vouches_for_any_more(
    vouched: ElectrumServer, electrum: ElectrumServer, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
        with asking(vouched.tls_name, directory=tmp_path) as chain:
            chain.tip()
    error = refusal(asking(vouched.tls_name, electrum.name, directory=tmp_path))
    assert error.slug == "certificate-changed"
    assert "no authority vouches for it any more" in error.message


def test_a_certificate_that_cannot_be_kept(electrum: ElectrumServer, tmp_path: Path) -> None:
    (tmp_path / "certificates").write_text("a file")
    with asking(electrum.tls_name, directory=tmp_path) as chain, pytest.raises(StorageError) as caught:
        chain.tip()
    assert caught.value.exit_code == 7


def test_tls_to_a_port_that_speaks_none(electrum: ElectrumServer, tmp_path: Path) -> None:
    error = refusal(asking(f"{electrum.name}:s", directory=tmp_path, seconds=2))
    assert error.slug == "unreachable"
    assert not (tmp_path / "certificates").exists()
    error = refusal(asking(f"localhost:{electrum.tls_port}:t", seconds=2))
    assert error.slug in ("unreachable", "malformed-answer")


# the proxy ----------------------------------------------------------------------------------------


class Socks:
    """A SOCKS5 proxy (RFC 1928, RFC 1929) that knows its own names for servers.

    Attributes:
        names: host names, and the local port that each stands for.
        wanted: user and password, or None where it takes everybody.
        asked: what it was asked: host, port, user and password.
    """

    def __init__(self, names: dict[str, int], wanted: tuple[str, str] | None = None) -> None:
        self.names = names
        self.wanted = wanted
        self.asked: list[tuple[str, int, str, str]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socks5://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        break_off(self._server, *self._open)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            version, count = client.recv(2)
            methods = client.recv(count)
            assert version == 5
            user = password = ""
            if 2 in methods:  # as Tor does: credentials before none
                client.sendall(b"\x05\x02")
                client.recv(1)
                user = client.recv(client.recv(1)[0]).decode()
                password = client.recv(client.recv(1)[0]).decode()
                good = self.wanted in (None, (user, password))
                client.sendall(b"\x01\x00" if good else b"\x01\x01")
                if not good:
                    return
            else:
                client.sendall(b"\x05\x00")
            _, command, _, kind = client.recv(4)
            assert command == 1
            host = client.recv(client.recv(1)[0]).decode() if kind == 3 else socket.inet_ntoa(client.recv(4))
            [port] = struct.unpack(">H", client.recv(2))
            self.asked.append((host, port, user, password))
            if host not in self.names:
                client.sendall(b"\x05\x04\x00\x01" + bytes(6))
                return
            with socket.create_connection(("127.0.0.1", self.names[host])) as upstream:
                client.sendall(b"\x05\x00\x00\x01" + bytes(6))
                self._open.append(upstream)
                back = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
                back.start()
                _pump(client, upstream)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def socks(names: dict[str, int], wanted: tuple[str, str] | None = None) -> Iterator[Socks]:
    server = Socks(names, wanted)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a name server here fails the test."""
    resolve = socket.getaddrinfo

    def refuse(host: str, *args: Any, **kwargs: Any) -> Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"{host} was to be resolved here"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


ONION = "mpchantestserver234567abcdefghijklmnopqrstuvwxyz234567ab.onion"


@pytest.mark.usefixtures("no_names")
def test_the_proxy_resolves_host_names(electrum: ElectrumServer) -> None:
    with socks({ONION: electrum.port, "electrum.example": electrum.port}) as proxy:
        for host in (ONION, "electrum.example"):
            with asking(f"{host}:50001:t", proxy=proxy.url) as chain:
                assert chain.tip().height == electrum.node.height
            assert proxy.asked[-1][:2] == (host, 50001)


@pytest.mark.usefixtures("no_names")
def test_tls_through_the_proxy(electrum: ElectrumServer, tmp_path: Path) -> None:
    """With a certificate of its own that is one more connection, also through the proxy."""
    with socks({"electrum.example": electrum.tls_port}) as proxy:
        for count in (2, 4):
            with asking("electrum.example:50002:s", proxy=proxy.url, directory=tmp_path) as chain:
                assert chain.tip().height == electrum.node.height
            assert 2 <= len(proxy.asked) <= count
    assert list(kept(tmp_path)) == ["electrum.example-50002.pem"]


@pytest.mark.usefixtures("authority")
def test_a_certificate_for_another_name(vouched: ElectrumServer, tmp_path: Path) -> None:
    """No authority vouches for it under this name: it is then like one of the server's own."""
    name = "electrum.example"
    with (
        socks({name: vouched.tls_port}) as proxy,
        asking(f"{name}:50002:s", proxy=proxy.url, directory=tmp_path) as chain,
    ):
        chain.tip()
    assert kept(tmp_path) == {"electrum.example-50002.pem": (CERTIFICATES / "vouched.pem").read_text()}


def test_each_server_goes_by_a_route_of_its_own(electrum: ElectrumServer) -> None:
    """Tor keeps connections with different credentials apart."""
    with socks({"one.onion": electrum.port, "two.onion": electrum.port}) as proxy:
        with asking("one.onion:1", "two.onion:1", proxy=proxy.url) as chain:
            chain.tip()
        used = {(user, password) for _, _, user, password in proxy.asked}
    assert len(used) == 2
    assert all(user and password for user, password in used)


def test_credentials_from_the_environment(electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socks({"one.onion": electrum.port}, ("me", "secret")) as proxy:
        error = refusal(asking("one.onion:1", proxy=proxy.url))
        assert error.slug == "unreachable"
        assert proxy.url in error.message
        monkeypatch.setenv(PROXY_USER_VARIABLE, "me")
        chain = asking("one.onion:1", proxy=proxy.url)
        with chain, pytest.raises(ParseError) as caught:
            chain.tip()
        assert PROXY_PASSWORD_VARIABLE in caught.value.message
        monkeypatch.setenv(PROXY_PASSWORD_VARIABLE, "secret")
        with asking("one.onion:1", proxy=proxy.url) as chain:
            assert chain.tip().height == electrum.node.height
        assert proxy.asked[-1][2:] == ("me", "secret")


def test_what_the_proxy_cannot_reach(electrum: ElectrumServer) -> None:
    with socks({}) as proxy:
        error = refusal(asking("gone.onion:1", proxy=proxy.url))
    assert error.slug == "unreachable"
    assert "host unreachable" in error.message.lower()


def test_a_proxy_that_is_down_or_is_none(electrum: ElectrumServer) -> None:
    """No connection goes past it."""
    assert refusal(asking(electrum.name, proxy="socks5://127.0.0.1:1")).slug == "unreachable"
    wrong = f"socks5://{electrum.name}"
    assert refusal(asking(electrum.name, proxy=wrong, seconds=1)).slug == "unreachable"


def test_the_library_is_missing(electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    error = refusal(asking(electrum.name, electrum.name, proxy="socks5://127.0.0.1:1"))
    assert error.slug == "proxy-missing"
    assert error.hint == "pip install 'mpchan[tor]'"
