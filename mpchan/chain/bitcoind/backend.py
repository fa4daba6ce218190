"""A Bitcoin Core node as the rest of mpchan sees a chain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mpchan.bitcoin.network import Network
from mpchan.bitcoin.tx import TRUC_VERSION, Transaction
from mpchan.chain.answer import Answer, Failure, words
from mpchan.chain.base import (
    COINBASE_MATURITY,
    FALLBACK_RATE,
    TARGET_BLOCKS,
    ChainConfig,
    Coin,
    Connected,
    OutputStatus,
    Spend,
)
from mpchan.chain.bitcoind.coins import coins_of, used_scripts_of
from mpchan.chain.bitcoind.endpoint import Credentials, Endpoint, named_cookie, usual_cookie
from mpchan.chain.bitcoind.node import catching_up, lag_of, require_truc
from mpchan.chain.bitcoind.notes import Block, ConfirmedSpend, Notes
from mpchan.chain.bitcoind.openings import Openings
from mpchan.chain.bitcoind.package import is_unable, refusals
from mpchan.chain.bitcoind.payments import Payments
from mpchan.chain.bitcoind.rpc import ANSWER_SECONDS, Rpc, granted, portions, spenders
from mpchan.chain.bitcoind.spends import Spends
from mpchan.chain.lag import refuse
from mpchan.chain.reasons import KNOWN_ALREADY, NO_INPUTS, NOT_YET, WAITING_ALREADY, refusal, telling
from mpchan.chain.steady import moved, steady
from mpchan.errors import ChainError
from mpchan.units import DAY_BLOCKS, ChainTip, FeeRate, Height, LockTime, OutPoint, Txid
from mpchan.values import replace

_NOTE_EVERY = 6
"""So many blocks may pass until it is noted again that an output is unspent."""

_MAX_OUTPUT_INDEX = 0x7FFF_FFFF

# Bitcoin Core's RPCErrorCode
_VERIFY_ERROR = -25
_VERIFY_REJECTED = -26
_VERIFY_ALREADY_IN_CHAIN = -27
_INTERNAL_ERROR = -32603


class BitcoindChain(Connected):
    """The chain of a Bitcoin Core node: 28 or newer, or 25 where it only watches and sends what is held.

    The node needs no wallet and none of its optional indexes. A node that prunes does, as long as it still has the
    blocks since an output was last seen unspent. One object serves one thread.

    Args:
        network: of the wallet; a node of another one is refused.
        notes: directory for what need not be looked up twice; None keeps it in memory.
        seconds: how long an answer may take.

    Raises:
        ChainError: any method: ``unreachable``, ``rpc-credentials``, ``warming-up``, ``wrong-network``,
            ``node-behind``, ``node-too-old``, ``node-busy``, ``pruned``, ``chain-moving``, ``malformed-answer``,
            ``rpc-error``.
    """

    def __init__(
        self,
        network: Network,
        endpoint: Endpoint,
        credentials: Credentials,
        notes: Path | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._network = network
        self._rpc = Rpc(endpoint, credentials, seconds=seconds)
        self._notes = Notes(notes)
        self._spends = Spends(self._rpc, self._notes)
        self._openings = Openings(self._rpc)
        self._payments = Payments(self._spends, None if notes is None else notes / "payments.json")
        self._checked = False
        self._relays_truc = False
        self._seen_tip: Block | None = None

    @classmethod
    def from_config(cls, config: ChainConfig, network: Network, notes: Path | None) -> BitcoindChain:
        """The node that wallet.toml names, else the one that this machine would have."""
        usual = Endpoint.usual(network)
        endpoint = usual if config.rpc_url is None else Endpoint.parse(config.rpc_url)
        cookie = usual_cookie(network) if config.rpc_cookie is None else named_cookie(config.rpc_cookie)
        return cls(network, endpoint, Credentials(cookie), notes)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._rpc.close()

    # --- the questions of every backend -----------------------------------------------------------

    def tip(self) -> ChainTip:
        """The best block's height and median time past, by one answer, and how the node is behind its network."""
        info = self._info()
        tip = ChainTip(info["blocks"].height(), info["mediantime"].time())
        return replace(tip, lag=lag_of(self._rpc, self._network, tip, info))

    def median_time_at(self, height: int) -> int | None:
        """Of a block of the node's best chain."""
        block = self._rpc.call("getblockhash", height).block_hash()
        return self._rpc.call("getblockheader", block)["mediantime"].time()

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """Those that chain or mempool hold, each with its spender; each block is read once for all of them."""
        self._check_network()
        # no block could hold a transaction of more outputs, and the node takes no such question
        possible = {
            outpoint: bound for outpoint, bound in asked.items() if outpoint.vout <= _MAX_OUTPUT_INDEX
        }
        return steady(lambda: self._outputs(possible))

    def appeared(self, openings: Mapping[OutPoint, bytes]) -> set[OutPoint]:
        """Those that chain or mempool hold, spent in no block before they were first asked about."""
        possible = [outpoint for outpoint in openings if outpoint.vout <= _MAX_OUTPUT_INDEX]
        return self._openings.appeared(possible, self._tip())

    def payments(self, scripts: Mapping[bytes, int]) -> list[Coin]:
        """Those that a block holds, spent or not; each block is read once for all of them, and once alone."""
        return steady(lambda: self._payments.find(scripts, self._tip())) if scripts else []

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The outputs of these scripts that neither chain nor mempool spends, in outpoint order.

        The node looks through all its unspent outputs and its mempool, which may take it a minute on mainnet.
        """
        refuse(catching_up(self._network, self._info()))
        return steady(lambda: coins_of(self._rpc, scripts))

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Those that an unspent output, or one of a mempool transaction, pays to.

        A node keeps no record of what was spent: a script whose every output a block has spent is not told.
        However many scripts are asked for, the node looks through its unspent outputs once.
        """
        refuse(self.tip().lag)  # a script that is taken for unused would be told to somebody a second time
        return used_scripts_of(self._rpc, scripts)

    def broadcast(self, transaction: Transaction) -> None:
        """Hand ``transaction`` to the node, which is asked first whether it would take it."""
        self._check_network()
        # any fee rate: the fees of a channel are agreed, and no limit may hold up a refund
        verdict = self._rpc.call("testmempoolaccept", [transaction.to_hex()], 0).only()
        if not verdict["allowed"].flag():
            reason = verdict["reject-reason"].text()
            self._refused(transaction, reason, verdict)
            if _word(reason) not in WAITING_ALREADY:
                return
            # what waits already is announced to the node's peers again, which may have been no peers the first time
        reply = self._rpc.attempt("sendrawtransaction", transaction.to_hex(), 0)
        if isinstance(reply, Failure):
            if reply.code not in (_VERIFY_ERROR, _VERIFY_REJECTED, _VERIFY_ALREADY_IN_CHAIN):
                raise self._rpc.refused("sendrawtransaction", reply)
            if reply.code != _VERIFY_ALREADY_IN_CHAIN:
                self._refused(transaction, reply.message, None)
        elif reply.txid() != transaction.txid:
            raise ChainError("malformed-answer", f"the node took another transaction: {reply.txid()}")

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        """Hand transactions, parents first, to the node as one package; those that it knows are fine."""
        self._check_network()
        # no further parameters: version 26 knows none
        reply = self._rpc.attempt("submitpackage", [transaction.to_hex() for transaction in transactions])
        if isinstance(reply, Failure):
            if is_unable(reply):
                raise ChainError(
                    "no-packages",
                    f"the node at {self._rpc.endpoint} takes no packages of transactions: {words(reply.message)}",
                    hint="Bitcoin Core 26 and newer do",
                )
            if reply.code not in (_VERIFY_ERROR, _VERIFY_REJECTED):
                raise self._rpc.refused("submitpackage", reply)
        refused = refusals(transactions, reply)
        known = [tx for tx, reason in refused if self._is_known(tx, _word(reason))]
        left = [tx for tx in transactions if tx not in known]
        if known and left:  # a parent has come into a block meanwhile
            self._hand_over(left)
        elif refused and not known:
            transaction, reason = telling(refused)
            self._refused(transaction, reason, None)

    def _hand_over(self, transactions: Sequence[Transaction]) -> None:
        if len(transactions) == 1:
            self.broadcast(transactions[0])
        else:
            self.broadcast_package(transactions)

    def require_version(self, version: int) -> None:
        """Ask the node for its own version, once, where what is asked for is not relayed by every node."""
        if version >= TRUC_VERSION and not self._relays_truc:
            self._check_network()
            require_truc(self._rpc)
            self._relays_truc = True

    def fee_rate(self) -> FeeRate:
        """The node's estimate for one of the next blocks, never below ``min_fee_rate``."""
        self._check_network()
        estimate = self._rpc.attempt("estimatesmartfee", TARGET_BLOCKS)
        rate = FALLBACK_RATE
        if isinstance(estimate, Failure):
            if (
                estimate.code != _INTERNAL_ERROR
            ):  # a node without a mempool of others' (-blocksonly) has no estimator
                raise self._rpc.refused("estimatesmartfee", estimate)
        elif "feerate" in estimate:
            rate = estimate["feerate"].fee_rate()
        return max(rate, self.min_fee_rate())

    def min_fee_rate(self) -> FeeRate:
        """The lowest rate that the node relays, and lets into its mempool as full as that is now."""
        self._check_network()
        info = self._rpc.call("getmempoolinfo")
        return max(info["mempoolminfee"].fee_rate(), info["minrelaytxfee"].fee_rate())

    def incremental_fee_rate(self) -> FeeRate:
        """What the node wants on top from a replacement."""
        self._check_network()
        return self._rpc.call("getmempoolinfo")["incrementalrelayfee"].fee_rate()

    # --- the node ---------------------------------------------------------------------------------

    def _check_network(self) -> None:
        if self._checked:
            return
        found = self._rpc.call("getblockhash", 0).block_hash()
        if found != self._network.genesis_hash:
            raise ChainError(
                "wrong-network",
                f"the node at {self._rpc.endpoint} is not of {self._network}: its genesis block is {found}",
                hint="set chain.rpc_url in wallet.toml to a node of the wallet's network",
            )
        self._checked = True

    def _info(self) -> Answer:
        """``getblockchaininfo``."""
        self._check_network()
        info = self._rpc.call("getblockchaininfo")
        self._seen_tip = Block(info["blocks"].height(), info["bestblockhash"].block_hash())
        return info

    def _tip(self) -> Block:
        info = self._info()
        return Block(info["blocks"].height(), info["bestblockhash"].block_hash())

    # --- outputs ----------------------------------------------------------------------------------

    def _outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        found = {outpoint: _confirmed_status(*noted) for outpoint, noted in self._spends.noted(asked).items()}
        unspent, best = self._unspent([outpoint for outpoint in asked if outpoint not in found], mempool=True)
        if best is not None:
            self._note_unspent(unspent, best)
        found.update(unspent)
        left = {outpoint: bound for outpoint, bound in asked.items() if outpoint not in found}
        if left:
            tip = self._tip()
            found.update(self._spent(left, tip))
            if self._tip() != tip:
                raise moved()
        return found

    def _unspent(
        self, outpoints: Sequence[OutPoint], *, mempool: bool
    ) -> tuple[dict[OutPoint, OutputStatus], str | None]:
        """Those that are unspent, and the hash of the tip; None where there is none of them."""
        found: dict[OutPoint, OutputStatus] = {}
        best: set[str] = set()
        for part in portions(outpoints):
            questions = [[str(outpoint.txid), outpoint.vout, mempool] for outpoint in part]
            for outpoint, coin in zip(part, granted(self._rpc, "gettxout", questions), strict=True):
                if coin.is_null:
                    continue
                output = coin.output("value", "scriptPubKey", "hex")
                confirmations = coin["confirmations"].height()
                mature = not coin["coinbase"].flag() or confirmations > COINBASE_MATURITY
                found[outpoint] = OutputStatus(output, confirmations, mature=mature)
                best.add(coin["bestblock"].block_hash())
        if len(best) > 1:
            raise moved()
        return found, next(iter(best), None)

    def _note_unspent(self, outpoints: Collection[OutPoint], best: str) -> None:
        """Note that no block up to this one spends these outputs, unless that was noted a few blocks ago."""
        if self._seen_tip is None or self._seen_tip.hash != best:
            height = self._rpc.call("getblockheader", best)["height"].height()
            self._seen_tip = Block(height, best)
        tip, late = self._seen_tip, []
        for outpoint in outpoints:
            clear = self._notes.get(outpoint).clear
            if clear is None or not tip.height - _NOTE_EVERY < clear.height <= tip.height:
                late.append(outpoint)
        self._notes.put_clear(late, tip)

    def _spent(self, asked: Mapping[OutPoint, LockTime | None], tip: Block) -> dict[OutPoint, OutputStatus]:
        """Those that are spent, in the mempool or a block; the others were never there."""
        found: dict[OutPoint, OutputStatus] = {}
        searched: dict[OutPoint, LockTime | None] = {}
        for outpoint, answer in spenders(self._rpc, list(asked)):
            if "spendingtxid" not in answer:
                searched[outpoint] = asked[outpoint]
            elif "blockhash" in answer:  # a node that happens to keep an index of spends
                header = self._rpc.call("getblockheader", answer["blockhash"].block_hash())
                block = Block(header["height"].height(), header["hash"].block_hash())
                spend = self._spends.details(outpoint, answer["spendingtxid"].txid(), block, None)
                found[outpoint] = _confirmed_status(spend, tip.height - block.height + 1)
            else:
                found[outpoint] = self._spent_in_mempool(outpoint, answer["spendingtxid"].txid())
        for outpoint, spend in self._spends.find(searched, tip).items():
            found[outpoint] = _confirmed_status(spend, tip.height - spend.block.height + 1)
        self._require_absent([outpoint for outpoint in searched if outpoint not in found])
        return found

    def _require_absent(self, outpoints: Sequence[OutPoint]) -> None:
        """See that the mempool does not hold what was found nowhere: it came, or its spender went, meanwhile."""
        txids = sorted({outpoint.txid for outpoint in outpoints})
        for part in portions(txids):
            replies = self._rpc.found_all("getmempoolentry", [[str(txid)] for txid in part])
            for txid, reply in zip(part, replies, strict=True):
                parent = None if reply is None else self._mempool_transaction(txid)
                if parent is not None and any(
                    outpoint.txid == txid and outpoint.vout < len(parent.outputs) for outpoint in outpoints
                ):
                    raise moved()

    def _spent_in_mempool(self, outpoint: OutPoint, spender: Txid) -> OutputStatus:
        transaction = self._mempool_transaction(spender)
        if transaction is None:
            raise moved()
        spend = Spend(spender, 0, transaction)
        confirmed = self._unspent([outpoint], mempool=False)[0].get(outpoint)
        if confirmed is not None:
            return OutputStatus(confirmed.output, confirmed.confirmations, spend)
        parent = self._mempool_transaction(outpoint.txid)
        if parent is None or outpoint.vout >= len(parent.outputs):
            raise moved()
        return OutputStatus(parent.outputs[outpoint.vout], 0, spend)

    def _mempool_transaction(self, txid: Txid) -> Transaction | None:
        # a node with an index of transactions would also give one that is confirmed: so the mempool is asked first
        entry = self._rpc.found("getmempoolentry", str(txid))
        reply = None if entry is None else self._rpc.found("getrawtransaction", str(txid))
        return None if reply is None else reply.transaction(txid)

    # --- refusals ---------------------------------------------------------------------------------

    def _refused(self, transaction: Transaction, reason: str, verdict: Answer | None) -> None:
        """Raise what a refusal is; return where the node only says that it knows the transaction."""
        word = _word(reason)
        if self._is_known(transaction, word):
            return
        told = words(reason)
        if verdict is not None and "reject-details" in verdict:
            details = words(verdict["reject-details"].text())
            told = details if details.startswith(told) else f"{told} ({details})"
        raise refusal("the node", transaction, told, word if word in NOT_YET else None, word)

    def _is_known(self, transaction: Transaction, word: str) -> bool:
        """Whether the node refuses a transaction only because it has it."""
        return word in KNOWN_ALREADY or (word in NO_INPUTS and self._is_in_chain(transaction))

    def _is_in_chain(self, transaction: Transaction) -> bool:
        """Whether a transaction whose inputs are gone has spent them itself, in one of the last blocks."""
        outpoint = transaction.inputs[0].outpoint
        recent = Height(max(1, self._tip().height - DAY_BLOCKS))
        looking = Spends(self._rpc, Notes(None))  # nothing is known of the time before, so nothing is noted
        noted = self._spends.noted([outpoint]).get(outpoint)
        found = looking.find({outpoint: recent}, self._tip()).get(outpoint) if noted is None else noted[0]
        return found is not None and found.transaction.txid == transaction.txid


def _word(reason: str) -> str:
    """The node's word for a reason, without its details."""
    return reason.partition(",")[0].partition(":")[0].strip()


def _confirmed_status(spend: ConfirmedSpend, confirmations: int) -> OutputStatus:
    deeper = spend.block.height - spend.output_height
    return OutputStatus(
        spend.output,
        confirmations + deeper,
        Spend(spend.transaction.txid, confirmations, spend.transaction),
    )
