"""The stories whose commands are broken off, and the commands that need not be."""

from __future__ import annotations

from support.crash.campaign import Command, Story

TERMS = "--settle-window 6 --min-refund-delay 25 --max-refund-delay 60 --fee-rate 2 --min-confirmations 1"
"""The refund is 43 blocks away."""

READY = (
    Command("init-payer", "--wallet payer init --show-words", again=(
        "--wallet payer init --show-words", "--wallet payer address",
    )),
    Command("init-payee", "--wallet payee init", again=("--wallet payee init", "--wallet payee list")),
    Command("address", "--wallet payer address"),
    Command("faucet", "regtest faucet {address.address} 1000000"),
    Command("mine", "regtest mine 1"),
)  # fmt: skip

OFFERED = (*READY, Command("offer", f"--wallet payee payee offer {TERMS} -o offer.toml"))

ASKED = (*OFFERED, Command("open", "--wallet payer payer open offer.toml 100000 -o request.psbt"))

SIGNED = (*ASKED, Command("sign-refund", "--wallet payee payee sign-refund request.psbt -o signed.psbt"))

OPEN = (
    *SIGNED,
    Command("fund", "--wallet payer payer fund signed.psbt --refund-out refund.hex -o funding.hex"),
    Command("funding", "--wallet payee payee funding funding.hex"),
    Command("bury", "regtest mine 1"),
)

PAID = (
    *OPEN,
    Command("pay", "--wallet payer payer pay --total 1000 -o update.psbt"),
    Command("accept", "--wallet payee payee accept update.psbt"),
)

WHOLE = Story(
    "whole",
    (
        *PAID,
        Command("pay-more", "--wallet payer payer pay --total 2500 -o update.psbt"),
        Command("accept-more", "--wallet payee payee accept update.psbt"),
        Command("settle", "--wallet payer payer settle --total 3000 -o settlement.psbt"),
        Command("close", "--wallet payee payee settle settlement.psbt -o closing.hex"),
        Command("confirm", "regtest mine 1"),
        Command("send", "--wallet payer send {address.address} 50000 -o sent.hex", once=True),
        Command("scan", "--wallet payee scan"),
    ),
    first="init-payer",
    ends=(("payer", "closed", 3000), ("payee", "closed", 3000)),
    sent=(("payer", 1),),
)

BY_AMOUNT = Story(
    "by amount",
    (
        *OPEN,
        Command(
            "pay-amount",
            "--wallet payer payer pay 1000 -o update.psbt",
            again=(
                "--wallet payer payer pay --last -o update.psbt",
                "--wallet payer payer pay 1000 -o update.psbt",
            ),
        ),
        Command("pay-last", "--wallet payer payer pay --last"),
        Command("accept", "--wallet payee payee accept update.psbt"),
        Command("settle", "--wallet payer payer settle -o settlement.psbt"),
        Command("keep", "--wallet payee payee accept settlement.psbt"),
        Command("close-held", "--wallet payee payee settle"),
        Command("confirm", "regtest mine 1"),
    ),
    first="pay-amount",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

CLAIM = Story(
    "claim",
    (
        *PAID,
        Command("wait", "regtest mine 40"),
        Command("claim", "--wallet payee payee settle -o claim.hex"),
        Command("bump", "--wallet payer bump --fee-rate 20 -o child.hex"),
        Command("bump-more", "--wallet payer bump --fee-rate 40 -o child.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="wait",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

WATCHED = Story(
    "watched",
    (
        *PAID,
        Command("wait", "regtest mine 40"),
        Command("watch", "--wallet payee watch --once", codes=(0, 5)),
        Command("confirm", "regtest mine 1"),
        Command("watch-closed", "--wallet payer watch --once"),
    ),
    first="watch",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

REFUND = Story(
    "refund",
    (
        *OPEN,
        Command("wait", "regtest mine 60"),
        Command("refund", "--wallet payer payer refund -o sent.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="refund",
    ends=(("payer", "refunded", 0), ("payee", "refunded", 0)),
)

WATCHED_REFUND = Story(
    "watched refund",
    (
        *OPEN,
        Command("wait", "regtest mine 60"),
        Command("watch-refund", "--wallet payer watch --once"),
        Command("confirm", "regtest mine 1"),
    ),
    first="watch-refund",
    ends=(("payer", "refunded", 0), ("payee", "refunded", 0)),
)

ABANDONED = Story(
    "abandoned",
    (
        *SIGNED,
        Command("payer-abandon", "--wallet payer payer abandon"),
        Command("payee-abandon", "--wallet payee payee abandon"),
        Command("like", "--wallet payee payee offer --like {offer.offer_id} -o again.toml"),
        Command("open-again", "--wallet payer payer open again.toml 100000 -o again.psbt"),
        Command("payer-abandon-again", "--wallet payer payer abandon"),
        Command("send-all", "--wallet payer send {address.address} --all --no-broadcast", once=True),
        Command("forget", "--wallet payer send --forget {send-all.txid}", again=(
            "--wallet payer send --forget {send-all.txid}", "--wallet payer list",
        )),
    ),
    first="payer-abandon",
    ends=(("payee", "abandoned", 0),),
)  # fmt: skip

EXTERNAL = Story(
    "external",
    (
        *OFFERED,
        Command("init-other", "--wallet other init"),
        Command("plan", "--wallet other open offer.toml 100000 --external"),
        Command(
            "make",
            "--wallet payer send {plan.address} {plan.amount_sat} --no-broadcast -o made.hex",
            once=True,
        ),
        Command("take", "--wallet other open --funding made.hex -o request.psbt"),
        Command("sign", "--wallet payee payee sign-refund request.psbt -o signed.psbt"),
        Command("fund-external", "--wallet other payer fund signed.psbt --funding made.hex -o funding.hex"),
        Command("bury", "regtest mine 1"),
        Command("pay", "--wallet other payer pay --total 1000 -o update.psbt"),
        Command("accept", "--wallet payee payee accept update.psbt"),
        Command("settle", "--wallet other payer settle -o settlement.psbt"),
        Command("close", "--wallet payee payee settle settlement.psbt"),
        Command("confirm", "regtest mine 1"),
    ),
    first="plan",
    ends=(("other", "closed", 1000), ("payee", "closed", 1000)),
    sent=(("payer", 1),),
)

RESTORED = Story(
    "restored",
    (
        *READY,
        Command(
            "restore",
            "--wallet again init --restore",
            stdin="{init-payer.words}",
            again=("--wallet again init --restore", "--wallet again scan"),
        ),
        Command("rescan", "--wallet again scan"),
        Command("sent", "--wallet again send {address.address} 1000", once=True),
        Command("resend", "--wallet again send --resend {sent.txid}"),
    ),
    first="restore",
    ends=(),
    sent=(("again", 1),),
)

SYNCED = Story(
    "synced",
    (
        *PAID,
        Command("export", "--wallet payee payee export-latest -o latest.psbt"),
        Command("sync", "--wallet payer payer sync latest.psbt"),
        Command("settle", "--wallet payer payer settle -o settlement.psbt"),
        Command("close", "--wallet payee payee settle settlement.psbt"),
        Command("confirm", "regtest mine 1"),
    ),
    first="export",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

COPIED = Story(
    "copied",
    (
        *PAID,
        Command("backup", "--wallet payer backup -o payer.backup"),
        Command("restore-copy", "--wallet copy restore payer.backup", again=(
            "--wallet copy restore payer.backup", "--wallet copy list",
        )),
        Command("nothing-newer", "--wallet copy payer sync --nothing-newer", again=(
            "--wallet copy payer sync --nothing-newer", "--wallet copy list",
        )),
        Command("fsck", "--wallet copy fsck --repair"),
        Command("settle", "--wallet copy payer settle -o settlement.psbt"),
        Command("close", "--wallet payee payee settle settlement.psbt"),
        Command("confirm", "regtest mine 1"),
    ),
    first="backup",
    ends=(("copy", "closed", 1000), ("payee", "closed", 1000)),
)  # fmt: skip

STREAMED = Story(
    "streamed",
    (
        *PAID,
        Command(
            "pay-stream",
            "--wallet payer payer pay --stream --totals",
            stdin="1500\n1500\n2500\n",
            again=("--wallet payer payer pay --stream --totals", "--wallet payer payer pay --last"),
        ),
        Command("pay-last", "--wallet payer payer pay --last"),
        Command("accept-stream", "--wallet payee payee accept --stream", stdin="{pay-last.hex}\n"),
        Command("settle", "--wallet payer payer settle --total 3000 -o settlement.psbt"),
        Command("keep-stream", "--wallet payee payee accept --stream", stdin="{settle.hex}\n"),
        Command("close-held", "--wallet payee payee settle"),
        Command("confirm", "regtest mine 1"),
    ),
    first="pay-stream",
    ends=(("payer", "closed", 3000), ("payee", "closed", 3000)),
)

SEALED = Story(
    "sealed",
    (
        *READY,
        Command("set", "--wallet payer passphrase set", again=(
            "--wallet payer passphrase set", "--wallet payer list",
        )),
        Command("change", "--wallet payer passphrase change"),
        Command("address-sealed", "--wallet payer address"),
        Command("offer-sealed", f"--wallet payer payee offer {TERMS}"),
        Command("remove", "--wallet payer passphrase remove", again=(
            "--wallet payer passphrase remove", "--wallet payer list",
        )),
    ),
    first="set",
    ends=(),
)  # fmt: skip

AT_ONCE_OFFERED = (
    *READY,
    Command(
        "offer",
        "--wallet payee payee offer --scheme taproot --settle-window 6 --min-refund-delay 25 --max-refund-delay 90 "
        "--fee-rate 2 --min-confirmations 1 -o offer.toml",
    ),
)

AT_ONCE_PAID = (
    *AT_ONCE_OFFERED,
    Command("open", "--wallet payer payer open offer.toml 100000 --refund-out refund.hex -o funding.hex"),
    Command("bury", "regtest mine 1"),
    Command("pay", "--wallet payer payer pay --total 1000 -o update.psbt"),
    Command("accept", "--wallet payee payee accept update.psbt"),
)

AT_ONCE = Story(
    "at once",
    (
        *AT_ONCE_PAID,
        Command("pay-more", "--wallet payer payer pay --total 2500 -o update.psbt"),
        Command("accept-more", "--wallet payee payee accept update.psbt"),
        Command("settle", "--wallet payer payer settle --total 3000 -o settlement.psbt"),
        Command("close", "--wallet payee payee settle settlement.psbt -o closing.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="open",
    ends=(("payer", "closed", 3000), ("payee", "closed", 3000)),
)

AT_ONCE_CLOSED = Story(
    "at once, closed by its first payment",
    (
        *AT_ONCE_PAID[:-1],
        Command("close-first", "--wallet payee payee settle update.psbt -o closing.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="close-first",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

RECOVERED = Story(
    "recovered",
    (
        *AT_ONCE_OFFERED,
        Command("init-lost", "--wallet lost init --show-words"),
        Command("address-lost", "--wallet lost address"),
        Command("give", "regtest faucet {address-lost.address} 300000"),
        Command("ripen", "regtest mine 1"),
        Command("open-lost", "--wallet lost payer open offer.toml 100000"),
        Command("bury", "regtest mine 1"),
        Command(
            "restore-words",
            "--wallet again init --restore",
            stdin="{init-lost.words}",
            again=("--wallet again init --restore", "--wallet again scan"),
        ),
        Command("recover", "--wallet again payer recover offer.toml"),
        Command("wait", "regtest mine 90"),
        Command("refund", "--wallet again payer refund -o sent.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="recover",
    ends=(("again", "refunded", 0),),
)

AWAITING = Story(
    "awaiting",
    (*AT_ONCE_OFFERED, Command("await", "--wallet payer payer open offer.toml 100000 --external")),
    first="await",
    ends=(),
)

AWAITED = Story(
    "awaited",
    (
        *AWAITING.commands,
        Command("by-stranger", "regtest faucet {await.address} {await.amount_sat}"),
        Command("bury", "regtest mine 1"),
        Command("arrive", "--wallet payer payer open offer.toml --external --refund-out refund.hex"),
        Command("pay", "--wallet payer payer pay --total 1000 -o update.psbt"),
        Command("accept", "--wallet payee payee accept update.psbt"),
        Command("close", "--wallet payee payee settle"),
        Command("confirm", "regtest mine 1"),
    ),
    first="arrive",
    ends=(("payer", "closed", 1000), ("payee", "closed", 1000)),
)

GIVEN_UP = Story(
    "awaited and given up",
    (
        *AWAITING.commands,
        Command("give-up-address", "--wallet payer payer abandon --channel {await.offer_id}"),
    ),
    first="give-up-address",
    ends=(),
)

AWAITED_IN_VAIN = Story(
    "awaited in vain",
    (
        *GIVEN_UP.commands,
        Command("by-stranger", "regtest faucet {await.address} {await.amount_sat}"),
        Command("watch-address", "--wallet payer watch --once"),
        Command("wait", "regtest mine 90"),
        Command("watch-refund", "--wallet payer watch --once"),
        Command("confirm", "regtest mine 1"),
    ),
    first="watch-address",
    ends=(("payer", "refunded", 0),),
)

LISTED = Story(
    "listed",
    (
        *AWAITING.commands,
        Command("by-stranger", "regtest faucet {await.address} {await.amount_sat}"),
        Command("list-awaited", "--wallet payer list"),
        Command("wait", "regtest mine 90"),
        Command("refund", "--wallet payer payer refund -o sent.hex"),
        Command("confirm", "regtest mine 1"),
    ),
    first="list-awaited",
    ends=(("payer", "refunded", 0),),
)

STORIES = (
    *(WHOLE, BY_AMOUNT, CLAIM, WATCHED, REFUND, WATCHED_REFUND, ABANDONED, EXTERNAL, RESTORED, SYNCED),
    *(COPIED, SEALED, STREAMED, RECOVERED, AWAITING, AWAITED, GIVEN_UP, AWAITED_IN_VAIN, LISTED),
)

WRITE_NOTHING = {
    *(
        "balance",
        "demo",
        "guide",
        "history",
        "inspect",
        "list",
        "plan",
        "regtest status",
        "payer spending",
        "show",
        "verify",
        "wait",
    ),
}
"""Commands that only look; the demo's play money goes with its process."""

SHORT_FORMS = {"pay", "refund", "settle"}
"""Commands of one of the two groups under another name."""

ELSEWHERE = {"payee sell", "payer buy", "payee serve", "payer fetch", "engine install"}
"""What writes nothing of a wallet: pip installs the engine (``tests/cli/test_engine.py``). And two programs that go on
for long and wait for each other: ``tests/market`` breaks them off, at each step of a sale (``test_crash_points``) and
as processes at any moment (``test_killed_processes``); a service and its client in ``test_web_broken_off``."""
