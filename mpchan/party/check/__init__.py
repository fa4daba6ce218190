"""Whether something holds: the rules of both parties, ``verify``, ``fsck`` and ``inspect``."""
