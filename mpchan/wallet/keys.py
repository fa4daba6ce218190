"""The wallet's keys, derived from its seed: coins' on the BIP-0084 paths, channels' where ``key_paths`` says."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpchan.bitcoin.bip84 import account_path, coin_steps
from mpchan.bitcoin.hd import ExtendedKey, ExtendedPublicKey
from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel.key_paths import counted_path, payee_path, payer_path, token_path
from mpchan.channel.offer import Offer
from mpchan.channel.signing import ChannelKey
from mpchan.errors import StorageError
from mpchan.values import replace
from mpchan.wallet.seed_file import SeedFile

if TYPE_CHECKING:
    from mpchan.wallet.awaited import AwaitedFunding
    from mpchan.wallet.offers import OwnOffer
    from mpchan.wallet.plans import Plan
    from mpchan.wallet.records import Record


MOST_CHANNEL_KEYS = 1_000
"""So many channel keys are kept at hand; the oldest is derived again when it is needed."""


class Keys(SeedFile):
    """The keys of one wallet."""

    def __init__(self, *file: Any) -> None:
        super().__init__(*file)
        self._branches: dict[str, ExtendedKey] = {}
        self._public_branches: dict[str, ExtendedPublicKey] = {}
        self._scripts: dict[bytes, tuple[str, int]] = {}
        self._scanned = {"receive": 0, "change": 0}
        self._channel_keys: dict[tuple[int, ...], ChannelKey] = {}

    # of channels -----------------------------------------------------------------------------------

    def channel_key(self, index: int) -> ChannelKey:
        """The channel key number ``index`` of older channels."""
        return self._channel_key(counted_path(self._network, index))

    def payee_key(self, generation: bytes, name: bytes) -> ChannelKey:
        """The key of an offer of this wallet; arguments as those of ``key_paths.payee_path``."""
        return self._channel_key(payee_path(self._network, generation, name))

    def payer_key(self, payee_key: PublicKey) -> ChannelKey:
        """The key with which this wallet pays in a channel with this key of the payee."""
        return self._channel_key(payer_path(self._network, payee_key))

    def key_of(self, record: Record) -> ChannelKey:
        """The key that signs for this wallet in a channel: the one that stands in the channel's script.

        Raises:
            StorageError: ``wrong-keys``, keys.toml holds those of another wallet.
        """
        index, offer = record.key_index, record.terms.offer
        if index is not None:
            key = self.channel_key(index)
        else:
            key = self.payer_key(offer.payee_key) if record.role == "payer" else self.offer_key(offer)
        return self._fitting(key, record.own_key, f"channel {record.terms.channel_id}")

    def key_of_offer(self, own: OwnOffer) -> ChannelKey:
        """The key of an offer of this wallet; errors as ``key_of``."""
        index, offer = own.key_index, own.offer
        key = self.offer_key(offer) if index is None else self.channel_key(index)
        return self._fitting(key, offer.payee_key, f"offer {offer.offer_id}")

    def key_of_plan(self, plan: Plan) -> ChannelKey:
        """The key of a plan of this wallet; errors as ``key_of``."""
        index, payee_key = plan.key_index, plan.offer.payee_key
        key = self.payer_key(payee_key) if index is None else self.channel_key(index)
        return self._fitting(key, plan.payer_key, f"plan {plan.name}")

    def key_of_awaited(self, awaited: AwaitedFunding) -> ChannelKey:
        """The key of an opening that any wallet funds; errors as ``key_of``."""
        key = self.payer_key(awaited.offer.payee_key)
        return self._fitting(key, awaited.payer_key, f"the opening under offer {awaited.offer.offer_id}")

    def _fitting(self, key: ChannelKey, stated: PublicKey, what: str) -> ChannelKey:
        if key.public_key != stated:
            raise StorageError(
                "wrong-keys",
                f"{self._path}: these are not the keys of {what}, its key would be {key.public_key}, not {stated}",
                hint="put this wallet's own keys.toml back; nothing was signed",
            )
        return key

    def offer_key(self, offer: Offer) -> ChannelKey:
        """The key that an offer of version 2 has, if this wallet made it."""
        return self.payee_key(bytes.fromhex(offer.generation), offer.key_name)

    def own_offer(self, draft: Offer) -> Offer:
        """An offer of version 2 with this wallet's key and token, whatever stands in their places."""
        keyed = replace(draft, payee_key=self.offer_key(draft).public_key)
        return replace(keyed, token=self.offer_token(keyed))

    def offer_token(self, offer: Offer) -> str:
        """The token that this wallet gives an offer of version 2, whatever stands there: 64 lower-case hex digits.

        HMAC-SHA256 over ``Offer.token_text``; its key are the 32 bytes of the private key at
        ``key_paths.token_path``, and behind them the 8 of the offer's generation.
        """
        secret = self._root().derive(token_path(self._network)).private_key.to_bytes()
        return hmac.digest(secret + bytes.fromhex(offer.generation), offer.token_text(), "sha256").hex()

    def challenge_secret(self) -> bytes:
        """What this wallet knows its challenges by (RFC 9110 authentication, ``mpchan.http``): 32 bytes.

        HMAC-SHA256 over ``mpchan/challenge`` by the private key at ``key_paths.token_path``; no offer's token is made
        over that text, nor by that key alone.
        """
        secret = self._root().derive(token_path(self._network)).private_key.to_bytes()
        return hmac.digest(secret, b"mpchan/challenge", "sha256")

    def _channel_key(self, path: tuple[int, ...]) -> ChannelKey:
        if path not in self._channel_keys:
            if len(self._channel_keys) >= MOST_CHANNEL_KEYS:  # strangers' wishes make any number of them
                del self._channel_keys[next(iter(self._channel_keys))]
            self._channel_keys[path] = ChannelKey(self._root().derive(path).private_key)
        return self._channel_keys[path]

    # of coins --------------------------------------------------------------------------------------

    def script(self, kind: str, index: int) -> bytes:
        """The P2WPKH scriptPubKey of a ``receive`` or ``change`` key; no secret is needed for it."""
        *branch, last = coin_steps(kind, index)
        if kind not in self._public_branches:
            self._public_branches[kind] = self._account().derive(branch)
        return key_to_p2wpkh_script(self._public_branches[kind].child(last).public_key.sec)

    def _coin_key(self, kind: str, index: int) -> PrivateKey:
        *branch, last = (*account_path(self._network), *coin_steps(kind, index))
        if kind not in self._branches:
            self._branches[kind] = self._root().derive(branch)
        return self._branches[kind].child(last).private_key

    def scripts(self) -> dict[bytes, tuple[str, int]]:
        """Every scriptPubKey handed out so far, with the kind and index of its key."""
        for kind, done in self._scanned.items():
            for index in range(done, self._next[kind]):
                self._scripts[self.script(kind, index)] = (kind, index)
            self._scanned[kind] = self._next[kind]
        return self._scripts

    def sign_coins(self, transaction: Transaction, spent: Sequence[TxOut]) -> Transaction:
        """Sign every input of a transaction that spends this wallet's own P2WPKH coins alone.

        Args:
            spent: the outputs that the inputs spend, in their order.

        Raises:
            StorageError: ``foreign-coin`` for an output that is not this wallet's.
        """
        scripts = self.scripts()
        signed = transaction
        for index, output in enumerate(spent):
            if output.script_pubkey not in scripts:
                raise StorageError(
                    "foreign-coin", f"input {index} spends no coin of the keys in {self._path}"
                )
            key = self._coin_key(*scripts[output.script_pubkey])
            code = p2wpkh_script_code(output.script_pubkey)
            digest = segwit_v0_sighash(transaction, index, code, output.value, SIGHASH_ALL)
            signature = key.sign_checked(digest) + bytes([SIGHASH_ALL])
            signed = signed.with_witness(index, (signature, key.public_key.sec))
        return signed
