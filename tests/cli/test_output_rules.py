"""What a command writes: a message alone and whole, to stdout or to a file, or nothing; and what if that fails."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from support.transcript import Done, Shell

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
LAST = "the payment is kept: `mpchan payer pay --last` writes it again"
AGAIN = "it is safe to run the same command again"

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")


def not_emitted(done: Done, reason: str, hint: str) -> None:
    """The state was saved and its message lost."""
    assert (done.code, done.out) == (7, ""), done
    assert done.err == (
        f"mpchan: error: what was done is saved, but the result could not be written: {reason}\n"
        f"mpchan: hint: {hint}\n"
    )


# files --------------------------------------------------------------------------------------------


def test_a_file_holds_what_stdout_would(opened: Shell) -> None:
    """One line of hex and nothing else; the words for people are on stderr, and gone with -q and --json."""
    plain = opened.ok(f"{BUYER} pay 1000")
    assert bytes.fromhex(plain.out.removesuffix("\n")).startswith(b"psbt\xff")
    assert (
        plain.err == f"update 1 of channel {opened.names['channel']}: 1000 sat now, 1000 in all, 99000 left\n"
    )
    quiet = opened.ok(f"{BUYER} pay --last -q")
    assert (quiet.out, quiet.err) == (plain.out, "")
    for options in ("-o one", "--output one", "-o one -q", "-o one --json", "--json -q -o ./one"):
        done = opened.ok(f"{BUYER} pay --last {options}")
        assert opened.text("one") == plain.out
        assert (done.err == "") == ("-q" in options or "--json" in options)
        if "--json" in options:
            assert done.json["hex"] + "\n" == plain.out
        else:
            assert done.out == ""
        (opened.folder / "one").unlink()
    assert opened.ok(f"{BUYER} pay --last -o - -q").out == plain.out
    assert not (opened.folder / "-").exists()


def test_quiet_hides_words_but_no_answers(opened: Shell) -> None:
    for command in ("address", "balance", "list", "show", "inspect funding.hex"):
        assert opened.ok(f"{BUYER} -q {command}").out != "", command
    assert opened.ok("mpchan regtest status -q").out != ""
    address = opened.ok(f"{BUYER} address -q").out.strip()
    for command in (
        f"regtest faucet {address} 1000",
        "regtest mine 1",
        "--wallet third init",
        "--wallet buyer wait --for confirmed",
        "--wallet seller payee funding funding.hex",
    ):
        done = opened.ok(f"mpchan -q {command}")
        assert (done.out, done.err) == ("", ""), command


def test_an_output_file_is_replaced_whole(opened: Shell) -> None:
    (opened.folder / "one").write_text("what was there before\n" * 1000)
    (opened.folder / "one").chmod(0o600)
    opened.play(
        """
        $ mpchan --wallet buyer pay 1000 -q -o one
        ~ one
        $ mpchan --wallet seller payee accept one -q
        """
    )


def test_a_new_output_file_obeys_the_umask(opened: Shell) -> None:
    opened.ok(f"umask 027; {BUYER} pay 1000 -q -o one")
    assert stat.S_IMODE((opened.folder / "one").stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(opened: Shell) -> None:
    (opened.folder / "link").symlink_to("target")
    opened.play(
        """
        $ mpchan --wallet buyer pay 1000 -q -o link
        + target
        $ mpchan --wallet buyer pay 1000 -q -o link
        ~ target
        """
    )
    assert (opened.folder / "link").is_symlink()


def test_a_named_pipe_is_written_to(opened: Shell) -> None:
    """As a shell's ``-o >(command)`` needs it."""
    os.mkfifo(opened.folder / "pipe")
    done = opened.ok(f"cat pipe & {BUYER} pay 1000 -o pipe; wait")
    assert bytes.fromhex(done.out).startswith(b"psbt\xff")
    assert stat.S_ISFIFO((opened.folder / "pipe").stat().st_mode)


def test_a_device_stays_what_it_is(opened: Shell) -> None:
    """A rename over ``/dev/null`` would be root's worst day."""
    opened.ok(f"{BUYER} pay 1000 -o /dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (
        opened.ok(f"{BUYER} pay --last -q -o /dev/stdout | cat").out == opened.ok(f"{BUYER} pay --last").out
    )


def test_stdout_by_its_file_name(opened: Shell) -> None:
    """Redirected, it is a link into whatever folder: what the shell has opened gets the message."""
    payment = opened.ok(f"{BUYER} pay 1000 -q").out
    (opened.folder / "elsewhere").mkdir()
    for name in ("/dev/stdout", "/dev/fd/1"):
        opened.ok(f"{BUYER} pay --last -q -o {name} >> elsewhere/messages")
    assert opened.text("elsewhere/messages") == 2 * payment


# refused before anything happens ------------------------------------------------------------------

WRITERS = {
    "offer": "mpchan --wallet seller payee offer",
    "open": "mpchan --wallet buyer payer open offer.toml 5000",
    "sign-refund": "mpchan --wallet seller payee sign-refund request.psbt",
    "fund": "mpchan --wallet buyer payer fund signed.psbt",
    "pay": "mpchan --wallet buyer payer pay 1000",
    "payer-settle": "mpchan --wallet buyer payer settle",
    "payee-settle": "mpchan --wallet seller payee settle update.psbt",
    "settle": "mpchan --wallet seller settle update.psbt",
    "refund": "mpchan --wallet buyer payer refund",
    "bump": "mpchan --wallet buyer bump --fee-rate 9",
}
READERS = {
    name: command.split()[5 if name != "settle" else 4] for name, command in WRITERS.items() if "." in command
}


@pytest.mark.parametrize("name", WRITERS)
def test_outputs_that_cannot_be(paid: Shell, name: str) -> None:
    command = WRITERS[name]
    error = paid.fails(f"{command} -o missing/out", 2, "output-unwritable")
    assert error["message"] == "the folder missing does not exist"
    error = paid.fails(f"{command} -o buyer", 2, "output-unwritable")
    assert error["message"] == "buyer is a directory"
    if name != "pay":
        return
    paid.fails(f"{command} -o offer.toml/out", 2, "output-unwritable")
    paid.fails(f"{command} -o {'x' * 300}", 2, "output-unwritable")
    paid.fails(f"{command} -o ''", 2, "output-unwritable")


@pytest.mark.parametrize("name", READERS)
def test_an_output_equal_to_the_input(paid: Shell, name: str) -> None:
    command, source = WRITERS[name], READERS[name]
    error = paid.fails(f"{command} -o {source}", 2, "output-is-input")
    assert error["message"] == f"{source} is the input file, it would be overwritten"
    paid.fails(f"{command} -o ./buyer/../{source}", 2, "output-is-input")
    (paid.folder / "soft").symlink_to(source)
    (paid.folder / "hard").hardlink_to(paid.folder / source)
    paid.fails(f"{command} -o soft", 2, "output-is-input")
    paid.fails(f"{command} -o hard", 2, "output-is-input")


def test_the_refunds_copy_is_a_file_of_its_own(paid: Shell) -> None:
    fund = WRITERS["fund"]
    paid.fails(f"{fund} --refund-out signed.psbt", 2, "output-is-input")
    paid.fails(f"{fund} --refund-out same -o same", 2, "output-twice")
    paid.fails(f"{fund} --refund-out ./same -o buyer/../same", 2, "output-twice")
    paid.fails(f"{fund} --refund-out buyer", 2, "output-unwritable")
    paid.fails(f"{fund} --refund-out missing/refund", 2, "output-unwritable")
    paid.fails(f"{fund} --refund-out /dev/null", 2, "output-unwritable")
    (paid.folder / "disk").mkdir()
    (paid.folder / "link.hex").symlink_to("disk/refund.hex")
    for _ in range(2):  # the copy is where the link leads, be it there already or not
        paid.ok(f"{fund} --refund-out link.hex -o funding2.hex -q")
        assert (paid.folder / "link.hex").is_symlink()
        assert paid.json("mpchan inspect disk/refund.hex")["lock_time"] == 417
    (paid.folder / "inside.hex").symlink_to("buyer/keys.toml")
    paid.fails(f"{fund} --refund-out inside.hex", 2, "output-is-wallet")
    paid.ok(f"{fund} --refund-out refund.hex -o funding2.hex -q")
    assert paid.json("mpchan inspect refund.hex")["lock_time"] == 417
    assert stat.S_IMODE((paid.folder / "refund.hex").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "place", ["keys.toml", "wallet.toml", "wallet.lock", "channels/new.json", "offers/new.toml"]
)
def test_a_wallets_own_files_are_no_output(paid: Shell, place: str) -> None:
    """One slip of the keyboard must not cost the keys."""
    error = paid.fails(f"{BUYER} pay 1000 -o buyer/{place}", 2, "output-is-wallet")
    assert error["message"] == f"buyer/{place} is the place of one of the wallet's own files"
    (paid.folder / "link").symlink_to(f"buyer/{place}")
    paid.fails(f"{BUYER} pay 1000 -o link", 2, "output-is-wallet")
    done = paid.run(f"cd buyer; mpchan --wallet . pay 1000 --json -o {place}")
    assert (done.code, done.error["error"]) == (2, "output-is-wallet")


@pytest.mark.parametrize("folder", ["sent", "plans", "seen/headers", "certificates"])
def test_the_folders_that_a_wallet_makes_when_it_needs_them_are_its_own_too(paid: Shell, folder: str) -> None:
    (paid.folder / "buyer" / folder).mkdir(parents=True)
    paid.fails(f"{BUYER} pay 1000 -o buyer/{folder}/new.json", 2, "output-is-wallet")


def test_a_name_that_differs_in_its_letters_case_alone(paid: Shell) -> None:
    """On some file systems it is the same file."""
    paid.fails(f"{BUYER} pay 1000 -o buyer/Keys.TOML", 2, "output-is-wallet")
    paid.ok(f"{BUYER} pay 1000 -o buyer/update.psbt -q")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(paid: Shell) -> None:
    folder = paid.folder / "sealed"
    folder.mkdir(mode=0o500)
    paid.fails(f"{BUYER} pay 1000 -o sealed/out", 2, "output-unwritable")


# the output fails after the state is saved --------------------------------------------------------


@needs_full_disk
def test_a_payment_whose_message_is_lost(opened: Shell) -> None:
    """Exit 7 says how to get it; the same bytes come again, and nothing is paid twice."""
    done = opened.run(f"{BUYER} pay 1000 > /dev/full")
    not_emitted(done, "standard output: no space left on device", LAST)
    assert opened.json(f"{BUYER} show")["paid_sat"] == 1000
    again = opened.ok(f"{BUYER} pay --last -q").out
    assert opened.ok(f"{BUYER} pay --total 1000 -q").out == again
    not_emitted(
        opened.run(f"{BUYER} pay --total 2000 > /dev/full"), "standard output: no space left on device", AGAIN
    )
    second = opened.json(f"{BUYER} pay --total 2000")
    assert (second["update"], second["amount_sat"], second["paid_sat"]) == (2, 0, 2000)
    assert opened.ok(f"{BUYER} pay --last -q").out == second["hex"] + "\n"


@needs_full_disk
def test_a_lost_answer_in_json(opened: Shell) -> None:
    done = opened.run(f"{BUYER} pay 1000 --json > /dev/full")
    assert (done.code, done.out) == (7, "")
    assert done.error == {
        "error": "not-emitted",
        "message": "what was done is saved, but the result could not be written: "
        "standard output: no space left on device",
        "hint": LAST,
        "exit_code": 7,
    }


@needs_full_disk
def test_a_full_device_as_the_output_file(opened: Shell) -> None:
    not_emitted(opened.run(f"{BUYER} pay 1000 -o /dev/full"), "/dev/full: no space left on device", LAST)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    done = opened.run(f"{BUYER} pay 1000 -o /dev/full --json")
    assert (done.code, done.out, done.error["error"]) == (7, "", "not-emitted")
    assert opened.json(f"{BUYER} pay --last")["update"] == 2


@needs_full_disk
def test_no_file_when_the_answer_on_stdout_is_lost(opened: Shell) -> None:
    """``-o`` and ``--json`` answer twice; the file appears only when both went out."""
    done = opened.run(f"{BUYER} pay 1000 --json -o one > /dev/full")
    assert (done.code, done.error["error"]) == (7, "not-emitted")
    (opened.folder / "one").write_text("as it was\n")
    done = opened.run(f"{BUYER} pay --last --json -o one > /dev/full")
    assert done.code == 7
    assert opened.text("one") == "as it was\n"
    assert not list(opened.folder.glob(".*"))


@needs_full_disk
def test_an_offer_whose_text_is_lost(wallets: Shell) -> None:
    """An offer has a key of its own, so a second run makes another; the first one is kept in the wallet."""
    done = wallets.run(f"{SELLER} payee offer --memo lost > /dev/full")
    [kept] = (wallets.folder / "seller" / "offers").glob("*.toml")
    not_emitted(
        done, "standard output: no space left on device", f"the offer is kept in seller/offers/{kept.name}"
    )
    wallets.ok(f"{BUYER} open seller/offers/{kept.name} 5000 -q -o request.psbt")
    wallets.ok(f"{SELLER} payee sign-refund request.psbt -q -o signed.psbt")


@needs_full_disk
def test_every_other_message_comes_again(wallets: Shell) -> None:
    """Each command after a lost output gives what it would have given."""

    def lost_then_had(command: str) -> str:
        not_emitted(wallets.run(f"{command} > /dev/full"), "standard output: no space left on device", AGAIN)
        name = f"file{len(wallets.files())}"
        wallets.ok(f"{command} -q -o {name}")
        assert wallets.ok(f"{command} -q").out == wallets.text(name)
        return name

    wallets.ok(f"{SELLER} payee offer -q -o offer.toml")
    request = lost_then_had(f"{BUYER} open offer.toml 50000")
    signed = lost_then_had(f"{SELLER} payee sign-refund {request}")
    lost_then_had(f"{BUYER} payer fund {signed}")
    wallets.ok("mpchan regtest mine 1")
    update = lost_then_had(f"{BUYER} pay --total 1000")
    done = wallets.run(f"{SELLER} payee accept {update} > /dev/full")
    not_emitted(done, "standard output: no space left on device", AGAIN)
    assert wallets.json(f"{SELLER} payee accept {update}")["duplicate"] is True
    settlement = lost_then_had(f"{BUYER} settle --total 1500")
    lost_then_had(f"{SELLER} settle {settlement}")
    lost_then_had(f"{SELLER} settle")


@needs_full_disk
def test_a_refund_whose_output_is_lost(opened: Shell) -> None:
    opened.ok("mpchan regtest mine 305")
    not_emitted(opened.run(f"{BUYER} refund > /dev/full"), "standard output: no space left on device", AGAIN)
    [waiting] = opened.json("mpchan regtest status")["mempool"]
    assert opened.json(f"{BUYER} refund")["txid"] == waiting


def test_a_closed_pipe(opened: Shell) -> None:
    """The reader is gone before the answer comes."""
    process = subprocess.Popen(
        ["mpchan", "--wallet", "buyer", "pay", "1000"],
        cwd=opened.folder,
        env=opened.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    not_emitted(Done("pay", process.wait(60), "", err), "standard output: broken pipe", LAST)
    assert opened.json(f"{BUYER} pay --last")["update"] == 1


def test_a_closed_stdout(opened: Shell) -> None:
    not_emitted(opened.run(f"{BUYER} pay 1000 >&-"), "standard output is closed", LAST)
    assert opened.json(f"{BUYER} pay --last")["update"] == 1
    assert opened.ok(f"{BUYER} pay 1000 -q -o one >&-").out == ""
    opened.ok(f"{SELLER} payee accept one")


@pytest.mark.parametrize("dead", ["2>&-", pytest.param("2>/dev/full", marks=needs_full_disk)])
def test_a_dead_stderr_changes_nothing_else(opened: Shell, dead: str) -> None:
    """What is for people may be lost; the message, the exit code and an empty stdout on failure are not."""
    done = opened.run(["/bin/sh", "-c", f"{BUYER} pay 1000 {dead}"])
    assert (done.code, done.out.startswith("70736274ff")) == (0, True)
    for flag in ("", "--json"):
        done = opened.run(["/bin/sh", "-c", f"{BUYER} pay 0 {flag} {dead}"])
        assert (done.code, done.out, done.err) == (5, "", "")
        done = opened.run(["/bin/sh", "-c", f"mpchan nonsense {flag} {dead}"])
        assert (done.code, done.out, done.err) == (2, "", "")


@pytest.mark.parametrize("what", ["--help", "pay --help", "--version"])
def test_help_that_cannot_be_printed(bare: Shell, what: str) -> None:
    for full in ("| true; exit $?", "> /dev/full"):
        if full == "> /dev/full" and not Path("/dev/full").exists():
            continue
        done = bare.run(["/bin/bash", "-c", f"set -o pipefail; mpchan {what} {full}"])
        assert done.code in (0, 7), done  # `true` may be too slow to leave before the help is in the pipe
        assert "Traceback" not in done.err
        if full == "> /dev/full":
            not_emitted(done, "standard output: no space left on device", AGAIN)


def test_a_folder_that_is_gone(bare: Shell) -> None:
    done = bare.run("mkdir gone; cd gone; rmdir ../gone; mpchan --wallet here init --json")
    assert (done.code, done.error["error"]) == (7, "system")
