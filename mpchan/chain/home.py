"""The user's own folders. A service, or a container, may run as a user who has neither a name nor a home."""

from __future__ import annotations

from pathlib import Path

from mpchan.errors import UsageError


def data_directory(name: str, instead: str) -> Path:
    """Where the data of a program of this name belong, by the custom of the system.

    Args:
        instead: what a user can set who has no home.
    """
    import click  # which most who import this have no need of

    found = click.get_app_dir(name)
    if found.startswith("~"):  # it could not be told whose home is meant: that is no folder of this name here
        raise _no_home(instead)
    return Path(found)


def home_directory(instead: str) -> Path:
    """The user's home."""
    try:
        return Path.home()
    except RuntimeError:
        raise _no_home(instead) from None


def expanded(path: str, instead: str) -> Path:
    """A path whose leading ``~`` stands for a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise _no_home(instead) from None


def _no_home(instead: str) -> UsageError:
    return UsageError(
        "no-home",
        "the user that this runs as has no home directory",
        hint=f"set HOME, or {instead}",
    )
