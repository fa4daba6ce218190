#!/bin/sh
# The buying side of one sale, as a user would script it: open a channel, fund it, pay piece by piece, settle.
# It exchanges files with payee.sh through a folder that both see; start both, in any order.
#
#   WALLET    wallet directory (made when it is missing)      EXCHANGE  the folder that both see
#   PIECES    how many pieces are bought                      PRICE     of one piece, in satoshi
#   (the construction of the channel stands in the offer)
#   FAUCET    command that sends coins to an address on a private chain; FAUCET=: where the wallet has coins
#   MINE      command that gets a block on a private chain; MINE=: elsewhere
#   PATIENCE  seconds to wait for the other side
set -eu

WALLET=${WALLET:-payer-wallet}
EXCHANGE=${EXCHANGE:-exchange}
PIECES=${PIECES:-100}
PRICE=${PRICE:-1000}
FAUCET=${FAUCET:-mpchan -q regtest faucet}
MINE=${MINE:-mpchan -q regtest mine 1}
PATIENCE=${PATIENCE:-60}

payer() { mpchan -q --wallet "$WALLET" "$@"; }

await() {
    tries=0
    until [ -e "$EXCHANGE/$1" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt $((PATIENCE * 10)) ]; then
            echo "payer: no $1 after $PATIENCE s; \`mpchan payer refund\` gets the money back at its time" >&2
            exit 1
        fi
        sleep 0.1
    done
}

mkdir -p "$EXCHANGE"
if [ ! -e "$WALLET/wallet.toml" ]; then
    payer init
    $FAUCET "$(mpchan --wallet "$WALLET" address)" $((PIECES * PRICE + 100000))
    $MINE
fi

await offer.toml
if grep -q '^scheme = "taproot"' "$EXCHANGE/offer.toml"; then
    # One command: the refund needs nobody else, so it is signed and stored, and the money moves.
    payer open "$EXCHANGE/offer.toml" $((PIECES * PRICE)) \
        --yes --refund-out "$WALLET/refund.hex" -o "$EXCHANGE/funding.hex"
else
    payer open "$EXCHANGE/offer.toml" $((PIECES * PRICE)) -o "$EXCHANGE/request.psbt"

    # The money moves only here, after the signed refund is stored. Keep refund.hex away from this machine.
    await signed-refund.psbt
    payer payer fund "$EXCHANGE/signed-refund.psbt" --yes --refund-out "$WALLET/refund.hex" -o "$EXCHANGE/funding.hex"
fi
$MINE
payer wait --for confirmed --timeout "$PATIENCE"

# --total makes each step safe to repeat: what is paid already is not paid again.
piece=1
while [ "$piece" -lt "$PIECES" ]; do
    payer pay --total $((piece * PRICE)) -o "$EXCHANGE/update-$piece.psbt"
    await "piece-$piece"
    piece=$((piece + 1))
done

payer payer settle --total $((PIECES * PRICE)) -o "$EXCHANGE/settlement.psbt"
await "piece-$PIECES"
await settlement.hex
payer wait --for closed --timeout "$PATIENCE"
mpchan --wallet "$WALLET" list
mpchan --wallet "$WALLET" balance
