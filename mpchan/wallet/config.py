"""``wallet.toml``: network, chain backend, the payer's limits and the payee's usual terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpchan.bitcoin.network import Network, network_from_name
from mpchan.chain.base import BACKENDS
from mpchan.chain.base import ChainConfig as ChainConfig  # read here, so had from here
from mpchan.channel.construction.registry import CONSTRUCTIONS, all_chosen_terms, chosen_terms_of, default
from mpchan.channel.limits import PayerLimits, WatchPolicy
from mpchan.channel.offer import blocks_in_unit
from mpchan.errors import ParseError
from mpchan.units import MAX_LOCK_TIME, MAX_MONEY_SAT, FeeRate, checked_int, parse_duration
from mpchan.values import field, frozen
from mpchan.wallet.spending import SpendingLimits

CONFIG_VERSION = 1
_CHAIN_KEYS = ("backend", *(key for backend in BACKENDS.values() for key in backend.settings))
_LIMIT_KEYS = (
    *("min_fee_rate", "max_fee_rate", "max_bump_fee_rate"),
    *("max_refund_delay_blocks", "max_refund_delay_seconds"),
)
_SPENDING_KEYS = ("per_call_sat", "per_deposit_sat", "per_day_sat", "per_payee_sat")
_WATCH_KEYS = ("claim_after", "near_blocks", "near_seconds")
_OFFER_NUMBERS = (
    "min_capacity_sat",
    "max_capacity_sat",
    "fee_rate_sat_per_kvb",
    "min_refund_delay",
    "max_refund_delay",
    "settle_window",
    "min_increment_sat",
    "min_confirmations",
)


@frozen
class Config:
    """The whole of wallet.toml, checked."""

    network: Network
    chain: ChainConfig
    limits: PayerLimits = field(default_factory=PayerLimits)
    offer: Mapping[str, Any] = field(default_factory=dict)
    watch: WatchPolicy = field(default_factory=WatchPolicy)
    spending: SpendingLimits = field(default_factory=SpendingLimits)

    @property
    def expires_in(self) -> int:
        """For how many seconds an offer holds unless told otherwise; 0 for ever."""
        return int(self.offer.get("expires_in", 0))

    @classmethod
    def from_toml(cls, text: str, *, source: Path | str = "wallet.toml") -> Config:
        """Read the file's text.

        Raises:
            ParseError: ``malformed-config`` naming the key; ``unknown-network``.
        """
        import tomli

        try:
            table = tomli.loads(text)
        except (tomli.TOMLDecodeError, RecursionError, ValueError) as error:
            raise _malformed(f"{source} is not valid TOML: {error!s:.200}") from None
        try:
            return cls._from_table(table)
        except ParseError as error:
            raise ParseError(error.slug, f"{source}: {error.message}", hint=error.hint) from None

    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> Config:
        _known(table, ("version", "network", "chain", "limits", "offer", "watch", "spending"), "")
        version = table.get("version", CONFIG_VERSION)
        if type(version) is not int or version != CONFIG_VERSION:
            raise _malformed(f"version {version!r:.80} is unknown, this mpchan reads {CONFIG_VERSION}")
        network = network_from_name(_string(table, "network"))
        chain = _chain(_table(table, "chain"), network)
        limits, offer = _limits(_table(table, "limits")), _offer_defaults(_table(table, "offer"))
        watch, spending = _watch(_table(table, "watch")), _spending(_table(table, "spending"))
        return cls(network, chain, limits, offer, watch, spending)


def offer_defaults(config: Config, unit: str | None, scheme: str | None = None) -> dict[str, Any]:
    """The terms of a new offer before the command line changes any: built-in ones, then wallet.toml's.

    A fee rate is only among them where wallet.toml names one; else the chain is asked for it.
    The file's delays count only for the unit that the file itself names.

    Args:
        unit, scheme: None for what wallet.toml says, or mpchan by itself.
    """
    own_unit = config.offer.get("lock_time_unit", "blocks")
    unit = own_unit if unit is None else unit
    scheme = config.offer.get("scheme", default()) if scheme is None else scheme
    own = chosen_terms_of(scheme)
    terms: dict[str, Any] = {
        "scheme": scheme,
        "min_capacity_sat": 1000,
        "max_capacity_sat": 100_000_000,
        "lock_time_unit": unit,
        "min_refund_delay": blocks_in_unit(288, unit),
        "max_refund_delay": blocks_in_unit(4320, unit),
        "settle_window": blocks_in_unit(144, unit),
        **{term.name: term.default for term in own},
        "min_increment_sat": 1,
        "min_confirmations": 6 if config.network.name == "mainnet" else 1,
        "memo": "",
    }
    delays = {
        "min_refund_delay",
        "max_refund_delay",
        "settle_window",
        *(term.name for term in own if term.is_delay),
    }
    others = {"expires_in", "scheme", *(term.name for term in all_chosen_terms())} - {
        term.name for term in own
    }
    for key, value in config.offer.items():
        if key not in others and (unit == own_unit or key not in delays):
            terms[key] = value
    terms["lock_time_unit"] = unit
    return terms


def config_text(network: Network, chain: ChainConfig) -> str:
    """The text of a new wallet.toml, with its comments."""
    import tomli_w

    names = {key: getattr(chain, key) for key in _CHAIN_KEYS}
    names["electrum"] = chain.electrum[0] if len(chain.electrum) == 1 else list(chain.electrum)
    table = tomli_w.dumps({key: value for key, value in names.items() if value})
    return _TEMPLATE.format(version=CONFIG_VERSION, network=network.name, chain=table.rstrip("\n"))


_TEMPLATE = """\
# The settings of this wallet; for you to edit. Keys and channels stand in files of their own.
version = {version}
network = "{network}"

[chain]
{chain}

[limits]
# What this wallet agrees to, whatever an offer says or the chain estimates; the rates hold for payer and payee,
# in sat per 1000 vbytes.
min_fee_rate = 1000
max_fee_rate = 200000
# What `mpchan bump` and `mpchan watch` pay at most to bring a close or refund into a block that nobody else takes.
max_bump_fee_rate = 1000000
max_refund_delay_blocks = 4320
max_refund_delay_seconds = 2592000

[offer]
# The usual terms of `mpchan payee offer`; each can be changed there by an option. Without a rate here, an offer
# takes the chain's estimate.
# fee_rate_sat_per_kvb = 2000
# lock_time_unit = "blocks"
# min_refund_delay = 288
# max_refund_delay = 4320
# settle_window = 144
# min_confirmations = 1
# expires_in = "2d"

[watch]
# When `mpchan watch` closes a channel in which this wallet is paid with the latest update that it holds: as soon as
# that is final and no payment came for claim_after (such as 90s, 30m, 12h, 2d), or L_0 is near. A channel whose updates
# are final at any time is closed for want of payments only if claim_after is set here.
# claim_after = "2d"
# near_blocks = 6
# near_seconds = 3600

[spending]
# What is paid over HTTP (`mpchan payer fetch`) without asking, in satoshi: for a request, into a channel, in a day
# (UTC), to one server in all. A channel is asked about where nothing is said here.
# per_call_sat = 100
# per_deposit_sat = 100000
# per_day_sat = 10000
# per_payee_sat = 1000000
"""


def _malformed(what: str) -> ParseError:
    return ParseError("malformed-config", what)


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = [key for key in table if key not in keys]
    if unknown:
        raise _malformed(f"unknown key {where}{unknown[0]!r:.80}")


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _malformed(f"{key} must be a table, not {value!r:.80}")
    return value


def _string(table: Mapping[str, Any], key: str) -> str:
    if key not in table:
        raise _malformed(f"the key {key} is missing")
    value = table[key]
    if type(value) is not str:
        raise _malformed(f"{key} must be a string, not {value!r:.80}")
    return value


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """One string, or a list of them; none where the key is missing."""
    value = table.get(key, [])
    if type(value) is str:
        return (value,)
    if type(value) is not list or not all(type(item) is str for item in value):
        raise _malformed(f"{key} must be a string or a list of strings, not {value!r:.80}")
    return tuple(value)


def _chain(table: dict[str, Any], network: Network) -> ChainConfig:
    _known(table, _CHAIN_KEYS, "chain.")
    values: dict[str, Any] = {key: _string(table, key) for key in table if key != "electrum"}
    values["electrum"] = _strings(table, "electrum")
    backend = values.get("backend", "embedded")
    if backend not in BACKENDS:
        raise _malformed(f"chain.backend {backend!r:.80} is none of {', '.join(BACKENDS)}")
    if BACKENDS[backend].is_private and network.name != "regtest":
        raise _malformed(f"the {backend} chain is regtest only, this wallet is {network.name}")
    return ChainConfig(**values)


def _limits(table: dict[str, Any]) -> PayerLimits:
    _known(table, _LIMIT_KEYS, "limits.")
    values: dict[str, Any] = {key: checked_int(table[key], 0, MAX_MONEY_SAT, key) for key in table}
    for key in ("min_fee_rate", "max_fee_rate", "max_bump_fee_rate"):
        if key in values:
            values[key] = FeeRate(values[key])
    return PayerLimits(**values)


def _offer_defaults(table: dict[str, Any]) -> dict[str, Any]:
    numbers = (*_OFFER_NUMBERS, *(term.name for term in all_chosen_terms()))
    _known(table, (*numbers, "scheme", "lock_time_unit", "memo", "expires_in"), "offer.")
    if table.get("scheme", default()) not in CONSTRUCTIONS:
        known = ", ".join(CONSTRUCTIONS)
        raise _malformed(f"offer.scheme {table['scheme']!r:.80} is none of {known}")
    terms = dict(table)
    for key in table:
        if key in numbers:
            checked_int(table[key], 0, MAX_MONEY_SAT, key)
        elif key == "expires_in":
            terms[key] = checked_int(_seconds(table[key], key), 0, MAX_LOCK_TIME, key)
        else:
            _string(table, key)
    return terms


def _watch(table: dict[str, Any]) -> WatchPolicy:
    _known(table, _WATCH_KEYS, "watch.")
    values = dict(table)
    if "claim_after" in values:
        values["claim_after"] = _seconds(values["claim_after"], "claim_after")
    return WatchPolicy(**{key: checked_int(value, 0, MAX_LOCK_TIME, key) for key, value in values.items()})


def _spending(table: dict[str, Any]) -> SpendingLimits:
    _known(table, _SPENDING_KEYS, "spending.")
    return SpendingLimits(**{key: checked_int(value, 0, MAX_MONEY_SAT, key) for key, value in table.items()})


def _seconds(value: Any, key: str) -> int:
    """A duration such as ``12h``, in seconds."""
    try:
        return parse_duration(value if type(value) is str else "")
    except ParseError:
        raise _malformed(f'{key} must be a duration such as "12h" or "2d", not {value!r:.80}') from None
