#!/bin/sh
# The selling side of one sale, as a user would script it: offer, sign the refund, deliver a piece for each payment,
# settle. It exchanges files with payer.sh through a folder that both see; start both, in any order.
#
#   WALLET    wallet directory (made when it is missing)      EXCHANGE  the folder that both see
#   PIECES    how many pieces are sold                        PRICE     of one piece, in satoshi
#   SCHEME    construction of the channel: `mpchan guide constructions` tells when to use which
#   MINE      command that gets a block on a private chain; MINE=: elsewhere
#   PATIENCE  seconds to wait for the other side
set -eu

WALLET=${WALLET:-payee-wallet}
EXCHANGE=${EXCHANGE:-exchange}
PIECES=${PIECES:-100}
PRICE=${PRICE:-1000}
SCHEME=${SCHEME:-decrementing}
MINE=${MINE:-mpchan -q regtest mine 1}
PATIENCE=${PATIENCE:-60}

payee() { mpchan -q --wallet "$WALLET" "$@"; }

# Files appear whole: `mpchan -o` writes them under another name first.
await() {
    tries=0
    until [ -e "$EXCHANGE/$1" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt $((PATIENCE * 10)) ]; then
            echo "payee: no $1 after $PATIENCE s" >&2
            exit 1
        fi
        sleep 0.1
    done
}

number() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p"; }

mkdir -p "$EXCHANGE"
[ -e "$WALLET/wallet.toml" ] || payee init

[ -e "$EXCHANGE/offer.toml" ] ||
    payee payee offer --scheme "$SCHEME" --memo "$PIECES pieces" -o "$EXCHANGE/offer.toml"

# With taproot nothing is asked of the payee: it hears of the channel from the first payment.
if ! grep -q '^scheme = "taproot"' "$EXCHANGE/offer.toml"; then
    await request.psbt
    payee payee sign-refund "$EXCHANGE/request.psbt" -o "$EXCHANGE/signed-refund.psbt"

    await funding.hex
    payee payee funding "$EXCHANGE/funding.hex"
    payee wait --for confirmed --timeout "$PATIENCE"
fi

# One piece for each price that is paid. What counts is the total, so a repeated file costs nobody anything.
delivered=0
piece=1
while [ "$piece" -lt "$PIECES" ]; do
    await "update-$piece.psbt"
    paid=$(payee --json payee accept "$EXCHANGE/update-$piece.psbt" | number paid_sat)
    while [ $(((delivered + 1) * PRICE)) -le "$paid" ]; do
        delivered=$((delivered + 1))
        echo "the content of piece $delivered" >"$EXCHANGE/.piece" && mv "$EXCHANGE/.piece" "$EXCHANGE/piece-$delivered"
    done
    piece=$((piece + 1))
done

# The last piece is paid by the settlement itself.
await settlement.psbt
payee payee settle "$EXCHANGE/settlement.psbt" -o "$EXCHANGE/settlement.hex"
echo "the content of piece $PIECES" >"$EXCHANGE/.piece" && mv "$EXCHANGE/.piece" "$EXCHANGE/piece-$PIECES"

$MINE
payee wait --for closed --timeout "$PATIENCE"
mpchan --wallet "$WALLET" list
mpchan --wallet "$WALLET" balance
