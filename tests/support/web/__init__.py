"""The two sides of HTTP, for tests.

raw     a payer on the wire: credentials made with the payer's commands, one by one
served  a server with a certificate of its own, in a thread of its own
"""
