"""The wallet directory: configuration, keys, offers and channels on disk.

storage   durable writes, locks, reading with limits
store     checked JSON files, one table in each
config    wallet.toml
seed_file the seed, its passphrase, and how many keys are in use
keys      the keys that the seed gives
keys_file the two forms of keys.toml
sealing   bytes encrypted with a passphrase
records   a channel's state as JSON
journal   a channel's history, line by line
channel_folder which channels there are
channel_files  the state file and the journal of each channel, and how one follows from the other
coins     which coins fund a channel
wallet    the directory as a whole

Whatever reads raises ``StorageError``: ``file-missing``, ``read-failed``, or the slug of a damaged file, which stays as
it is. Whatever writes is durable on return, or raises ``write-failed``, and nothing has changed, or ``write-unsure``:
it stands, but a crash of the whole machine could still undo it.
"""
