"""The wallet directory: configuration, keys, offers and channels on disk.

storage   durable writes, locks, reading with limits
store     checked JSON files, one table in each: ``plans``, ``awaited``, ``purchases``, ``sent``
layout    the names of all files
config    wallet.toml
seed_file the seed, its passphrase, and how many keys are in use; ``keys_file``, the two forms of keys.toml
keys      the keys that the seed gives
sealing   bytes encrypted with a passphrase
offers    the wallet's own offers, and what each serves
openings  refunds that were signed for buyers, a line each; ``opening``, that line
records   a channel's state as JSON: ``payer_record``, ``payee_record``; ``account``, what was charged in it,
          and ``purpose``, what it was opened for
journal   a channel's history, line by line; ``batch``, lines of one append, ``past``, files that are full
channel_folder which channels there are; ``names``, by the beginnings of their ids
channel_files  the state file and the journal of each channel, and how one follows from the other
recovery  what those two say of each other, and how to mend them
spending  what is paid over HTTP without asking, and what was taken of today's budget
coins     which coins fund a channel; ``bumping``, a child that pays for its parent
backup    the whole wallet in one file
wallet    the directory as a whole

Whatever reads raises ``StorageError``: ``file-missing``, ``read-failed``, or the slug of a damaged file, which stays as
it is. Whatever writes is durable on return, or raises ``write-failed``, and nothing has changed, or ``write-unsure``:
it stands, but a crash of the whole machine could still undo it.
"""
