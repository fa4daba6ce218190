"""A short run of every fuzz target, the same inputs each time; ``run.py`` beside this file runs them for hours."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from support.fuzz.driver import Hang, Target, check_words, watched
from support.fuzz.mutations import bent_psbt, bent_transaction, parse_psbt, parse_raw
from support.judge import ENGINE

from mpchan.errors import ParseError
from mpchan.units import MAX_MESSAGE_BYTES

if not ENGINE:
    pytest.skip("the engine is not installed (mpchan engine install)", allow_module_level=True)

from support.fuzz.paths import PATHS, Took, accepted
from support.fuzz.targets import TARGETS
from support.fuzz.world import Ended, update, world
from support.fuzz.worst import WORST

WHOLE_COMMANDS = {target.name for target in PATHS}
MAX_MEMORY = 256 * MAX_MESSAGE_BYTES
"""Of an input of the greatest size, whatever is in it: 102 MB, the oracles' own included."""

RUN = Path(__file__).with_name("run.py")


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run(name: str) -> None:
    target = TARGETS[name]
    random = Random(f"short run of {name}")
    count = len(target.seeds) + (100 if name in WHOLE_COMMANDS else 200)
    for data in islice(target.inputs(random), count):
        try:
            with watched():
                target.check(data)
        except BaseException as finding:
            finding.add_note(f"{name}: {data.hex()}") if hasattr(finding, "add_note") else None
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_something_is_taken(name: str) -> None:
    """Refusing everything would survive every run."""
    assert any(TARGETS[name].check(data) is None for data in TARGETS[name].seeds)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in WORST.items() for kind in kinds])
def test_the_worst_inputs(name: str, kind: str) -> None:
    """Neither a hang nor much more memory than the input has, and no traceback."""
    target = TARGETS[name]
    data = WORST[name][kind]()
    target.check(target.seeds[0])  # what is loaded and made once is no growth
    with watched():
        target.check(data)
    tracemalloc.start()
    try:
        target.check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY, f"{peak} bytes for {len(data)}"


# the fuzzer itself --------------------------------------------------------------------------------


def test_a_hang_is_broken_off() -> None:
    def busy(data: bytes) -> None:
        while True:
            pass

    target = Target("busy", busy, lambda: [b""])
    with pytest.raises(Hang), watched(1):
        target.check(b"")


def test_a_traceback_is_a_finding() -> None:
    def broken(data: bytes) -> None:
        raise IndexError(data[:1])

    with pytest.raises(IndexError):
        Target("broken", broken, lambda: [b""]).check(b"a")


def test_a_refusal_of_another_class_is_a_finding() -> None:
    def refuses(data: bytes) -> None:
        raise ParseError("malformed-thing", "no thing")

    assert Target("refuses", refuses, list, refuses=(ParseError,)).check(b"") is not None
    with pytest.raises(ParseError):
        Target("refuses", refuses, list, refuses=()).check(b"")


@pytest.mark.parametrize(("slug", "message"), [("Not a slug", "words"), ("slug", ""), ("slug", "x" * 10_000)])
def test_words_that_are_findings(slug: str, message: str) -> None:
    with pytest.raises(AssertionError):
        check_words(ParseError(slug, message))


def test_an_acceptance_that_no_rebuilding_gives_is_a_finding() -> None:
    """One satoshi elsewhere, well signed, under an answer that says it was taken."""
    place = world()
    bent = update(place.terms["open"], place.secrets["payer"], 4, 7001).to_bytes()
    lock_time = parse_raw(parse_psbt(bent).transaction.to_bytes()).lock_time
    said = f'{{"paid_sat": 7000, "lock_time": {lock_time}, "update": 4, "received_sat": 2000}}'
    with pytest.raises(Took):
        accepted(place, bent, Ended(0, said, ""))


def test_the_mutators_change_things_and_repeat() -> None:
    """Most mutants of a real message differ from it, in many ways; the same number gives the same ones."""
    real = world().messages["update"]
    mutants = [bent_psbt(Random(seed), real) for seed in range(300)]
    assert mutants == [bent_psbt(Random(seed), real) for seed in range(300)]
    assert len(set(mutants)) > 150
    assert mutants.count(real) < 100
    funding = world().messages["funding"]
    assert len({bent_transaction(Random(seed), funding) for seed in range(300)}) > 150


def test_the_runner() -> None:
    """The command that the README gives."""
    words = [sys.executable, str(RUN), "amount", "outpoint", "--random", "--seconds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["amount", "outpoint"]
    assert all(" 0 findings" in line for line in lines)


def test_the_runner_knows_its_targets() -> None:
    listed = subprocess.run([sys.executable, str(RUN), "--list"], capture_output=True, text=True, timeout=300)
    assert listed.stdout.split() == list(TARGETS)
    unknown = subprocess.run(
        [sys.executable, str(RUN), "nothing"], capture_output=True, text=True, timeout=300
    )
    assert (unknown.returncode, unknown.stdout) == (2, "")
