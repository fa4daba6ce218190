"""The guide is true: its tables are compared with the code, its links lead somewhere, its pages fit a terminal."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
import tomli
from support.slugs import slugs as read_slugs

import mpchan
from mpchan import errors
from mpchan.channel.key_paths import PURPOSE
from mpchan.cli.commands.guide import TOPICS
from mpchan.cli.main import cli
from mpchan.cli.render.guide import rendered
from mpchan.sale.manifest import Sale
from mpchan.units import Amount
from mpchan.wallet import layout

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mpchan.__file__).parent
PAGES = {path.stem: path.read_text() for path in sorted((PACKAGE / "guide").glob("*.md"))}
README = (ROOT / "README.md").read_text()
DOCUMENTS = {"README.md": README, **{f"mpchan/guide/{name}.md": text for name, text in PAGES.items()}}
COLUMNS = 80
CODE_COLUMNS = 78
"""Of a line of code: rich leaves one column free on either side."""

# Raised while a file of the wallet is read, and always turned into a StorageError there; or while a server's claims are
# checked, and turned into a ChainError.
INTERNAL = {
    (3, "channel-damaged"),
    (3, "channel-schema"),
    (3, "keys-damaged"),
    (3, "malformed-header"),
    (3, "malformed-merkle-path"),
    (3, "malformed-seal"),
    (3, "openings-damaged"),
}
PASSED_ON = {(7, "channel-schema")}
BY_THEMSELVES = {(7, "sent-unnoted")}
"""Slugs of errors that have a class of their own."""


@cache
def slugs() -> set[tuple[int, str]]:
    """Every (exit code, slug) in the source, which is read once."""
    return read_slugs()


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# form ---------------------------------------------------------------------------------------------


def test_every_page_is_a_topic() -> None:
    assert set(PAGES) == set(TOPICS)


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_fits_a_terminal(topic: str) -> None:
    page = PAGES[topic]
    assert re.match(r"# \S.*\n\n\S", page), "a title, and then what the page is about"
    shown = rendered(page, COLUMNS)
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    assert shown.count("…") == page.count("…"), "nothing is cut"
    for block in code_blocks(page, "(?!console|text)[a-z]+"):  # what was printed is as wide as it was
        assert [line for line in block.splitlines() if len(line) > CODE_COLUMNS] == []


def anchors(text: str) -> set[str]:
    """What a link can name in a page, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    here = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name]):
        path, _, anchor = target.partition("#")
        document = here if not path else (here.parent / path).resolve()
        assert document.is_file(), target
        if anchor:
            assert anchor in anchors(document.read_text()), target


def test_the_readme_leads_to_every_page() -> None:
    linked = re.findall(r"\]\(mpchan/guide/([a-z-]+)\.md\)", README)
    assert set(linked) == set(PAGES)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name: str) -> None:
    folders = "tests|sample-configs|mpchan|" + "|".join(
        sorted(path.name for path in PACKAGE.iterdir() if path.is_dir())
    )
    for path in re.findall(rf"`((?:{folders})/[a-z0-9_./-]*)`", DOCUMENTS[name]):
        wallets = PAGES["files"]  # it has folders of these names too
        known = (ROOT / path).exists() or (PACKAGE / path).exists()
        assert known or f"`{path}`" in wallets, path
    for block in code_blocks(DOCUMENTS[name], "sh"):
        for path in re.findall(r"(?:^|\s)(tests/[a-z0-9_./]+)", block):
            assert (ROOT / path).exists(), path


def test_no_document_is_cited_that_readers_lack() -> None:
    """Neither in a page nor in a docstring."""
    for path in [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / name for name in DOCUMENTS),
    ]:
        for name in re.findall(r"\b[A-Z][A-Z-]+\.md\b", path.read_text()):
            assert any((folder / name).is_file() for folder in (ROOT, ROOT / ".github")), (path, name)


# commands -----------------------------------------------------------------------------------------


def commands_of(group: click.Command, prefix: str) -> list[str]:
    """The full names of all commands of a group, itself included where it is one by itself."""
    if not isinstance(group, click.Group):
        return [prefix]
    context = click.Context(group)
    names = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        names += commands_of(command, f"{prefix} {name}")
    return names


def test_every_command_stands_in_the_guide() -> None:
    for command in commands_of(cli, "mpchan"):
        assert f"`{command}" in PAGES["commands"], command


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_other_command_is_named(name: str) -> None:
    known = commands_of(cli, "mpchan")
    for shown in re.findall(r"`(mpchan [a-z]+(?: [a-z-]+)?)", DOCUMENTS[name]):
        assert any(
            command == shown or command.startswith(shown) or shown.startswith(command) for command in known
        ), shown


def command_lines(text: str) -> list[list[str]]:
    """The words of every command of ours in blocks that are not run as they are."""
    lines = [line for block in code_blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [
        shlex.split(re.split(r" (?:\|\||>>|<|\|) ?", line)[0])[1:]
        for line in lines
        if line.startswith("mpchan ")
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_command_lines_are_well_formed(name: str) -> None:
    for words in command_lines(DOCUMENTS[name]):
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None
            command = found
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, words


def test_there_are_command_lines() -> None:
    assert sum(len(command_lines(text)) for text in DOCUMENTS.values()) > 10


# tables -------------------------------------------------------------------------------------------


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")} | {0}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", PAGES["exit-codes"], re.MULTILINE)} == codes


def test_the_slugs_are_those_of_the_code() -> None:
    lists = PAGES["exit-codes"].partition("## All slugs by exit code")[2]
    shown = set()
    for code, names in re.findall(r"^- (\d): ((?:.|\n )*)", lists, re.MULTILINE):
        shown |= {(int(code), name) for name in re.findall(r"`([^`]+)`", names)}
    assert shown == (slugs() - INTERNAL) | PASSED_ON | BY_THEMSELVES
    assert errors.SentUnnoted.exit_code == 7


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_slug_that_is_named_exists(name: str) -> None:
    """Wherever a text names one in brackets."""
    known = {slug for _, slug in slugs() | BY_THEMSELVES}
    for slug in re.findall(r"\(`([a-z]+(?:-[a-z]+)+)`", DOCUMENTS[name]):
        assert slug in known, slug


SAMPLES = {
    "<offer_id>": "0" * 32,
    "<script>": "0" * 64,
    "<txid>": "0" * 64,
    "<vout>": "0",
    "<session>": "0" * 32,
    "<date>": "2026-01-01",
}


def test_the_files_are_those_of_a_wallet() -> None:
    shown = re.findall(r"^\| `([^`]+)` \|", PAGES["files"], re.MULTILINE)
    folders = set()
    for name in shown:
        path = name
        for placeholder, sample in SAMPLES.items():
            path = path.replace(placeholder, sample)
        folder, _, file = path.rpartition("/")
        folders.add(folder)
        assert not file or layout.own(folder).fullmatch(file), name
    assert folders == set(layout.own_names()) - files_at_the_top() | {""}


def files_at_the_top() -> set[str]:
    """Own names of the wallet's directory that are no folders."""
    return {name for name in layout.own_names() if layout.own("").fullmatch(name)}


def test_the_environment_is_the_one_that_is_read() -> None:
    table = PAGES["commands"].partition("## Environment")[2]
    shown = set(re.findall(r"`(MPCHAN_[A-Z_]+)`", table))
    read = set()
    for path in PACKAGE.rglob("*.py"):
        read |= set(re.findall(r'"(MPCHAN_[A-Z_]+)"', path.read_text()))
    from mpchan.cli.input import asking

    for beginning in (asking.CURRENT, asking.NEW):
        read.discard(beginning)
        read |= {f"{beginning}_FD", f"{beginning}_FILE"}
    assert shown == read


def test_the_offer_has_the_keys_of_the_sample() -> None:
    [example] = code_blocks(PAGES["protocol"], "toml")
    shown, sample = tomli.loads(example), tomli.loads((ROOT / "sample-configs" / "offer.toml").read_text())
    assert list(shown)[: len(sample)] == list(sample)
    assert list(shown)[len(sample) :] == ["ways", "sale"]
    assert list(shown["decrementing"]) == list(sample["decrementing"])


def test_the_sale_has_the_keys_of_the_code() -> None:
    described = PAGES["protocol"].partition("## What is sold")[2].partition("\n## ")[0]
    table = Sale("f", 1, 1, Amount(1), 0, (bytes(32),), buyer="0" * 32, voucher=bytes(1)).to_table()
    assert [key for key in table if f"`{key}`" not in described] == []


def test_the_key_paths_are_those_of_the_code() -> None:
    assert f"m/{PURPOSE}'/coin'/2'/a'/b'/c'/d'" in PAGES["protocol"]
    assert (PACKAGE / "channel" / "key_paths.json").is_file()
