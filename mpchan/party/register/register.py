"""All channels of a wallet in which requests are paid; one process has them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.channel.construction.base import Form, settlement
from mpchan.channel.construction.registry import construction_of
from mpchan.channel.rules import enforce
from mpchan.channel.terms import Terms
from mpchan.durability import step
from mpchan.errors import ChainError, MpchanError, Refused, StorageError
from mpchan.party import payee as commands
from mpchan.party.check.payee_rules import own_channel_rules
from mpchan.party.common import gather_facts
from mpchan.party.meter.base import AnyWallet, Meter, RecentFacts
from mpchan.party.opening.brought import require_channel
from mpchan.party.register.asks import Ask, Short, Signed, Standing, Verdict
from mpchan.party.register.channel import Known, Outcome, Requests
from mpchan.party.register.keys import Keys
from mpchan.results.closing import Closed
from mpchan.units import Amount, OutPoint
from mpchan.wallet.account import settled
from mpchan.wallet.past import history
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.storage import locked


class Register(Meter):
    """What is charged in the channels in which a wallet is paid.

    It serves one thread. A channel is held for a batch and no longer, so commands and a watcher work beside it; but
    only one register at a time has a wallet, since it alone knows which requests are in flight. What an earlier one has
    left in flight counts as served.

    Raises:
        StorageError: ``locked``: another process has the wallet's register.
    """

    def __init__(
        self, wallet: AnyWallet, *, chain: Chain | None = None, passphrase: str | None = None
    ) -> None:
        super().__init__(wallet, chain, passphrase)
        self._known: dict[str, Known] = {}
        self._outcomes: dict[str, list[Outcome]] = {}
        self._mine = ExitStack()
        path = self.wallet.directory / "register.lock"
        self._mine.enter_context(locked(path, timeout=0))
        try:
            self._end_what_was_left()
        except BaseException:
            self._mine.close()
            raise

    def close(self) -> None:
        """Write down what is not written yet, and let another one have the wallet."""
        try:
            with suppress(StorageError):
                self.flush()
            super().close()
        finally:
            self._mine.close()

    def _names(self) -> Iterable[str]:
        return self._known

    def _end_what_was_left(self) -> None:
        """A request in flight whose process has gone may have been served, so it counts as charged."""
        for record in self.wallet.channels.readable():
            if isinstance(record, PayeeRecord) and record.account is not None and record.account.reserved:
                left = [Outcome(each.key, each.amount) for each in record.account.reserved]
                self._outcomes[record.terms.name] = left
        self.flush()

    # requests -------------------------------------------------------------------------------------

    def take_many(self, asks: Sequence[Ask]) -> list[Verdict]:
        """Judge requests, each channel's in their order; what is granted is on the disk on return.

        Raises:
            StorageError: the wallet itself fails: of the last channel's requests none was granted.
        """
        verdicts: dict[int, Verdict] = {}
        of_channel: dict[str, list[int]] = {}
        for at, ask in enumerate(asks):
            of_channel.setdefault(ask.channel, []).append(at)
        for name, places in of_channel.items():
            verdicts.update(zip(places, self._batch(name, [asks[at] for at in places]), strict=True))
        return [verdicts[at] for at in range(len(asks))]

    def _batch(self, name: str, asks: Sequence[Ask]) -> list[Verdict]:
        try:
            if not self.wallet.channels.knows(OutPoint.parse(name)):
                raise Refused("unknown-channel", f"no channel of this wallet is funded by {name}")
            with self.wallet.channels.lock(name, in_turn=True):
                requests = self._requests(name)
                verdicts = [requests.ask(ask) for ask in asks]
                requests.commit()
        except StorageError:
            raise
        except MpchanError as error:
            return [error] * len(asks)
        self._outcomes.pop(name, None)
        return verdicts

    def _requests(self, name: str) -> Requests:
        """What is to be judged next in a channel, which is held; what has ended is taken in."""
        record = enforce(own_channel_rules(self.wallet, name))
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._learnt(record)
        requests = Requests(self.wallet, record, known)
        requests.end(self._outcomes.get(name, ()))
        return requests

    def _learnt(self, record: PayeeRecord) -> Known:
        terms = record.terms
        form: Form | None = construction_of(terms.offer).form(terms)
        journal = self.wallet.channels.journal_path(terms.name)
        keys = Keys(entry for entry, _ in history(journal, terms.name))
        return Known(form, RecentFacts(lambda: gather_facts(self._chain, terms)), keys)

    def outcome(self, channel: str, key: str, charged: int) -> None:
        """A request in flight has ended; it is written down with what comes next in its channel.

        Args:
            charged: satoshi; no more than was reserved is taken of it. 0 where it was not served.

        Raises:
            ValueError: it is negative.
        """
        if charged < 0:
            raise ValueError(f"a request has cost {charged} sat")
        self._outcomes.setdefault(channel, []).append(Outcome(key, charged))

    @property
    def has_outcomes(self) -> bool:
        """Whether something has ended that is not written down."""
        return bool(self._outcomes)

    def flush(self) -> None:
        """Write down what has ended.

        Raises:
            StorageError: the wallet fails; it is tried again the next time.
        """
        for name in list(self._outcomes):
            self._batch(name, ())

    def standing(self, channel: str) -> Standing:
        """Where a channel stands.

        Raises:
            Refused: ``unknown-channel``.
        """
        if not self.wallet.channels.knows(OutPoint.parse(channel)):
            raise Refused("unknown-channel", f"no channel of this wallet is funded by {channel}")
        with self.wallet.channels.lock(channel, in_turn=True):
            return self._requests(channel).standing()

    # opening and closing --------------------------------------------------------------------------

    def open(self, terms: Terms, transaction: bytes | None, first: Signed) -> None:
        """Make the channel of a funding and of the first total in it, once the chain shows that deep enough.

        Nothing is kept before. The funding is broadcast where the chain does not show it.

        Args:
            terms: of the channel, under an offer of this wallet.
            transaction: the funding; None where the payer has broadcast it.

        Raises:
            TooEarly: ``funding-unseen``, ``unconfirmed``: the very same again does later.
            MpchanError: as ``payee accept`` refuses a first payment.
        """
        if self.wallet.channels.knows(terms.outpoint):
            return
        self.send_funding(terms.outpoint, transaction)
        meant = terms.schedule.update(first.number or 1, Amount(first.total))
        message = terms.lock.message(terms.schedule.build(meant), terms.payer_key, first.signature)
        require_channel(self.wallet, self._chain, terms.name, message)

    def send_funding(self, outpoint: OutPoint, transaction: bytes | None) -> None:
        """Broadcast a funding that the chain does not show: its payer may have been stopped before it did.

        Raises:
            Refused: ``funding-txid``, it is another transaction.
        """
        if transaction is None:
            return
        funding = Transaction.from_bytes(transaction)
        if funding.txid != outpoint.txid:
            raise Refused("funding-txid", f"the transaction is {funding.txid}, not {outpoint.txid}")
        if self._chain.sends and self._chain.output(outpoint) is None:
            with suppress(ChainError):  # the rules say what the chain shows of it
                step("emit", self._chain.broadcast, funding)

    def close_channel(self, channel: str, signed: Signed) -> Closed | Short | None:
        """Close a channel with what was charged in it, as its payer asks; None while requests are in flight.

        Whoever has not signed learns nothing: where the channel stands holds the payer's word for what is left over.

        Raises:
            Refused: ``over-capacity``; the rule of the signature.
            MpchanError: as ``payee settle`` refuses the payer's settlement.
        """
        self.flush()
        terms = enforce(own_channel_rules(self.wallet, channel)).terms
        if signed.total > terms.capacity.sat:
            raise Refused("over-capacity", f"a total of {signed.total} sat is above {terms.capacity}")
        wanted = terms.schedule.build(settlement(Amount(signed.total)))
        enforce(terms.lock.signature_rules(wanted, terms.payer_key, signed.signature))
        standing = self.standing(channel)
        if standing.reserved:
            return None
        total = settled(standing.spent, terms.payee_dust.sat)
        if signed.total != total:
            return Short(standing, "voucher-low", total)
        message = terms.lock.message(wanted, terms.payer_key, signed.signature)
        self._known.pop(channel, None)
        return commands.settle(self.wallet, self._chain, message, at_spent=True)
