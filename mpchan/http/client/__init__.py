"""The client's side of the "Payment" scheme: one core without I/O, and thin sides for the libraries that carry it.

demands    what a 402 asks for, as far as this wallet can pay it
books      where the channels of one origin stand
errand     one request, as far as its payment goes
opening    how a first request opens a channel
purse      the thread that owns a payer's wallet; ``holder``, what that does: it chooses channels and signs
dialogue   one request, from its first sending to its last answer, whoever sends it
blocking   requests over urllib3
for_requests, for_httpx2   programs that use those
plug_in    credentials by challenge, for software that speaks the scheme by itself
"""
