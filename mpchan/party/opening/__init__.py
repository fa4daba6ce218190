"""The opening of a channel by both parties, from the request to the funding on the chain."""
