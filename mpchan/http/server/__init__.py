"""The server's side of the "Payment" scheme: an ASGI middleware, and what it rests on.

prices      what a request costs; ``price_list``, prices from a file
asgi        what ASGI hands over
challenges  what a request is asked for, and whether an answer belongs to that
desk        what only the thread that owns the wallet does: opening, closing, fresh offers
cashier     that thread, and how requests reach it
answers     what is answered to a request that is not served
page        the same for a browser
kept        answers that are kept for requests that come again
exchange    one request, from its credential to its answer; ``serving``, the application at work on it
paid        the middleware
upstream    the web service behind ``payee serve``
"""
