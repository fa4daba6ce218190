"""The watcher: looks after every channel of a wallet, round by round.

A round asks for the tip once, and once about the outputs of all channels; ``channel.watching_payee`` and
``watching_payer`` decide; the deeds are done by the functions behind the commands, under the channel's lock, which look
again and save before they send. All that it sends of a channel is complete on the disk; what it signs is a child that
pays for it (``party.bidding``), where the keys are at hand. It remembers nothing that counts, so it may be stopped and
started at any moment, and several may run at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mpchan.chain.base import Chain, OutputStatus
from mpchan.channel import payee as payee_protocol
from mpchan.channel import payer as payer_protocol
from mpchan.channel.facts import Facts, Status
from mpchan.channel.watch.base import (
    SETTLE_SOON,
    Deadline,
    Decision,
    Deed,
    held_up_easily,
    next_deadline,
)
from mpchan.channel.watch.payee import payee_deadlines, payee_decision
from mpchan.channel.watch.payer import payer_deadlines, payer_decision
from mpchan.errors import ChainError, MpchanError, NotPossible, SentUnnoted, StorageError, TooEarly
from mpchan.party import payee, payer
from mpchan.party.common import ENDED, earliest_spend, facts_of, gather_facts
from mpchan.party.opening.arrivals import still_watched, take_what_came
from mpchan.party.opening.round import OpeningRound
from mpchan.party.watch.bidding import Answer, Bidder
from mpchan.results.watching import ChannelSeen, DeadlineSeen, RoundDone
from mpchan.units import ChainTip, OutPoint
from mpchan.values import frozen, replace
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record

PATIENCE_SECONDS = 1.0
"""For a channel that another command holds: there will be another round."""

STUBBORN_ROUNDS = 3
"""What passes by itself as a rule, and has not after so many rounds, needs a person."""


class BugAlarm(MpchanError):
    """A mistake of ours with one channel (exit 1)."""


@frozen
class Finding:
    """What a round saw of one channel, and did.

    Attributes:
        name: of the channel's file.
        record: None where the file cannot be read.
        sent: the txid of what was handed to the chain.
        over: nothing needs to be asked about it any more, unless its file changes.
    """

    name: str
    record: Record | None = None
    facts: Facts | None = None
    tip: ChainTip | None = None
    deed: Deed = Deed.NOTHING
    sent: str | None = None
    why: str = ""
    alarm: MpchanError | None = None
    over: bool = False

    @property
    def status(self) -> str | None:
        """As ``show`` has it; None where the chain has not told enough for one."""
        record = self.record
        if record is None or (self.facts is None and not _is_given_up(record)):
            return None
        return record.status(self.facts).value

    @property
    def deadline(self) -> Deadline | None:
        """The next one; None for a channel that has ended."""
        record, tip = self.record, self.tip
        if record is None or tip is None or record.status(self.facts) in ENDED:
            return None
        if isinstance(record, PayerRecord):
            return next_deadline(payer_deadlines(record.state), tip)
        return next_deadline(payee_deadlines(record.state), tip)

    def result(self, now: float) -> ChannelSeen:
        """As ``watch`` tells of it, at a time in seconds since 1970."""
        record, alarm = self.record, self.alarm
        counts = None if record is None else record.credit(self.facts)
        seen = self.facts is not None and self.facts.funding is not None
        return ChannelSeen(
            time=clock(now),
            event="channel",
            channel=self.name[:16],
            outpoint=self.name.replace("-", ":"),
            role=None if record is None else record.role,
            status=self.status,
            confirmations=self.facts.confirmations if seen and self.facts is not None else None,
            paid_sat=None if counts is None else counts.paid.sat,
            pending_sat=None if counts is None else counts.pending.sat,
            action=self.deed.value,
            txid=self.sent,
            deadline=None if self.tip is None else deadline_view(self.deadline, self.tip, now),
            reason=self.why,
            alarm=None if alarm is None else alarm.slug,
            message=None if alarm is None else alarm.message,
            hint=None if alarm is None else alarm.hint,
        )


def clock(now: float) -> str:
    """A time in seconds since 1970 in UTC (RFC 3339)."""
    return datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def deadline_view(deadline: Deadline | None, tip: ChainTip, now: float) -> DeadlineSeen | None:
    """A deadline in blocks and in clock time, each an estimate where the lock time is the other (600 s a block)."""
    if deadline is None:
        return None
    lock_time, seconds = deadline.lock_time, deadline.seconds_left(tip)
    at = now + seconds if lock_time.unit == "blocks" else float(lock_time.value)
    blocks = deadline.blocks_left(tip)
    return DeadlineSeen(deadline.what, lock_time.value, lock_time.unit, blocks, seconds, clock(at))


@frozen
class Round:
    """The end of a round.

    Attributes:
        tip: None where the chain was out of reach.
        findings: of all channels that were looked at.
        alarm: of the round as a whole: the chain is out of reach, or the backend is behind its network.
        whole: whether every channel was looked at.
    """

    tip: ChainTip | None
    findings: tuple[Finding, ...]
    alarm: MpchanError | None = None
    whole: bool = True

    @property
    def alarms(self) -> list[MpchanError]:
        """All reasons why a person is needed."""
        found = [finding.alarm for finding in self.findings if finding.alarm is not None]
        return found if self.alarm is None else [self.alarm, *found]

    @property
    def exit_code(self) -> int:
        """0 where nobody is needed, else the highest exit code of the alarms."""
        return max([alarm.exit_code for alarm in self.alarms], default=0)

    def result(self, now: float) -> RoundDone:
        """As ``watch`` tells of it, at a time in seconds since 1970."""
        alarm = self.alarm
        return RoundDone(
            time=clock(now),
            event="round",
            height=None if self.tip is None else self.tip.height,
            median_time=None if self.tip is None else self.tip.median_time,
            channels=len(self.findings),
            going=sum(1 for finding in self.findings if not _has_ended(finding)),
            alarms=len(self.alarms),
            alarm=None if alarm is None else alarm.slug,
            message=None if alarm is None else alarm.message,
            hint=None if alarm is None else alarm.hint,
            exit_code=self.exit_code,
        )


def _has_ended(finding: Finding) -> bool:
    return finding.record is not None and finding.record.status(finding.facts) in ENDED


@frozen
class _Read:
    """A channel as it was read.

    Attributes:
        marks: of its files, as they were before.
        written: when they changed last, nanoseconds since 1970.
    """

    marks: object
    written: int
    record: Record


def require_backend(chain: Chain) -> None:
    """There is a chain to be watched.

    Raises:
        ChainError: ``no-backend``.
    """
    if not chain.sends:
        raise ChainError(
            "no-backend",
            "this wallet asks no chain, so there is nothing to watch with",
            hint="set chain.backend in wallet.toml",
        )


class Watcher:
    """All channels of one wallet.

    Args:
        once: there will be no second round: what would pass by itself is an alarm at once.
        stop: asked between two channels; True ends the round.
        trouble: what is wrong with the wallet as a whole; an alarm of every round.
        clock: seconds since 1970.

    Raises:
        ChainError: ``no-backend``, the wallet asks no chain.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: Chain,
        *,
        once: bool = False,
        stop: Callable[[], bool] = lambda: False,
        trouble: MpchanError | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_backend(chain)
        if not once:
            wallet.channels.patience = PATIENCE_SECONDS
        self._wallet = wallet
        self._chain = chain
        self._once = once
        self._stop = stop
        self._trouble = trouble
        self.clock = clock
        self._over: dict[str, tuple[object, Finding]] = {}  # by name: marks of its files, and what was seen
        self._read: dict[str, _Read] = {}  # by name, as it was read last
        self._bidder = Bidder(wallet, chain, once=once)
        self._openings = OpeningRound(wallet, chain, clock)
        self._held_up: dict[str, int] = {}  # by name: rounds in a row in which a deed was put off

    def round(self, tell: Callable[[Finding], None]) -> Round:
        """Look at every channel once and do what is due."""
        findings: list[Finding] = []
        tip: ChainTip | None = None
        trouble = self._trouble
        try:
            tip = self._chain.tip()
            trouble = self._look_at_openings(tip) or trouble
            names = self._wallet.channels.names()
        except (ChainError, StorageError) as error:
            return Round(tip, (), error, whole=False)
        found = {name: self._load(name) for name in names if not self._stop()}
        self._read = {name: read for name, read in found.items() if isinstance(read, _Read)}
        self._over = {name: over for name, over in self._over.items() if name in found}
        try:
            seen = self._look()
        except ChainError as error:
            return Round(tip, (), error, whole=False)
        for name, read in found.items():
            if self._stop():
                break
            finding = read if isinstance(read, Finding) else self._look_after(name, read, tip, seen)
            findings.append(finding)
            tell(finding)
            if isinstance(finding.alarm, ChainError):
                blind = self._out_of_reach()
                if blind is not None:
                    return Round(tip, tuple(findings), blind, whole=False)
        if len(findings) < len(names):
            return Round(tip, tuple(findings), whole=False)
        return Round(tip, tuple(findings), _behind(tip) or trouble)

    def _look_at_openings(self, tip: ChainTip) -> MpchanError | None:
        """Openings, on which no channel depends yet: what goes wrong there is an alarm of the round."""
        trouble: MpchanError | None = None
        for look in (self._openings.look, self._look_at_addresses):
            try:
                look(tip)
            except MpchanError as error:
                trouble = trouble or error
        return trouble

    def _look_at_addresses(self, tip: ChainTip) -> None:
        """What other wallets have paid to the addresses of openings is kept with its refund."""
        awaited = still_watched(self._wallet, tip)
        if awaited:
            take_what_came(self._wallet, self._chain, awaited)

    def _load(self, name: str) -> _Read | Finding:
        """One channel, read anew where its file has changed; what there is to say where it cannot be, or is over."""
        try:
            marks = self._wallet.channels.marks(name)
            over, read = self._over.get(name), self._read.get(name)
            if over is not None and over[0] == marks:
                return over[1]
            if read is not None and read.marks == marks:
                return read
            return _Read(marks, self._wallet.channels.changed_at(name), self._wallet.channels.load(name))
        except MpchanError as error:
            return Finding(name, why="the channel's file cannot be read", alarm=error)

    def _look(self) -> dict[OutPoint, OutputStatus] | None:
        """All that is to be asked, at once; None where that fails for some, so that each has to be asked for itself."""
        records = [read.record for read in self._read.values() if not _is_given_up(read.record)]
        try:
            return self._chain.outputs(
                {record.terms.outpoint: earliest_spend(record.terms) for record in records}
            )
        except Exception:  # noqa: BLE001  # whatever it is, and with whichever channel, the others are looked after
            self._chain.tip()
            return None

    def _out_of_reach(self) -> ChainError | None:
        """Whether it is the chain as a whole that fails, and not one channel's questions."""
        try:
            self._chain.tip()
        except ChainError as error:
            return error
        return None

    def _look_after(
        self, name: str, read: _Read, tip: ChainTip, seen: Mapping[OutPoint, OutputStatus] | None
    ) -> Finding:
        """One channel; whatever goes wrong here is this channel's alarm, and stops no other."""
        record = read.record
        try:
            facts = self._facts(record, tip, seen)
            finding = self._decide_and_act(name, read, facts, tip)
        except MpchanError as error:
            why = "the chain does not answer about it" if isinstance(error, ChainError) else error.message
            return Finding(name, record, tip=tip, why=why, alarm=error)
        except Exception as error:  # noqa: BLE001  # a mistake of ours with one channel must not cost another its money
            alarm = BugAlarm("bug", f"unexpected {type(error).__name__}: {error!s:.200}")
            return Finding(name, record, tip=tip, why="this is a bug in mpchan", alarm=alarm)
        if finding.over:
            self._over[name] = (read.marks, finding)
        return finding

    def _facts(
        self, record: Record, tip: ChainTip, seen: Mapping[OutPoint, OutputStatus] | None
    ) -> Facts | None:
        if _is_given_up(record):
            return None
        if seen is None:
            return gather_facts(self._chain, record.terms, tip)
        return facts_of(record.terms, tip, seen.get(record.terms.outpoint))

    def _decide_and_act(self, name: str, read: _Read, facts: Facts | None, tip: ChainTip) -> Finding:
        record = read.record
        decision = self._decide(record, facts, read.written)
        why = decision.why
        back_only = isinstance(record, PayerRecord) and record.funding is None  # by `payer open --again`
        going = record.status(facts) in (Status.FUNDING, Status.OPEN)
        if held_up_easily(record.terms) and going and not back_only:
            why = f"{why}; {SETTLE_SOON}"
        finding = Finding(name, record, facts, tip, decision.deed, None, why, decision.alarm, decision.over)
        answer = None
        if decision.bids and facts is not None:
            answer = self._bidder.answer(record, facts, decision)
        if decision.deed is not Deed.NOTHING:
            finding = self._act(finding, record, decision)
        else:
            self._held_up.pop(name, None)
        if answer is None:
            return finding
        if decision.deed is Deed.NOTHING or (finding.sent is not None and answer.child is not None):
            finding = self._pay_for(finding, answer)
        return replace(finding, alarm=finding.alarm or answer.alarm)

    def _decide(self, record: Record, facts: Facts | None, written: int) -> Decision:
        if isinstance(record, PayeeRecord):
            silent = max(0, int(self.clock() - written / 1e9))
            return payee_decision(record.state, facts, self._wallet.config.watch, silent)
        unseen = facts is not None and facts.funding is None
        conflict = payer.funding_conflict(self._chain, record) if unseen else None
        return payer_decision(record.state, facts, conflict)

    # deeds ----------------------------------------------------------------------------------------

    def _act(self, finding: Finding, record: Record, decision: Decision) -> Finding:
        try:
            sent = self._send(finding.name, record, decision)
        except SentUnnoted as error:  # it is on its way, and the disk needs a person
            finding, sent = replace(finding, alarm=error), error.result.txid
        except (TooEarly, NotPossible) as error:  # the chain, or another command, was quicker
            return self._put_off(finding, error)
        except StorageError as error:
            if error.slug == "locked":
                return self._put_off(finding, error)
            return replace(finding, alarm=error, why="what is due could not be sent")
        except ChainError as error:
            return replace(finding, alarm=decision.alarm or error, why=error.message)
        self._held_up.pop(finding.name, None)
        finding = replace(finding, sent=sent)
        try:
            record = self._wallet.channels.load(finding.name)
            return replace(finding, record=record, facts=gather_facts(self._chain, record.terms))
        except MpchanError:  # what was sent is sent, and is told; the next round sees the rest
            return finding

    def _send(self, name: str, record: Record, decision: Decision) -> str:
        wallet, chain = self._wallet, self._chain
        if decision.deed is Deed.REFUND:
            return payer.refund(wallet, chain, name).txid
        if decision.deed is not Deed.FUNDING:
            return payee.settle(wallet, chain, None, name, contest=decision.contest).txid
        if isinstance(record, PayerRecord):
            return payer.send_funding_again(wallet, chain, name).txid
        return payee.send_funding_again(wallet, chain, name).txid

    def _pay_for(self, finding: Finding, answer: Answer) -> Finding:
        """Submit what waits, with the child that pays for it."""
        try:
            self._bidder.submit(answer)
        except (TooEarly, ChainError) as error:
            if finding.record is None:
                return finding
            facts = gather_facts(
                self._chain, finding.record.terms
            )  # where the chain does not answer, it says so here
            in_time = facts.spend_confirmations or answer.child is None
            return replace(finding, facts=facts, alarm=finding.alarm or (None if in_time else error))
        if not answer.is_new or answer.child is None:
            return finding
        bump = {} if finding.sent else {"deed": Deed.BUMP, "sent": str(answer.child.txid)}
        return replace(finding, why=f"{finding.why}; {answer.why}", **bump)

    def _put_off(self, finding: Finding, error: MpchanError) -> Finding:
        """To the next round; it is an alarm only where there is none, or it comes to nothing again and again."""
        rounds = self._held_up.get(finding.name, 0) + 1
        self._held_up[finding.name] = rounds
        serious = self._once or rounds >= STUBBORN_ROUNDS
        alarm = finding.alarm or (error if serious else None)
        return replace(finding, why=f"put off: {error.message}", alarm=alarm)


def _behind(tip: ChainTip) -> ChainError | None:
    """What was seen may be long out of date: a person has to look, while what is held was sent all the same."""
    lag = tip.lag
    return None if lag is None else ChainError("node-behind", lag.why, hint=lag.hint)


def _is_given_up(record: Record) -> bool:
    """A void funding may come back with a reorganisation, one that was never signed cannot."""
    if isinstance(record, PayerRecord):
        return isinstance(record.state, payer_protocol.Abandoned) and record.state.funded is None
    return isinstance(record.state, payee_protocol.Abandoned)
