"""One request, from its first sending to its last answer, whoever sends it.

Whoever sends asks ``begin`` for the headers of the first try, sends, and tells each answer to ``answered``, which says
whether that is the last one or what to send next. Nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union
from urllib.parse import urlsplit

from mpchan.errors import MpchanError, NotPossible, ParseError, SellerRefused
from mpchan.http.client.demands import Demand, demands_in, origin_of, require_encrypted, space_of
from mpchan.http.client.errand import Charged, Closed, Errand, Step
from mpchan.http.client.purse import Purse
from mpchan.http.wire.credential import Open, Prepare, Voucher
from mpchan.http.wire.encoding import from_base64url
from mpchan.http.wire.problems import Problem
from mpchan.http.wire.receipt import Receipt
from mpchan.values import frozen

MOST_TRIES = 12
"""So often a request is sent again for anything but a wait."""

SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
_STALE = ("challenge-expired", "challenge-foreign", "challenge-elsewhere", "price-changed")
_STALE_TYPES = ("payment-expired", "invalid-challenge", "challenge-not-found")
_OVER = ("unknown-channel", "channel-not-found", "past-deadline", "out-of-updates", "over-capacity")


@frozen
class Answer:
    """An answer, as far as it concerns a payment.

    Attributes:
        challenges: the values of ``WWW-Authenticate``.
        receipt: of ``Payment-Receipt``; None without one.
        retry_after: of ``Retry-After``; None without one.
        body: of a 402; what others bring is the program's.
    """

    status: int
    challenges: Sequence[str] = ()
    receipt: str | None = None
    retry_after: str | None = None
    body: bytes = b""


@frozen
class Done:
    """The answer is for the program.

    Attributes:
        receipt: what it brought; None where nothing was charged, or nobody says so.
        charged: what it has cost, by that.
    """

    receipt: Receipt | None
    charged: Charged | None = None


@frozen
class Again:
    """Send the request again.

    Attributes:
        headers: to set, in the place of those of the try before.
        after: seconds from now.
    """

    headers: Mapping[str, str]
    after: float = 0.0


Next = Union[Done, Again]


class Dialogue:
    """One request.

    Args:
        url: absolute, without a fragment.
        key: its ``Idempotency-Key``, if the program has one; else a new one.
        ahead: satoshi that are authorised on top of the price.
        patience: seconds that may be waited in all, for a funding above all.
        what: as ``Errand`` has it.
    """

    def __init__(
        self,
        purse: Purse,
        url: str,
        *,
        key: str | None = None,
        ahead: int = 0,
        patience: float = 7_200.0,
        what: str | None = None,
    ) -> None:
        self._purse = purse
        self._url = url
        self.errand = Errand(
            origin_of(url), space_of(url), path=urlsplit(url).path, key=key, ahead=ahead, what=what
        )
        self._tries = 0
        self._patience = patience

    def begin(self) -> Mapping[str, str]:
        """The headers of the first try: a voucher where one is likely to be asked for, else none.

        Raises:
            MpchanError: a limit does not allow it.
        """
        step = self._purse.begin(self.errand)
        return {} if step is None else self._headers(step)

    @property
    def needs_body(self) -> bool:
        """Whether the next answer is read in its body, which HEAD has not: GET then, which is never served."""
        return self.errand.step is not None and isinstance(self.errand.step.payload, Prepare)

    def _headers(self, step: Step) -> Mapping[str, str]:
        found = {"Authorization": step.authorization()}
        if isinstance(step.payload, (Open, Voucher)):
            found["Idempotency-Key"] = self.errand.key
        return found

    def answered(self, answer: Answer) -> Next:
        """What an answer means.

        Raises:
            MpchanError: the request is not served, and the program cannot be told more by its answer: ``limit-needed``,
                ``nothing-payable``, ``plain-http``, ``seller-refused`` and others. What was signed for it is not lost:
                another request uses it.
        """
        if answer.status == 402:
            try:
                return self._asked(answer)
            except BaseException:
                self._purse.ended(self.errand, None, taken=False)
                raise
        receipt = self._receipt(answer)
        served = answer.status < 400
        charged = self._purse.ended(self.errand, receipt, taken=served or receipt is not None)
        return Done(receipt, charged)

    def gave_up(self) -> None:
        """No answer will come: what was signed for the request stays signed, for another one to use."""
        self._purse.ended(self.errand, None, taken=False)

    def _receipt(self, answer: Answer) -> Receipt | None:
        """What the server says to have charged; nothing rests on one that cannot be read."""
        if answer.receipt is None or self.errand.step is None:
            return None
        try:
            return Receipt.from_header(answer.receipt)
        except ParseError:
            return None

    def _asked(self, answer: Answer) -> Next:
        """What a 402 means."""
        require_encrypted(self._url)
        self._tries += 1
        if self._tries > MOST_TRIES:
            raise NotPossible("too-many-tries", f"the server asked {MOST_TRIES} times, and serves nothing")
        problem = _problem(answer)
        step = self.errand.step
        if step is not None and answer.retry_after is not None:
            return self._wait(step, answer.retry_after, problem)
        if step is not None and isinstance(step.payload, Prepare) and "psbt" in problem.members:
            return self._send(self._purse.fund(self.errand, _psbt(problem)))
        demands = demands_in(answer.challenges, self._purse.network)
        if step is None:
            return self._send(self._purse.answer(self.errand, demands))
        return self._send(self._mended(step, problem, demands))

    def _mended(self, step: Step, problem: Problem, demands: Sequence[Demand]) -> Step:
        """What to send after a credential was not taken."""
        snapshot = next(
            (each.request.snapshot for each in demands if each.request.snapshot is not None), None
        )
        if snapshot is not None and isinstance(step.payload, (Open, Voucher)):
            return self._purse.resynced(self.errand, snapshot, demands)
        is_stale = problem.slug in (*_STALE, *_STALE_TYPES)
        if is_stale and isinstance(step.payload, Voucher):
            return self._purse.answer(self.errand, demands)
        gone = problem.slug.startswith("channel-") or problem.slug in _OVER
        if (gone and isinstance(step.payload, Voucher)) or isinstance(step.payload, Prepare):
            if self._tries > MOST_TRIES // 2:
                raise _refused(problem)
            return self._purse.elsewhere(self.errand, demands)
        raise _refused(problem)

    def _wait(self, step: Step, text: str, problem: Problem) -> Next:
        """The very same again, later."""
        seconds = _seconds(text)
        self._patience -= seconds
        self._tries -= 1
        if self._patience < 0:
            raise _refused(problem)
        return Again(self._headers(step), seconds)

    def _send(self, step: Step) -> Again:
        return Again(self._headers(step))


class Closing:
    """The end of a channel, asked of the server; ``answered`` until it says ``Closed``.

    A request that does not pay learns a challenge, a voucher that pays nothing learns what was charged, and then comes
    the settlement. All of them are HEAD.

    Args:
        url: of the server, where it asks to be paid.
    """

    def __init__(self, purse: Purse, url: str) -> None:
        self._purse = purse
        self._errand = Errand(origin_of(url), space_of(url))
        self._demands: Sequence[Demand] = ()
        self._tries = 0

    def answered(self, answer: Answer) -> Union[Closed, Again]:
        """What an answer means; the first one is that to a request which did not pay.

        Raises:
            MpchanError: there is no channel, or the server does not close it.
        """
        self._tries += 1
        if self._tries > MOST_TRIES:
            raise NotPossible(
                "too-many-tries", f"the server was asked {MOST_TRIES} times, and does not close"
            )
        step = self._errand.step
        receipt = None if answer.receipt is None else Receipt.from_header(answer.receipt)
        if step is not None and receipt is not None:
            if isinstance(step.payload, Voucher):
                return self._next(receipt.spent)
            return self._purse.closed(self._errand, receipt)
        if answer.status != 402:
            raise NotPossible(
                "nothing-payable", f"the server answers {answer.status}, and asks for no payment"
            )
        if step is not None and answer.retry_after is not None:
            return Again({"Authorization": step.authorization()}, _seconds(answer.retry_after))
        self._demands = demands_in(answer.challenges, self._purse.network)
        if step is None:
            return self._next(None)
        snapshots = [each.request.snapshot for each in self._demands if each.request.snapshot is not None]
        if not snapshots:
            raise _refused(_problem(answer))
        return self._next(snapshots[0].spent)

    def _next(self, spent: int | None) -> Again:
        step = self._purse.closing(self._errand, self._demands, spent)
        return Again({"Authorization": step.authorization()})


def _seconds(text: str) -> float:
    """What ``Retry-After`` says, within bounds."""
    try:
        return min(max(float(int(text[:9])), SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
    except ValueError:
        return 5.0


def _refused(problem: Problem) -> MpchanError:
    said = f": {problem.detail}" if problem.detail else ""
    text = f"the server refuses ({problem.slug}){said}"
    return SellerRefused("seller-refused", text, reason=problem.slug, hint=problem.hint)


def _problem(answer: Answer) -> Problem:
    """What the server says of it; without a body that can be read, that it wants to be paid."""
    try:
        return Problem.from_body(answer.body, answer.status)
    except ParseError:
        return Problem("payment-required", "", answer.status)


def _psbt(problem: Problem) -> bytes:
    """The signed refund.

    Raises:
        ParseError: ``malformed-answer``.
    """
    text = problem.members["psbt"]
    try:
        return from_base64url(text if type(text) is str else "?")
    except ValueError:
        raise ParseError("malformed-answer", "psbt is no base64url") from None
