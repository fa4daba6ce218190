"""The protocol of the payment channel, pure: no files, no clock, no network, no randomness.

Time and chain facts are arguments; a party is a function of (state, event) to (state, message).

    offer         what the payee proposes, once for one channel
    terms         what both agreed on, and the sums that follow
    construction  which transactions the terms allow (one module per construction)
    rules         named rules and how they are enforced; one list for checking and explaining
    messages      PSBTs between the parties: made here, and read here by rebuilding
    signing       the channel key: signs by purpose, never a digest
    facts         what the chain says about one channel
    payer, payee  the two parties
"""
