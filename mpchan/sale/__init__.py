"""What is sold under an offer: the manifest of a file, and the plan of a sale. Pure, as the protocol is."""
