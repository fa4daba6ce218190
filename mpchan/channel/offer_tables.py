"""An offer as a plain table: what its TOML text, a channel's files and its canonical form hold.

Version 2 has, beside the terms of version 1, the generation of the payee's wallet, an expiry and a token by which the
payee knows its own offer again. A scheme's own terms stand in a table of its name, and ``[[ways]]`` says how the payee
can be reached:

    [[ways]]
    kind = "tcp"                 # what `mpchan payee sell --listen` speaks
    address = "HOST:PORT"
    certificate = "<SHA-256 of the TLS certificate, DER, hex>"

A way of an unknown kind is kept, and nobody takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpchan.bitcoin.network import Network, network_from_name
from mpchan.bitcoin.signature import PublicKey
from mpchan.channel.canonical import check_canonical
from mpchan.channel.construction.registry import own_terms_of
from mpchan.channel.offer import OFFER_VERSIONS, Offer, require_scheme, unknown_version
from mpchan.errors import ParseError
from mpchan.units import MAX_MONEY_SAT, Amount, FeeRate, checked_int

_MAX_SALE_DEPTH = 10
_MAX_WAYS = 16

_OWN = {
    "offer_id": ("offer_id", str),
}
_OWN_2 = {
    **_OWN,
    "generation": ("generation", str),
    "expires": ("expires", int),
    "token": ("token", str),
}
_TERMS: dict[str, tuple[str, Any]] = {
    "network": ("network", str),
    "scheme": ("scheme", str),
    "payee_pubkey": ("payee_key", str),
    "payee_address": ("payee_address", str),
    "min_capacity_sat": ("min_capacity", Amount),
    "max_capacity_sat": ("max_capacity", Amount),
    "fee_rate_sat_per_kvb": ("fee_rate", FeeRate),
    "lock_time_unit": ("lock_time_unit", str),
    "min_refund_delay": ("min_refund_delay", int),
    "max_refund_delay": ("max_refund_delay", int),
    "settle_window": ("settle_window", int),
    "min_increment_sat": ("min_increment", Amount),
    "min_confirmations": ("min_confirmations", int),
    "memo": ("memo", str),
}
_KEYS: dict[int, dict[str, tuple[str, Any]]] = {1: {**_OWN, **_TERMS}, 2: {**_OWN_2, **_TERMS}}
"""Keys by the offer's version: attribute and type, in the order of the text. Behind ``settle_window`` stand, in version
1, the scheme's own terms; from version 2 on they have a table of the scheme's name."""


def _own_names(scheme: str) -> tuple[str, ...]:
    return tuple(term.name for term in own_terms_of(scheme))


def offer_to_table(offer: Offer) -> dict[str, Any]:
    """The offer as the plain table that its TOML text holds."""
    flat: dict[str, Any] = {"version": offer.version}
    for key in _KEYS[offer.version]:
        flat[key] = _plain(offer, key)
        if key == "settle_window":
            flat.update(offer.own_terms)
    if offer.ways:
        flat["ways"] = [dict(way) for way in offer.ways]
    if offer.sale is not None:
        flat["sale"] = dict(offer.sale)
    return flat if offer.version == 1 else nested(flat)


def _plain(offer: Offer, key: str) -> Any:
    value = getattr(offer, _KEYS[offer.version][key][0])
    if isinstance(value, Network):
        return value.name
    if isinstance(value, PublicKey):
        return value.sec.hex()
    if isinstance(value, Amount):
        return value.sat
    return value.sat_per_kvb if isinstance(value, FeeRate) else value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat table of terms with those of the scheme in a table of its name, as version 2 has them."""
    scheme = flat["scheme"]
    own = _own_names(scheme)
    table: dict[str, Any] = {key: value for key, value in flat.items() if key not in (*own, "ways", "sale")}
    if own:
        table[scheme] = {key: flat[key] for key in own if key in flat}
    table.update((key, flat[key]) for key in ("ways", "sale") if key in flat)
    return table


def flat_terms(table: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of an offer's table by the names that options and wallet.toml have, whatever the version."""
    scheme = table["scheme"]
    rest = {key: value for key, value in table.items() if key != scheme}
    own = table.get(scheme, {})
    return {**rest, **own}


def offer_from_table(table: Mapping[str, Any]) -> Offer:
    """Read the plain table of an offer.

    Raises:
        ParseError: as ``Offer.from_toml``, apart from the TOML itself.
    """
    if "version" not in table:
        raise ParseError("malformed-offer", "offer lacks the key version")
    version = table["version"]
    if type(version) is not int or version not in OFFER_VERSIONS:
        raise unknown_version(version)
    scheme = table.get("scheme")
    if type(scheme) is str:  # whatever its own terms would be
        require_scheme(scheme)
    name = scheme if type(scheme) is str else ""
    own = _own_names(name) if name else ()
    if version == 1:
        _check_known(table, ("version", *_KEYS[1], *own, "sale"))
        sale = _table(table, "sale")
        _check_plain(sale, _MAX_SALE_DEPTH)
        return Offer(**_values(table, 1), sale=sale)
    _check_known(table, ("version", *_KEYS[2], *([name] if own else []), "ways", "sale"))
    scheme_terms = (_table(table, name) if own else None) or {}
    _check_known(scheme_terms, own, f"{name}.")
    sale = _table(table, "sale")
    ways = _ways(table.get("ways", []))
    check_canonical([*ways, *([] if sale is None else [sale])])
    return Offer(**_values({**table, **scheme_terms}, 2), sale=sale, version=2, ways=ways)


def _check_known(table: Mapping[str, Any], names: tuple[str, ...], where: str = "") -> None:
    unknown = [key for key in table if key not in names]
    if unknown:
        raise ParseError("malformed-offer", f"offer holds an unknown key: {where}{unknown[0]!r:.80}")


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = table.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise ParseError("malformed-offer", f"{key} must be a table, not {value!r:.80}")
    return value


def _ways(value: object) -> tuple[Mapping[str, Any], ...]:
    ways = value if isinstance(value, list) else [None]
    if len(ways) > _MAX_WAYS or not all(
        isinstance(way, dict) and type(way.get("kind")) is str for way in ways
    ):
        raise ParseError("malformed-offer", f"ways is no list of at most {_MAX_WAYS} tables with a kind each")
    return tuple(ways)


def _values(flat: Mapping[str, Any], version: int) -> dict[str, Any]:
    """The attributes of an offer by the keys of its flat table."""
    values: dict[str, Any] = {}
    for key, (attribute, kind) in _KEYS[version].items():
        if key not in flat:
            raise ParseError("malformed-offer", f"offer lacks the key {key}")
        value = flat[key]
        if kind is str:
            if type(value) is not str:
                raise ParseError("malformed-offer", f"{key} must be a string, not {value!r:.80}")
            values[attribute] = value
        else:
            values[attribute] = kind(checked_int(value, 0, MAX_MONEY_SAT, key))
    values["own_terms"] = {}
    for term in own_terms_of(flat["scheme"]):
        if term.name not in flat:
            raise ParseError("malformed-offer", f"offer lacks the key {term.name}")
        values["own_terms"][term.name] = checked_int(flat[term.name], 0, MAX_MONEY_SAT, term.name)
    values["network"] = network_from_name(values["network"])
    values["payee_key"] = PublicKey.from_hex(values["payee_key"])
    return values


def _check_plain(value: object, depth: int) -> None:
    """Refuse in ``[sale]`` what no channel file could hold: dates, endless or huge numbers, bottomless nesting."""
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int) and value.bit_length() < 64:
        return
    if isinstance(value, float) and value - value == 0:  # finite
        return
    if isinstance(value, (list, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, depth - 1)
        return
    raise ParseError(
        "malformed-offer",
        f"sale holds a {type(value).__name__} where text, a number of 64 bits or a shallow table can stand",
    )
