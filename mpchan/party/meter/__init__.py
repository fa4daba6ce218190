"""``Payer`` and ``Payee``: one open channel in memory, for many payments a second."""
