"""``mpchan guide``: what users and developers read, page by page."""

from __future__ import annotations

import sys
from itertools import starmap
from pathlib import Path

import click

import mpchan
from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import is_terminal, print_output
from mpchan.errors import UsageError
from mpchan.results.wallets import Page, Topic, Topics

PAGES = Path(mpchan.__file__).parent / "guide"

TOPICS = {
    "commands": "all commands, what scripts need to know, environment variables",
    "json": "what each command prints with --json, key by key",
    "exit-codes": "exit codes and all slugs",
    "by-hand": "a channel step by step, and what happens when the payee disappears",
    "constructions": "the two kinds of channel, and when to use which",
    "selling": "selling and buying a file: mailbox, TCP, strangers",
    "web": "paying and being paid over HTTP, by the request",
    "files": "the wallet's files, backup and restore, passphrase, journal and repair",
    "meter": "a running meter: thousands of payments a second through a pipe",
    "watching": "what `mpchan watch` does, and how it pays for what is stuck",
    "funding": "own coins, fee rates, bumps, funding from another wallet",
    "nodes": "the embedded chain, Bitcoin Core, Electrum servers, or none",
    "protocol": "transactions, lock times, messages, offers, keys: all that both sides agree on",
    "python": "paying and being paid from a Python program",
    "testing": "how it is tested, with figures and how to repeat them",
    "performance": "how fast it is, with figures and how to repeat them",
    "developers": "a map of the source, where new things go, running tests, releases",
}
"""Each page of the guide with a line about it, in the order in which they are listed."""


def read_page(topic: str) -> str:
    """A page's Markdown."""
    return (PAGES / f"{topic}.md").read_text(encoding="utf-8")


def _complete_topic(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [topic for topic in TOPICS if topic.startswith(incomplete)]


@options.command("mpchan guide", "mpchan guide files", "mpchan guide protocol > protocol.md")
@click.argument("topic", required=False, metavar="[TOPIC]", shell_complete=_complete_topic)
def guide(app: App, topic: str | None) -> None:
    """Read the guide: its topics, or the page of one.

    In a terminal a page is shown by the program that PAGER names, else by less; without colours where NO_COLOR is set.
    Elsewhere it is plain Markdown.
    """
    if topic is None:
        app.answer(Topics(tuple(starmap(Topic, TOPICS.items()))), _list_of_topics)
        return
    if topic not in TOPICS:
        raise _unknown(topic)
    page = Page(topic, TOPICS[topic], read_page(topic))
    if app.json or not is_terminal(sys.stdout):
        app.answer(page, lambda view: view.markdown.rstrip("\n"))
    else:
        _show(page)


def _list_of_topics(_: Topics) -> str:
    from mpchan.cli.render.guide import topic_table

    return f"{topic_table(TOPICS)}\n\n`mpchan guide TOPIC` shows one"


def _show(page: Page) -> None:
    from mpchan.cli.render.guide import rendered

    text = rendered(page.markdown)
    try:
        click.echo_via_pager(text)
    except ValueError:  # PAGER is no command line, a quotation mark is missing
        print_output(text)


def _unknown(topic: str) -> UsageError:
    from difflib import get_close_matches

    meant = [name for name in TOPICS if name.startswith(topic) or topic in TOPICS[name].split()]
    meant += [name for name in get_close_matches(topic, TOPICS, n=3, cutoff=0.6) if name not in meant]
    named = " or ".join(f"`mpchan guide {name}`" for name in meant)
    hint = f"do you mean {named}?" if meant else "`mpchan guide` lists the topics"
    return UsageError("usage", f"the guide has no topic {topic!r:.80}", hint=hint)
