"""What fuzzing has found, so that it stays mended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.judge import ENGINE

from mpchan.errors import MpchanError, StorageError
from mpchan.units import OutPoint

if not ENGINE:
    pytest.skip("the engine is not installed (mpchan engine install)", allow_module_level=True)

from support.fuzz.files import envelope
from support.fuzz.targets import TARGETS


def refused(name: str, data: bytes) -> str:
    """The slug of a refusal."""
    error = TARGETS[name].check(data)
    assert error is not None
    return error.slug


def with_value(data: bytes, value: Any, *path: str) -> bytes:
    """JSON with another value in one place."""
    table = json.loads(data)
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(table).encode()


@pytest.mark.parametrize("value", [[], {}, 5, None, ["ab" * 32, ":", "0"]])
def test_an_outpoint_that_is_no_text(value: Any) -> None:
    with pytest.raises(MpchanError) as error:
        OutPoint.parse(value)
    assert error.value.slug == "malformed-outpoint"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("key_index", float("inf")), ("key_index", float("nan")), ("key_index", 0.5), ("key_index", True)),
        *(("key_index", -1), ("key_index", 1 << 31), ("key_index", "0")),
    ],
)
def test_what_stands_beside_an_own_offer(key: str, value: Any) -> None:
    assert refused("own-offer", with_value(TARGETS["own-offer"].seeds[0], value, key)) == "offer-damaged"


def test_a_bottomless_file_beside_an_own_offer() -> None:
    assert refused("own-offer", b"[" * 100_000) == "offer-damaged"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("change_vout", []), ("change_vout", 99), ("change_vout", -1), ("change_vout", True)),
        *(("height", "5"), ("height", None), ("height", -1), ("answered", 1), ("answered", None)),
    ],
)
def test_a_record_of_what_was_sent(key: str, value: Any) -> None:
    made = with_value(TARGETS["sent"].seeds[0], value, "sent", key)
    assert refused("sent", envelope("sent")(made)) == "send-damaged"


@pytest.mark.parametrize(("key", "value"), [("key_index", "0"), ("key_index", 0), ("address", 5)])
def test_a_plan(key: str, value: Any) -> None:
    made = with_value(TARGETS["plan"].seeds[0], value, "plan", key)
    assert refused("plan", envelope("plan")(made)) == "plan-damaged"


@pytest.mark.parametrize(
    ("key", "value"), [("key_index", "0"), ("key_index", -1), ("outpoint", []), ("outpoint", 7)]
)
def test_a_state_file(key: str, value: Any) -> None:
    for seed in TARGETS["channel-file"].seeds:
        made = with_value(seed, value, "channel", key)
        assert refused("channel-file", envelope("channel", "journal")(made)) == "channel-damaged"


def test_the_number_of_an_update() -> None:
    for seed in TARGETS["channel-file"].seeds:
        if json.loads(seed)["channel"].get("update"):
            made = with_value(seed, "4", "channel", "update", "number")
            assert refused("channel-file", envelope("channel", "journal")(made)) == "channel-damaged"


def test_a_muddled_keys_file_is_not_repeated() -> None:
    """Where the seed stands in the place of an index, no error prints it."""
    real, _ = TARGETS["keys-toml"].seeds
    lines = real.decode().splitlines()
    seed = next(line.partition(" = ")[2] for line in lines if line.startswith("seed"))
    made = [f"next_change = {seed}" if line.startswith("next_change") else line for line in lines]
    error = TARGETS["keys-toml"].check("\n".join(made).encode())
    assert isinstance(error, StorageError)
    assert error.slug == "keys-damaged"
    assert seed.strip('"')[:16] not in error.message
