"""The questions of the Electrum protocol (1.4 to 1.6) that mpchan asks, their answers read but not believed.

What an answer claims is checked where it is used: transactions against their ids here, confirmations by ``View``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin.block import HEADER_SIZE
from mpchan.bitcoin.script import sha256
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.answer import Failure
from mpchan.chain.electrum.connection import Connection, Request, ServerAnswer
from mpchan.units import LOCK_TIME_THRESHOLD, MAX_LOCK_TIME, MAX_MONEY_SAT, FeeRate, OutPoint, Txid
from mpchan.values import frozen

MAX_HEADERS = 2016
"""In one answer; servers send no more."""

_ARRAYS_OF_HEADERS = (1, 6)
_PACKAGES = (1, 6)
_TRANSACTIONS_AT_ONCE = 20
_UNKNOWN = (
    "no such mempool",
    "missing transaction",
    "transaction not found",
    "no transaction matching",
    "unknown transaction",
)


@frozen
class Claim:
    """A server's word that a transaction stands at a height.

    Attributes:
        height: 0 or less where it is only in the mempool.
    """

    txid: Txid
    height: int


@frozen
class UnspentClaim:
    """A server's word that an output is unspent.

    Attributes:
        height: of its transaction; 0 or less where that is only in the mempool.
        value: in satoshi.
    """

    outpoint: OutPoint
    height: int
    value: int


@frozen
class Branch:
    """What a server shows as proof that a transaction is in a block.

    Attributes:
        path: the other child of each level of the merkle tree, the lowest first, wire order.
    """

    position: int
    path: tuple[bytes, ...]


class Questions:
    """One server. Every method raises ``ChainError`` as ``Connection`` does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def name(self) -> str:
        """Of the server, for people."""
        return str(self._connection.server)

    @property
    def connection(self) -> Connection:
        """For what has no question here."""
        return self._connection

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        self._connection.close()

    # headers --------------------------------------------------------------------------------------

    def first_header(self) -> bytes:
        """The header of the genesis block."""
        return _header(self._connection.call("blockchain.block.header", 0))

    def tip(self) -> tuple[int, bytes]:
        """Height and header of the server's last block."""
        answer = self._connection.call("blockchain.headers.subscribe")
        return answer["height"].height(), _header(answer["hex"])

    def headers(self, start: int, count: int) -> bytes:
        """Up to ``count`` headers (at most ``MAX_HEADERS``) from that height on, at least one."""
        answer = self._connection.call("blockchain.block.headers", start, count)
        if self._connection.protocol >= _ARRAYS_OF_HEADERS:
            raw = b"".join(_header(item) for item in answer["headers"].items())
        else:
            raw = answer["hex"].data()
        if not raw or len(raw) % HEADER_SIZE or len(raw) > count * HEADER_SIZE:
            raise answer.malformed(f"up to {count} headers")
        return raw

    # transactions ---------------------------------------------------------------------------------

    def transactions(self, txids: Sequence[Txid]) -> list[Transaction | None]:
        """Whole transactions; None for one that the server does not know."""
        found: list[Transaction | None] = []
        for start in range(0, len(txids), _TRANSACTIONS_AT_ONCE):
            part = txids[start : start + _TRANSACTIONS_AT_ONCE]
            requests: list[Request] = [("blockchain.transaction.get", [str(txid)]) for txid in part]
            for txid, reply in zip(part, self._connection.attempt_all(requests), strict=True):
                if not isinstance(reply, Failure):
                    found.append(reply.transaction(txid))
                elif any(word in reply.message.lower() for word in _UNKNOWN):
                    found.append(None)
                else:
                    raise self._connection.refused("blockchain.transaction.get", reply)
        return found

    def branches(self, claims: Sequence[Claim]) -> list[Branch | None]:
        """What proves that transactions stand at these heights; None where the server says that one does not."""
        method = "blockchain.transaction.get_merkle"
        requests: list[Request] = [(method, [str(claim.txid), claim.height]) for claim in claims]
        found: list[Branch | None] = []
        for reply in self._connection.attempt_all(requests):
            if isinstance(reply, Failure):
                found.append(None)
                continue
            path = [_hash(item) for item in reply["merkle"].items()]
            found.append(Branch(reply["pos"].integer(0, MAX_LOCK_TIME), tuple(path)))
        return found

    # scripts --------------------------------------------------------------------------------------

    def histories(self, scripts: Sequence[bytes]) -> list[list[Claim]]:
        """The transactions, in chain and mempool, that pay to each script or spend from it."""
        answers = self._about("blockchain.scripthash.get_history", scripts)
        return [[_claim(item) for item in answer.items()] for answer in answers]

    def unspent(self, scripts: Sequence[bytes]) -> list[list[UnspentClaim]]:
        """The outputs that pay to each script, and that neither chain nor mempool spends."""
        answers = self._about("blockchain.scripthash.listunspent", scripts)
        return [[_unspent(item) for item in answer.items()] for answer in answers]

    def _about(self, method: str, scripts: Sequence[bytes]) -> list[ServerAnswer]:
        return self._connection.call_all([(method, [sha256(script)[::-1].hex()]) for script in scripts])

    # sending and fees -----------------------------------------------------------------------------

    def broadcast(self, transaction: Transaction) -> ServerAnswer | Failure:
        """Hand over a transaction: the id under which it was taken, or why not."""
        return self._connection.attempt("blockchain.transaction.broadcast", transaction.to_hex())

    @property
    def takes_packages(self) -> bool:
        """Whether transactions can be handed over together; asked after some other question."""
        return self._connection.protocol >= _PACKAGES

    def broadcast_package(self, transactions: Sequence[Transaction]) -> ServerAnswer | Failure:
        """Hand over parents and their child together: ``success`` and ``errors``, or why it was not even tried."""
        raw = [transaction.to_hex() for transaction in transactions]
        return self._connection.attempt("blockchain.transaction.broadcast_package", raw)

    def estimate(self, blocks: int) -> FeeRate | None:
        """The rate for one of so many next blocks; None where the server has no idea."""
        return self._connection.call("blockchain.estimatefee", blocks).rate()

    def min_rates(self) -> list[FeeRate]:
        """The lowest rates at which the server's node relays, and lets into its mempool."""
        if self._connection.protocol < _PACKAGES:
            rates = [self._connection.call("blockchain.relayfee").rate()]
        else:
            info = self._connection.call("mempool.get_info")
            rates = [info["mempoolminfee"].rate(), info["minrelaytxfee"].rate()]
        return [rate for rate in rates if rate is not None]

    def incremental_rate(self) -> FeeRate | None:
        """What the server's node wants on top from a replacement; None where the server does not tell."""
        if self._connection.protocol < _PACKAGES:
            return None
        info = self._connection.call("mempool.get_info")
        return info["incrementalrelayfee"].rate() if "incrementalrelayfee" in info else None


def _header(answer: ServerAnswer) -> bytes:
    data = answer.data()
    if len(data) != HEADER_SIZE:
        raise answer.malformed("a header")
    return data


def _hash(answer: ServerAnswer) -> bytes:
    return bytes.fromhex(answer.block_hash())[::-1]


def _claim(answer: ServerAnswer) -> Claim:
    return Claim(answer["tx_hash"].txid(), _height(answer["height"]))


def _unspent(answer: ServerAnswer) -> UnspentClaim:
    outpoint = OutPoint(answer["tx_hash"].txid(), answer["tx_pos"].integer(0, MAX_LOCK_TIME))
    return UnspentClaim(outpoint, _height(answer["height"]), answer["value"].integer(0, MAX_MONEY_SAT))


def _height(answer: ServerAnswer) -> int:
    """A height; 0 for a transaction in the mempool, -1 for one there with unconfirmed inputs."""
    return answer.integer(-1, LOCK_TIME_THRESHOLD - 1)
