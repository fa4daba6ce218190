"""What a watcher does about a channel, from the chain and the channel alone: decisions, and bids for a block."""
