"""How requests and answers travel between a buyer and a seller; nothing here knows what they are about.

base       the two ends of a way: ``Line`` for the buyer, ``Inbox`` for the seller, and what passes between them
mailbox    a folder that both can see
requests   what buyers have laid there, found at a price that junk hardly raises
answers    what the seller has laid there, and for how long it stays
folder     its files: names, modes, reading what others wrote
tcp        one connection, with TLS
places     who gets a place among the connections, and who leaves for it
serving    one connection on the seller's side
frames     what is said on it, byte by byte
tls        TLS under it, and how the buyer knows the seller
"""
