"""``mpchan verify``: a verdict on any message. It answers a question, so a refusal has its answer on stdout too."""

from __future__ import annotations

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import read_input
from mpchan.cli.render import tables


@options.command("mpchan verify update.psbt", "mpchan verify offer.toml --json")
@options.file
@options.channel
@options.chain
def verify(app: App, file: str, channel: str | None) -> int:
    """Say whether this wallet would take a message, rule by rule.

    FILE is any message of the other party: an offer, a refund request, a signed refund, the funding, an update or a
    settlement. Nothing is changed. The rules are those of the command that would take it.

    The exit code is 0 when it would be taken, else that of the first broken rule. It writes
    to stdout then too: the rules, and which one failed. Where the chain cannot be asked (exit 8), the rules that do not
    need it are shown.
    """
    from mpchan.party.check.verify import read_message
    from mpchan.party.check.verify import verify as judge

    message = read_message(read_input(file))
    wallet = app.wallet()
    verdict = judge(wallet, app.chain(wallet), message, channel)
    app.answer(verdict, tables.verdict)
    app.warn(verdict.warnings)
    if verdict.hint is not None:
        app.say(f"mpchan: hint: {verdict.hint}")
    return verdict.exit_code
