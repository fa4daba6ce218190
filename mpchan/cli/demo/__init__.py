"""``mpchan demo``: a channel from its opening to its end, with play money, and what happens to those who cheat."""
