"""The constructions of a channel: which transactions its terms allow, and how its output is spent.

base          what a construction is, as the rest of the program sees it: ``Lock``, ``Schedule``, ``Meant``
registry      the constructions by the names that offers give them; a new one is a module, and a line here
decrementing  the default one: each update is final before the one that it replaces
two_of_two    its lock: P2WSH with a 2-of-2
taproot       the other one: an update is final at any time, and nothing is exchanged before the funding
two_leaves    its lock: P2TR with a leaf for both parties and one for the payer's refund
form          updates cut from one form, for whoever pays many times a second: what all constructions share;
              ``decrementing_form`` and ``taproot_form``, what is each one's own
refund_first  its opening: the refund is signed before the funding is; ``signed_refund``, that refund alone

Outside this folder nobody knows which construction a channel has: ``terms.schedule`` and ``terms.lock`` answer.
"""
