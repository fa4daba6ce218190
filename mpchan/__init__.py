"""mpchan: one-directional micropayment channels on Bitcoin, for payer and payee."""

__version__ = "0.1.0"
