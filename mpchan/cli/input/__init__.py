"""What people type: numbers, sizes, the terms of an offer, answers to a question."""
