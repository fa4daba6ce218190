"""Bitcoin's formats, pure, and the arithmetic that they need; nothing here knows a channel.

tx, block, script, witness    transactions, blocks, scripts; whether an input's witness is right
spend                         whether what somebody shows could be mined at all
sighash, signature, schnorr   what is signed, and keys that sign: ECDSA and Schnorr; ``signers`` compute
taproot, tapscript, musig     trees of scripts, a channel's two leaves, one key for two
descriptor, address           scripts as people and wallets write them; ``bech32``, ``base58`` beneath
psbt                          transactions that lack signatures: ``psbt_map``, ``psbt_fields``, ``psbt_v2`` read them,
                              ``psbt_finalize`` completes them, ``message`` tells them from transactions
hd, bip84, seed_words         keys from a seed, their paths, and the seed as words
merkle                        that a transaction is in a block; a sold file's tree is in ``mpchan.sale.manifest``
network, serialize, uri, ripemd160    networks, the wire format's integers, payment requests, one hash
"""
