#!/bin/sh
# The selling side of a complete sale: puts a file on sale in a folder that both see, and serves one buyer.
# Start it and sale-payer.sh, in any order. Stopped at any moment, it goes on when it is started again.
#
#   WALLET    wallet directory (made when it is missing)      MAILBOX  the folder that both see
#   FILE      what is sold                                    PIECES   in how many pieces
#   PRICE     of one piece, in satoshi                        BUYERS   end once so many have settled
#   SCHEME    construction of the channels: `mpchan guide constructions` tells when to use which
#   MINE      command that gets a block on a private chain; MINE=: elsewhere
set -eu

WALLET=${WALLET:-payee-wallet}
MAILBOX=${MAILBOX:-mailbox}
FILE=${FILE:-file}
PIECES=${PIECES:-100}
PRICE=${PRICE:-1000}
BUYERS=${BUYERS:-1}
SCHEME=${SCHEME:-decrementing}
MINE=${MINE:-mpchan -q regtest mine 1}

payee() { mpchan --wallet "$WALLET" "$@"; }

[ -e "$WALLET/wallet.toml" ] || payee -q init
mkdir -p "$MAILBOX"

# What a buyer could lose, and how long money can be locked, before anything is offered.
payee plan "$FILE" --price-per-piece "$PRICE" --pieces "$PIECES" --scheme "$SCHEME"

payee payee sell "$FILE" --price-per-piece "$PRICE" --pieces "$PIECES" --scheme "$SCHEME" \
    --mailbox "$MAILBOX" --buyers "$BUYERS"

# The settlements are out. Until they are in a block, `mpchan watch` looks after them.
$MINE
payee list
payee balance
