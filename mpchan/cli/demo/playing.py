"""The demo's bad endings are played: each on a channel of its own, one after the other."""

from __future__ import annotations

from pathlib import Path

from mpchan.cli.demo import at_once, cheats  # noqa: F401  (each lists its endings)
from mpchan.cli.demo.case import ENDINGS, Case, Ending
from mpchan.cli.demo.stage import PAYER, Stage
from mpchan.cli.demo.story import CAPACITY_SAT
from mpchan.results.demo import BadEnding


def play_all(stage: Stage) -> list[BadEnding]:
    """Play every bad ending.

    Raises:
        ExpectationError: ``demo-failed``, with the expectation that was not met.
    """
    stage.show.scene("And if one of them cheats, or disappears?")
    stage.show.say(
        "Each bad ending gets a channel of its own, opened as above. The verdicts are not mpchan's: "
        "blocks with the bad transactions are handed to Bitcoin Core's consensus engine."
    )
    fitting = [one for one in ENDINGS if one.exchange in (None, stage.has_exchange)]
    played = [_played(stage, number, ending) for number, ending in enumerate(fitting, 1)]
    stage.show.scene(f"All {len(played)} bad endings went as told")
    return played


def _played(stage: Stage, number: int, ending: Ending) -> BadEnding:
    stage.show.scene(f"Bad ending {number}: {ending.title}")
    stage.show.say(ending.story)
    case = _open(stage, number, ending)
    ending.play(case)
    return case.result


def _open(stage: Stage, number: int, ending: Ending) -> Case:
    """A further channel between the two wallets."""
    before = None if ending.funded else stage.coins(PAYER)
    folder = Path(f"cheat-{number}")
    (stage.directory / folder).mkdir()
    offer, request, refund = folder / "offer.toml", folder / "request.psbt", folder / "refund.hex"
    stage.offer(offer, shown=False)
    if stage.has_exchange:
        stage.payer("payer", "open", offer, CAPACITY_SAT, "-o", request, shown=False)
        signed = folder / "signed.psbt"
        stage.payee("payee", "sign-refund", request, "-o", signed, shown=False)
        if ending.funded:
            stage.fund(signed, refund, folder / "funding.hex", shown=False)
    else:
        stage.open_at_once(offer, CAPACITY_SAT, refund, folder / "funding.hex", shown=False)
    spending = stage.transaction(request if stage.has_exchange else refund)
    case = Case(stage, ending.name, spending.inputs[0].outpoint, folder)
    case.numbers["refund_lock_time"] = spending.lock_time
    if before is not None:
        case.numbers["payer_before_sat"] = before
    if ending.funded:
        stage.mine(1, shown=False)
        stage.show.fact(
            f"Channel {case.channel[:8]} is open and confirmed, the tip has height {stage.height}, "
            f"the refund is locked until block {spending.lock_time}."
        )
    return case
