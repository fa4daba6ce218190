"""The two sides of HTTP, for tests.

asking   a program that asks once, and is killed before a step of its own
buying   programs that ask a server with one payer's wallet, and what comes between them
house    a service behind the middleware, in this process, and who asks it
raw      a payer on the wire: credentials made with the payer's commands, one by one
served   a server with a certificate of its own, in a thread of its own
vectors  makes the vectors of the wire that the package brings; a program
"""
