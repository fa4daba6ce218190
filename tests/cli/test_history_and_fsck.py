"""``mpchan history`` and ``mpchan fsck`` as people and scripts run them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.transcript import Shell

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"


def journal_of(shell: Shell, wallet: str) -> Path:
    [path] = (shell.folder / wallet / "channels").glob("*.journal")
    return path


def test_history_for_people(paid: Shell) -> None:
    done = paid.ok(f"{SELLER} history")
    head, *rows = done.out.splitlines()
    assert head.split() == ["time", "(UTC)", "event", "amount", "total", "lock", "time", "txid"]
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert len(rows) == 2
    assert re.fullmatch(rf"{moment}  refund-signed +0 +417  [0-9a-f]{{64}}", rows[0])
    assert re.fullmatch(rf"{moment}  accepted +1,000 +1,000 +272  [0-9a-f]{{64}}", rows[1])
    assert [row.split()[2] for row in paid.ok(f"{BUYER} history").out.splitlines()[1:]] == [
        "opened", "secured", "funded", "paid",
    ]  # fmt: skip


def test_history_for_scripts(paid: Shell) -> None:
    channel = paid.names["channel"]
    view = paid.json(f"{BUYER} history {channel[:6]}")
    assert list(view) == ["channel", "events"]
    assert view["channel"] == channel
    assert [list(event) for event in view["events"]] == [
        [
            "sequence",
            "time",
            "event",
            "amount_sat",
            "paid_sat",
            "pending_sat",
            "update",
            "lock_time",
            "txid",
            "hex",
        ]
    ] * 4
    assert view["events"][-1]["hex"] == paid.text("update.psbt").strip()
    assert view["events"][1]["hex"] == paid.text("signed.psbt").strip()
    assert view["events"][2]["hex"] == paid.text("funding.hex").strip()
    assert paid.json(f"{SELLER} history --channel {channel}")["events"][-1] == {
        **view["events"][-1], "event": "accepted", "sequence": 2,
        "time": paid.json(f"{SELLER} history")["events"][-1]["time"],
    }  # fmt: skip
    paid.fails(f"{BUYER} history ffff", 5, "unknown-channel")
    paid.fails(f"{BUYER} history {channel} --channel 00", 2, "usage")


def test_a_long_history_is_one_object_on_one_line(paid: Shell) -> None:
    """More events than are printed with one write; nothing is held in memory that need not be."""
    (paid.folder / "meter.py").write_text(
        "from pathlib import Path\n"
        "from mpchan.values import replace\n"
        "from mpchan.units import Amount\n"
        "from mpchan.wallet.wallet import Wallet\n"
        "wallet = Wallet.open(Path('buyer'))\n"
        "[name] = wallet.channels.names()\n"
        "record = wallet.channels.load(name)\n"
        "for number in range(2, 1200):\n"
        "    state = replace(record.state, number=number, paid=Amount(1000 + number))\n"
        "    wallet.channels.save(replace(record, state=state), 'metered')\n"
    )
    paid.ok("python meter.py")
    view = paid.json(f"{BUYER} history")
    assert [event["sequence"] for event in view["events"]] == list(range(1, 1203))
    assert view["events"][-1]["paid_sat"] == 2199
    assert len(paid.ok(f"{BUYER} history").out.splitlines()) == 1203
    assert paid.json(f"{BUYER} fsck")["exit_code"] == 0


def test_history_into_a_pipe_that_closes(paid: Shell) -> None:
    done = paid.run(f"{BUYER} history | head -n 0")
    assert "Traceback" not in done.err


def test_history_of_a_damaged_journal(paid: Shell) -> None:
    path = journal_of(paid, "seller")
    path.write_bytes(path.read_bytes().replace(b"accepted", b"acceptee"))
    error = paid.fails(f"{SELLER} history", 7, "channel-damaged")
    assert "line 2 of the journal" in error["message"]
    assert "mpchan fsck --repair" in error["hint"]


def test_fsck_when_all_is_well(paid: Shell) -> None:
    done = paid.ok(f"{SELLER} fsck")
    offer = paid.names["offer"]
    name = journal_of(paid, "seller").stem
    assert done.out == (
        f"keys keys.toml: ok\ngeneration generation: ok\noffer {offer}: ok\nchannel {name}: ok\n"
        "wallet keys: ok\n5 checked, 0 wrong\n"
    )
    view = paid.json(f"{BUYER} fsck --repair")
    assert list(view) == ["checked", "wrong", "subjects", "foreign", "warnings", "exit_code"]
    assert (view["checked"], view["wrong"], view["warnings"], view["exit_code"]) == (4, 0, [], 0)
    assert [list(subject) for subject in view["subjects"]] == [
        ["kind", "name", "ok", "rules", "repaired"]
    ] * 4


def test_a_damaged_state_file_and_its_repair(paid: Shell) -> None:
    path = journal_of(paid, "buyer").with_suffix(".json")
    path.write_text("a diary")
    error = paid.fails(f"{BUYER} pay 500", 7, "channel-damaged")
    assert error["hint"] == "`mpchan fsck --repair` rebuilds what can be rebuilt, and says what it finds"
    done = paid.run(f"{BUYER} fsck")
    assert (done.code, done.err) == (7, "")
    assert f"channel {path.stem}: WRONG\n  state-file: state file: not a channel file\n" in done.out
    assert done.out.endswith("4 checked, 1 wrong\n")
    assert paid.run(f"{BUYER} fsck --json").json["exit_code"] == 7
    assert path.read_text() == "a diary"
    done = paid.ok(f"{BUYER} fsck --repair")
    [kept] = path.parent.glob("*.damaged-*")
    assert kept.read_text() == "a diary"
    assert (
        f"channel {path.stem}: mended\n  rebuilt the state file from the journal, the damaged one is kept as "
        f"{kept.name}\n" in done.out
    )
    # the payments go on where they were, and the other side takes them
    assert paid.json(f"{BUYER} pay 500 -o next.psbt")["update"] == 2
    assert paid.json(f"{SELLER} payee accept next.psbt")["paid_sat"] == 1500


def test_a_journal_that_is_gone(paid: Shell) -> None:
    path = journal_of(paid, "seller")
    path.unlink()
    paid.fails(f"{SELLER} payee accept update.psbt", 7, "channel-damaged")
    done = paid.run(f"{SELLER} fsck")
    assert (done.code, "journal: journal: the journal is missing" in done.out) == (7, True)
    done = paid.ok(f"{SELLER} fsck --repair")
    assert "up to 2560 payments may be missing" in done.err
    assert "ask the payer for its latest payment, `mpchan payer pay --last`, and accept it" in done.err
    assert json.loads(paid.ok(f"{SELLER} fsck --json").out)["exit_code"] == 0
    assert paid.json(f"{SELLER} payee accept update.psbt")["paid_sat"] == 1000


def test_a_payment_goes_on_after_a_torn_line(paid: Shell) -> None:
    """What a killed command left: the next one does not even say so."""
    for wallet in ("buyer", "seller"):
        path = journal_of(paid, wallet)
        path.write_bytes(path.read_bytes() + b'{"sha256":"0123')
        assert paid.json(f"mpchan --wallet {wallet} show")["paid_sat"] == 1000
    assert paid.run(f"{BUYER} fsck").code == 7
    paid.ok(f"{BUYER} pay 500 -o next.psbt")
    assert paid.json(f"{SELLER} payee accept next.psbt")["paid_sat"] == 1500
    paid.ok(f"{BUYER} fsck")
    paid.ok(f"{SELLER} fsck")
