"""The protocol of the payment channel, pure: no files, no clock, no network, no randomness.

Time and chain facts are arguments; a party is a function of (state, event) to (state, message).

    offer         what the payee proposes, once for one channel; ``offer_tables`` and ``canonical`` write and read it,
                  ``offer_rules`` say what its version and expiry mean
    terms         what both agreed on, and the sums that follow; ``outputs``, what the transactions pay
    construction  which transactions the terms allow (one module per construction)
    opening       what a payer checks before it opens a channel, and when its refund will be final
    foreign_funding  what a funding must be that another wallet makes
    rules         named rules and how they are enforced; one list for checking and explaining
    taking        what a payee demands of a payment and of the funding, whatever it holds already
    messages      PSBTs between the parties: made here, and read here by rebuilding; ``carried``, what goes along
    signing       the channel key: signs by purpose, never a digest; ``key_paths``, where it comes from
    facts         what the chain says about one channel
    payer, payee  the two parties; ``limits``, what they agree to at most
    watch         what each does on its own, when the chain moves
    syncing, resigning  what an older copy takes back, and a bad signature made again
"""
