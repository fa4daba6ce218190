#!/bin/sh
# The buying side of a complete sale: buys the file that sale-payee.sh has put on sale, piece by piece.
# Stopped at any moment, it goes on when it is started again, and pays for nothing twice.
#
#   WALLET    wallet directory (made when it is missing)      MAILBOX  the folder that both see
#   OUTPUT    where the file goes                             COINS    to ask the faucet for, in satoshi
#   FAUCET    command that sends coins to an address on a private chain; FAUCET=: where the wallet has coins
#   MINE      command that gets a block on a private chain; MINE=: elsewhere
#   PATIENCE  seconds to wait for the seller
set -eu

WALLET=${WALLET:-payer-wallet}
MAILBOX=${MAILBOX:-mailbox}
OUTPUT=${OUTPUT:-bought}
COINS=${COINS:-1000000}
FAUCET=${FAUCET:-mpchan -q regtest faucet}
MINE=${MINE:-mpchan -q regtest mine 1}
PATIENCE=${PATIENCE:-60}

payer() { mpchan --wallet "$WALLET" "$@"; }

if [ ! -e "$WALLET/wallet.toml" ]; then
    payer -q init
    $FAUCET "$(payer address)" "$COINS"
    $MINE
fi

tries=0
until [ -e "$MAILBOX/offer.toml" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt $((PATIENCE * 10)) ]; then
        echo "payer: no offer after $PATIENCE s" >&2
        exit 1
    fi
    sleep 0.1
done

payer payer buy "$MAILBOX/offer.toml" --output "$OUTPUT" --patience "$PATIENCE" --yes &
buyer=$!

# On a private chain somebody has to mine while the funding waits for its block; elsewhere blocks come by themselves.
while kill -0 "$buyer" 2>/dev/null; do
    if payer --json list | grep -q '"status": "funding"'; then $MINE; fi
    sleep 0.2
done

wait "$buyer"
payer list
payer balance
