"""What passes between a client and a server of the "Payment" scheme: values and their bytes.

fields      authentication parameters, as headers write them
encoding    base64url and JSON, read strictly
challenge   what a 402 asks for, and the name that it cannot be altered under
session     the ``request`` of a challenge: price, terms, what is sold, where the channel stands
credential  what the client answers: open, prepare, voucher, close
receipt     what a paid answer brings
problems    what is wrong, as problem+json

``vectors.json`` beside them is for other implementations: challenges, credentials of each action, receipts and problems
of both constructions from keys that everybody knows, and what no reader may take.
"""
