"""``mpchan guide``: pages for a terminal, plain Markdown for all else."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.transcript import Shell

import mpchan
from mpchan.cli.commands.guide import TOPICS

PAGES = Path(mpchan.__file__).parent / "guide"


def test_the_topics(bare: Shell) -> None:
    lines = bare.ok("mpchan guide").out.splitlines()
    assert [line.split()[0] for line in lines[: len(TOPICS)]] == list(TOPICS)
    assert all(about in line for line, about in zip(lines, TOPICS.values(), strict=False))
    listed = bare.json("mpchan guide")["topics"]
    assert listed == [{"topic": topic, "about": about} for topic, about in TOPICS.items()]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_plain_where_it_is_piped(bare: Shell, topic: str) -> None:
    page = (PAGES / f"{topic}.md").read_text()
    assert bare.ok(f"mpchan guide {topic}").out == page
    assert bare.json(f"mpchan guide {topic}") == {
        "topic": topic,
        "about": TOPICS[topic],
        "markdown": page,
    }


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("protocl", ["protocol"]),
        ("backup", ["files"]),
        ("pro", ["protocol"]),
        ("perf", ["performance"]),
        ("Files", ["files"]),
    ],
)
def test_an_unknown_topic_names_those_that_may_be_meant(bare: Shell, asked: str, meant: list[str]) -> None:
    error = bare.fails(f"mpchan guide {asked}", 2, "usage")
    assert error["message"] == f"the guide has no topic '{asked}'"
    assert error["hint"] == f"do you mean {' or '.join(f'`mpchan guide {topic}`' for topic in meant)}?"


def test_a_topic_like_no_other(bare: Shell) -> None:
    error = bare.fails("mpchan guide ../README", 2, "usage")
    assert error["hint"] == "`mpchan guide` lists the topics"
