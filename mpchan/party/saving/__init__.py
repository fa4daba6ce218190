"""``backup`` and ``restore``."""
