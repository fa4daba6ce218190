"""Which channel a command means: any unique beginning of the id, or nothing where only one fits."""

from __future__ import annotations

import pytest
from support.transcript import Shell

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def second_channel(shell: Shell) -> str:
    """Another channel between the two, open; its id."""
    shell.ok(f"{SELLER} payee offer -q -o second.toml")
    channel: str = shell.json(f"{BUYER} open second.toml 20000 -o request2.psbt")["channel"]
    shell.ok(f"{SELLER} payee sign-refund request2.psbt -q -o signed2.psbt")
    shell.ok(f"{BUYER} payer fund signed2.psbt -q")
    shell.ok("mpchan regtest mine 1")
    return channel


@pytest.mark.parametrize("digits", [1, 16, 64])
def test_any_unique_beginning(opened: Shell, digits: int) -> None:
    txid = opened.names["txid:funding"]
    for named in (txid[:digits], txid[:digits].upper()):
        assert opened.json(f"{BUYER} show {named}")["channel"] == txid[:16]
        assert opened.json(f"{BUYER} show --channel {named}")["channel"] == txid[:16]
        assert opened.json(f"{BUYER} pay 1000 -c {named}")["channel"] == txid[:16]
    assert opened.json(f"{BUYER} wait --for confirmed {txid[:digits]}")["channel"] == txid[:16]


@pytest.mark.parametrize("form", ["{}:0", "{}-0"])
def test_the_whole_outpoint(opened: Shell, form: str) -> None:
    outpoint = form.format(opened.names["txid:funding"])
    assert opened.json(f"{BUYER} show {outpoint}")["funding"]["vout"] == 0
    assert opened.json(f"{BUYER} pay 1000 --channel {outpoint}")["update"] == 1


def test_an_unknown_one(opened: Shell) -> None:
    channel = opened.names["channel"]
    other = ("1" if channel[0] == "0" else "0") + channel[1:]
    for command in (f"{BUYER} pay 1000 --channel", f"{BUYER} show", f"{SELLER} settle --channel"):
        error = opened.fails(f"{command} {other}", 5, "unknown-channel")
        assert error["hint"] == "see `mpchan list`"
    for named in (channel + "0" * 48, "x", "..", "", "%", channel + " "):
        opened.fails(f"{BUYER} show '{named}'", 5, "unknown-channel")


def test_two_names_for_one_command(opened: Shell) -> None:
    channel = opened.names["channel"]
    assert opened.json(f"{BUYER} show {channel} --channel {channel}")["channel"] == channel
    opened.fails(f"{BUYER} show {channel} --channel 00", 2, "usage")
    opened.fails(f"{BUYER} wait 00 --channel {channel} --for final", 2, "usage")


def test_an_ambiguous_one(opened: Shell) -> None:
    """Exit 2, and the message says which."""
    first = opened.names["channel"]
    second = second_channel(opened)
    for command in ("pay 1000", "settle", "refund", "show", "wait --for confirmed"):
        error = opened.fails(f"{BUYER} {command}", 2, "ambiguous-channel")
        assert error["message"] == f"2 channels fit: {', '.join(sorted([first, second]))}"
        assert error["hint"] == "name one with --channel and more digits"
    for command in ("payee settle", "payee abandon"):
        opened.fails(f"{SELLER} {command}", 2, "ambiguous-channel")
    assert opened.json(f"{BUYER} pay 1000 --channel {second}")["channel"] == second
    assert opened.json(f"{BUYER} pay 2000 --channel {first}")["paid_sat"] == 2000


def test_an_ambiguous_beginning(opened: Shell) -> None:
    """Two ids that begin alike; the other's file need not even be readable."""
    channel = opened.names["channel"]
    twin = channel[:4] + ("1" if channel[4] == "0" else "0") + "0" * 59 + "-0.json"
    (opened.folder / "buyer" / "channels" / twin).write_text("{}")
    error = opened.fails(f"{BUYER} pay 1000 --channel {channel[:4]}", 2, "ambiguous-channel")
    assert channel in error["message"]
    assert opened.json(f"{BUYER} pay 1000 --channel {channel[:5]}")["channel"] == channel
    assert opened.json(f"{BUYER} pay 1000")["update"] == 2
    opened.fails(f"{BUYER} show {twin[:5]}", 7, "channel-damaged")


def test_left_out_where_one_is_suitable(opened: Shell) -> None:
    """A channel that is over, or being opened, does not stand in the way of the only open one."""
    first = opened.names["channel"]
    opened.ok(f"{BUYER} settle -q -c {first} -o settlement.psbt")
    opened.ok(f"{SELLER} settle settlement.psbt -q")
    opened.ok("mpchan regtest mine 1")
    second = second_channel(opened)
    assert opened.json(f"{BUYER} pay 1000")["channel"] == second
    opened.ok(f"{SELLER} payee offer -q -o third.toml")
    third = opened.json(f"{BUYER} open third.toml 5000 -o request3.psbt")["channel"]
    assert opened.json(f"{BUYER} pay 1000")["channel"] == second
    assert opened.json(f"{BUYER} payer abandon")["channel"] == third


def test_settle_takes_the_role_of_the_channel(opened: Shell) -> None:
    """One wallet, payer in one channel and payee in another."""
    opened.ok(f"{BUYER} payee offer -q -o mine.toml")
    opened.ok(f"mpchan regtest faucet $({SELLER} address) 1btc")
    opened.ok("mpchan regtest mine 1")
    other = opened.json(f"{SELLER} open mine.toml 20000 -o request2.psbt")["channel"]
    opened.ok(f"{BUYER} payee sign-refund request2.psbt -q -o signed2.psbt")
    opened.ok(f"{SELLER} payer fund signed2.psbt -q")
    opened.ok("mpchan regtest mine 1")
    roles = {row["channel"]: row["role"] for row in opened.json(f"{BUYER} list")["channels"]}
    assert roles == {opened.names["channel"]: "payer", other: "payee"}
    opened.fails(f"{BUYER} settle", 2, "ambiguous-channel")
    opened.fails(f"{BUYER} settle --channel {other}", 5, "nothing-to-collect")
    opened.fails(f"{BUYER} settle --channel {other} --total 5", 2, "usage")
    opened.fails(f"{BUYER} payer settle --channel {other}", 2, "wrong-role")
    opened.fails(f"{BUYER} payee settle --channel {opened.names['channel']}", 2, "wrong-role")
    opened.ok(f"{SELLER} settle --channel {other} --total 3000 -q -o settlement.psbt")
    opened.fails(f"{BUYER} settle settlement.psbt --channel {opened.names['channel']}", 2, "wrong-channel")
    opened.fails(f"{BUYER} settle settlement.psbt --total 3000", 2, "usage")
    assert opened.json(f"{BUYER} settle settlement.psbt --channel {other[:6]}")["paid_sat"] == 3000
    assert opened.json(f"{BUYER} settle --channel {opened.names['channel']}")["paid_sat"] == 0
