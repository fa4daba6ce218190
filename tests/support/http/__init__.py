"""The two sides of HTTP, for tests.

raw   a payer on the wire: credentials made with the payer's commands, one by one
"""
