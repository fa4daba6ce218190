"""Selling and buying a file, piece by piece: what stands between the channel of two parties and the file."""
