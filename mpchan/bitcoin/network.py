"""The four Bitcoin networks, as values that are passed along.

The constants are those of Bitcoin Core's ``chainparams.cpp``. Test networks share their address and
extended-key prefixes, so an address alone cannot tell testnet4 from signet.
"""

from __future__ import annotations

from mpchan.errors import ParseError
from mpchan.values import frozen


@frozen
class Network:
    """What differs from one network to another.

    Attributes:
        name: as in wallet.toml and in offers.
        bech32_hrp: human-readable part of a segwit address (BIP-0173).
        p2pkh_prefix: version byte of a base58check key-hash address.
        p2sh_prefix: version byte of a base58check script-hash address.
        xprv_version: 4 bytes before a serialized extended private key (BIP-0032).
        xpub_version: 4 bytes before a serialized extended public key (BIP-0032).
        coin_type: hardened index of the second path level (BIP-0044, SLIP-0044).
        genesis_hash: hash of block 0, display hex.
    """

    name: str
    bech32_hrp: str
    p2pkh_prefix: int
    p2sh_prefix: int
    xprv_version: bytes
    xpub_version: bytes
    coin_type: int
    genesis_hash: str

    def __str__(self) -> str:
        return self.name


def _test_network(name: str, bech32_hrp: str, genesis_hash: str) -> Network:
    return Network(
        name=name,
        bech32_hrp=bech32_hrp,
        p2pkh_prefix=0x6F,
        p2sh_prefix=0xC4,
        xprv_version=bytes.fromhex("04358394"),
        xpub_version=bytes.fromhex("043587cf"),
        coin_type=1,
        genesis_hash=genesis_hash,
    )


MAINNET = Network(
    name="mainnet",
    bech32_hrp="bc",
    p2pkh_prefix=0x00,
    p2sh_prefix=0x05,
    xprv_version=bytes.fromhex("0488ade4"),
    xpub_version=bytes.fromhex("0488b21e"),
    coin_type=0,
    genesis_hash="000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
)
TESTNET4 = _test_network("testnet4", "tb", "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043")
SIGNET = _test_network("signet", "tb", "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6")
REGTEST = _test_network("regtest", "bcrt", "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206")

NETWORKS: dict[str, Network] = {net.name: net for net in (MAINNET, TESTNET4, SIGNET, REGTEST)}
"""Every known network by its name."""


def network_from_name(name: str) -> Network:
    """Look up a network by the name that wallet.toml and offers use.

    Raises:
        ParseError: ``unknown-network``.
    """
    network = NETWORKS.get(name) if isinstance(name, str) else None
    if network is None:
        raise ParseError(
            "unknown-network",
            f"unknown network: {name!r:.80}",
            hint="known networks: " + ", ".join(NETWORKS),
        )
    return network
