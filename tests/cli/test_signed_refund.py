"""``payer refund FILE`` with the payee's signed refund and seed words: what it signs, and what it never signs."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from support.other_libraries import LIBRARIES, derived_path, payee_key_of
from support.protocol import witness_script
from support.transcript import Shell

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
REFUND_AT = 417
TIP = 112


@pytest.fixture
def lost(opened: Shell) -> Shell:
    """A channel whose payer has its seed words and ``signed.psbt`` left, and a wallet made of the words."""
    return only_words(opened)


def only_words(shell: Shell, options: str = "") -> Shell:
    words = Wallet.open(shell.folder / "buyer").keys.seed_words()
    shutil.rmtree(shell.folder / "buyer")
    shell.ok(f"{BUYER} init --restore {options}", stdin=words.encode())
    return shell


def forged(
    shell: Shell,
    *,
    value: int | None = None,
    address: str | None = None,
    change: Callable[[Transaction], Transaction] = lambda refund: refund,
    kind: int = 1,
) -> None:
    """What a payee that has its key can make of the refund, well signed, in ``forged.psbt``."""
    psbt = Psbt.from_bytes(bytes.fromhex(shell.text("signed.psbt")))
    [output] = psbt.tx.outputs
    payout = TxOut(
        output.value if value is None else Amount(value),
        output.script_pubkey if address is None else address_to_script(address, REGTEST),
    )
    refund = change(Transaction(psbt.tx.version, psbt.tx.inputs, (payout,), psbt.tx.lock_time))
    wallet = Wallet.open(shell.folder / "seller")
    [record] = wallet.channels.readable()
    key, terms = wallet.keys.key_of(record), record.terms
    digest = segwit_v0_sighash(refund, 0, witness_script(terms), terms.funding_value, kind)
    signature = key._private_key.sign(digest) + bytes([kind])
    made = Psbt.create(refund).with_input_fields(
        0,
        witness_utxo=terms.funding_txout,
        witness_script=witness_script(terms),
        sighash_type=kind,
        partial_sigs={key.public_key.sec: signature},
    )
    (shell.folder / "forged.psbt").write_text(made.to_hex() + "\n")


def refused(shell: Shell, file: str, code: int, slug: str, options: str = "") -> dict[str, object]:
    """At a time at which a good one would go out; nothing has left."""
    error = shell.fails(f"{BUYER} payer refund {file} {options}", code, slug)
    assert shell.json("mpchan regtest status")["mempool"] == []
    return error


def test_the_story(lost: Shell) -> None:
    lost.play(
        f"""
        $ mpchan --wallet buyer payer refund signed.psbt
        2> mpchan: error: the refund is locked until block {REFUND_AT}, the chain stands at {TIP}
        2> mpchan: hint: {REFUND_AT - TIP} blocks to go
        ? 6
        $ mpchan -q regtest mine {REFUND_AT - TIP}
        $ mpchan --wallet buyer payer refund signed.psbt -o refund.hex
        2> refund <txid:refund> of channel <channel> is broadcast; it is done once it is confirmed
        + refund.hex
        $ mpchan -q regtest mine 1
        """
    )
    assert lost.json(f"{SELLER} show")["status"] == "refunded"
    # the coin on an address that the search by the gap limit would not have come to is seen as well
    [output] = lost.json("mpchan inspect refund.hex")["outputs"]
    spendable = lost.json(f"{BUYER} balance")["confirmed_sat"]
    assert spendable == 100_000_000 - 306 - 100_338 + output["value_sat"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_library_does_without_mpchan(opened: Shell, library: str) -> None:
    """From the words, the file and BIP-0032 alone, to the very refund that this wallet has stored."""
    opened.ok(f"{BUYER} -q payer fund signed.psbt --refund-out refund.hex -o again.hex")
    words = Wallet.open(opened.folder / "buyer").keys.seed_words()
    signed = bytes.fromhex(opened.text("signed.psbt"))
    made = LIBRARIES[library](words, derived_path(payee_key_of(signed)), signed)
    assert made == opened.text("refund.hex").strip()


def test_too_early_changes_nothing(lost: Shell) -> None:
    lost.ok(f"{BUYER} balance")
    refused(lost, "signed.psbt", 6, "refund-locked")


def test_on_the_users_word_alone(opened: Shell) -> None:
    """Nobody is asked: what a person broadcasts elsewhere is given out, complete."""
    only_words(opened, "--chain none")
    refused(opened, f"signed.psbt --tip {REFUND_AT - 1}", 6, "refund-locked")
    result = opened.json(f"{BUYER} payer refund signed.psbt --tip {REFUND_AT}")
    assert result["broadcast"] is False
    refund = Transaction.from_hex(result["hex"])
    assert len(refund.inputs[0].witness) == 4


def test_words_of_somebody_else(opened: Shell) -> None:
    opened.ok("mpchan --wallet stranger init")
    error = opened.fails("mpchan --wallet stranger payer refund signed.psbt", 4, "foreign-payout")
    payee = str(error["hint"]).rpartition(" ")[2]
    options = f"--address {payee}"
    opened.fails(f"mpchan --wallet stranger payer refund signed.psbt {options}", 5, "foreign-refund")
    opened.fails(f"{SELLER} payer refund signed.psbt", 2, "wrong-role")


def test_a_wallet_that_knows_the_channel_takes_its_note(opened: Shell) -> None:
    opened.fails(f"{BUYER} payer refund signed.psbt", 6, "refund-locked")
    opened.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    done = opened.json(f"{BUYER} payer refund signed.psbt")
    assert opened.json(f"{BUYER} show")["status"] == "refunding"
    assert opened.json(f"{BUYER} payer refund") == done


def test_a_payee_that_pays_itself(lost: Shell) -> None:
    lost.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    theirs = lost.json(f"{SELLER} address")["address"]
    forged(lost, address=theirs)
    error = refused(lost, "forged.psbt", 4, "foreign-payout")
    assert theirs in str(error["message"])
    ours = lost.json(f"{BUYER} address")["address"]
    refused(lost, "forged.psbt", 4, "foreign-payout", f"--address {ours}")


def test_an_address_that_the_payer_has_named(wallets: Shell) -> None:
    """Its refund pays outside of the wallet; the words cannot know that address, the person does."""
    wallets.ok("mpchan --wallet outside init")
    address = wallets.json("mpchan --wallet outside address")["address"]
    wallets.ok(f"{SELLER} -q payee offer -o offer.toml")
    wallets.ok(f"{BUYER} -q payer open offer.toml 100000 --address {address} -o request.psbt")
    wallets.ok(f"{SELLER} -q payee sign-refund request.psbt -o signed.psbt")
    wallets.ok(f"{BUYER} -q payer fund signed.psbt -o funding.hex")
    wallets.ok("mpchan -q regtest mine 1")
    only_words(wallets)
    wallets.ok("mpchan -q regtest mine 305")
    hint = str(refused(wallets, "signed.psbt", 4, "foreign-payout")["hint"])
    assert hint.endswith(f": --address {address}")
    wallets.ok(f"{BUYER} -q payer refund signed.psbt --address {address} -o refund.hex")
    wallets.ok("mpchan -q regtest mine 1")
    assert wallets.json("mpchan --wallet outside balance")["confirmed_sat"] == 100_338 - 276


def test_all_of_it_to_the_miners(lost: Shell) -> None:
    """Well signed, to the payer's own address: a payee that mines would have the rest."""
    lost.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    forged(lost, value=1_000)
    refused(lost, "forged.psbt", 4, "fee-rate-high")
    forged(lost, value=100_339)  # more than there is
    refused(lost, "forged.psbt", 4, "fee-rate-high")


def other_sequence(refund: Transaction) -> Transaction:
    source = TxIn(refund.inputs[0].outpoint, 0xFFFF_FFFF)  # which switches the lock time off
    return Transaction(refund.version, (source,), refund.outputs, refund.lock_time)


def without_lock_time(refund: Transaction) -> Transaction:
    return Transaction(refund.version, refund.inputs, refund.outputs, 0)


def of_version_1(refund: Transaction) -> Transaction:
    return Transaction(1, refund.inputs, refund.outputs, refund.lock_time)


def twice_paid(refund: Transaction) -> Transaction:
    [output] = refund.outputs
    half = TxOut(Amount(output.value.sat // 2), output.script_pubkey)
    return Transaction(refund.version, refund.inputs, (half, half), refund.lock_time)


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (other_sequence, "transaction"),
        (without_lock_time, "lock-time-zero"),
        (of_version_1, "version"),
        (twice_paid, "output-count"),
    ],
)
def test_another_form(lost: Shell, change: Callable[[Transaction], Transaction], slug: str) -> None:
    lost.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    forged(lost, change=change)
    refused(lost, "forged.psbt", 4, slug)


@pytest.mark.parametrize("kind", [2, 3, 0x81])
def test_a_signature_that_covers_less(lost: Shell, kind: int) -> None:
    lost.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    forged(lost, kind=kind)
    refused(lost, "forged.psbt", 4, "sighash-type")


def test_messages_that_are_something_else(paid: Shell) -> None:
    paid.ok(f"{BUYER} -q payer settle --total 1000 -o settlement.psbt")
    only_words(paid)
    paid.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    refused(paid, "request.psbt", 4, "missing-signature")
    refused(paid, "update.psbt", 4, "output-count")
    refused(paid, "settlement.psbt", 4, "lock-time-zero")


def test_an_altered_byte(lost: Shell) -> None:
    """Each of the transaction's and of the signature's, so that nobody but the payee chooses what is signed."""
    lost.ok(f"mpchan -q regtest mine {REFUND_AT - TIP}")
    psbt = Psbt.from_bytes(bytes.fromhex(lost.text("signed.psbt")))
    [(key, signature)] = psbt.inputs[0].partial_sigs.items()
    [output] = psbt.tx.outputs
    other = Transaction(
        psbt.tx.version,
        psbt.tx.inputs,
        (TxOut(output.value - Amount(1), output.script_pubkey),),
        psbt.tx.lock_time,
    )
    made = Psbt.create(other).with_input_fields(
        0,
        witness_utxo=psbt.inputs[0].witness_utxo,
        witness_script=psbt.inputs[0].witness_script,
        sighash_type=1,
        partial_sigs={key: signature},
    )
    (lost.folder / "other.psbt").write_text(made.to_hex())
    refused(lost, "other.psbt", 4, "signature")
    short = psbt.with_input_fields(0, partial_sigs={key: signature[:-2] + b"\x01"})
    (lost.folder / "short.psbt").write_text(short.to_hex())
    refused(lost, "short.psbt", 4, "signature-der")


def test_the_payee_was_first(paid: Shell) -> None:
    paid.ok(f"{BUYER} -q payer settle --total 1000 -o settlement.psbt")
    paid.ok(f"{SELLER} -q payee settle settlement.psbt -o settlement.hex")
    only_words(paid)
    paid.ok("mpchan -q regtest mine 1")
    refused(paid, "signed.psbt", 5, "channel-closed")
