"""The web's way to be paid and to pay: status 402 and the "Payment" authentication scheme over a payment channel.

certificates  the own certificate, or one of an authority, and how an address names it
wire          what passes between client and server: values and their bytes, without I/O and without a wallet
listening     where requests come in: HTTP/1.1 over TLS, with bounds for strangers
server        an ASGI middleware that is paid by the request, and what it rests on
client        a core that pays for requests, whoever sends them, and thin sides for what does

Nothing here is imported by what does not speak HTTP, and its libraries (the extra ``http``) by nothing else.
"""
