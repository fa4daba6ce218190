"""The payee's cash register: requests that are paid one by one out of a channel, whoever carries them.

asks      what is asked of it, and what it answers
keys      which requests were charged already, so that none is charged twice
channel   the requests of one channel that become durable together
register  all channels of a wallet
room      how much room strangers get who ask for refunds
"""
