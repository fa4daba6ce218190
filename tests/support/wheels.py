"""Which packages have no wheel, for every CPython and platform that mpchan is for. It asks the package index:

    python tests/support/wheels.py

pip finds the wheels, level by level of what requires what, but knows the conditions of the interpreter that runs it
only; so those of the others (PEP 508's markers) are evaluated here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tomli
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
PROJECT = tomli.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Platform:
    """What pip and the markers call it."""

    name: str
    tags: tuple[str, ...]
    system: str
    machine: str

    def environment(self, python: str) -> dict[str, str]:
        """The marker variables of CPython there."""
        return {
            **{key: str(value) for key, value in default_environment().items()},
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": self.system,
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": self.system.lower(),
        }


def _linux(machine: str, oldest: int) -> tuple[str, ...]:
    """Every glibc's tag up to that of the oldest distribution that is still common."""
    known = [f"manylinux_2_{minor}_{machine}" for minor in range(34, oldest - 1, -1)]
    return (*known, *(f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")))


PLATFORMS = (
    Platform("Linux x86-64", _linux("x86_64", 5), "Linux", "x86_64"),
    Platform("Linux arm64", _linux("aarch64", 17), "Linux", "aarch64"),
    Platform("macOS arm64", ("macosx_13_0_arm64",), "Darwin", "arm64"),
)


@dataclass
class Wanted:
    """One package: which versions will do, and which of its extras are asked for."""

    versions: SpecifierSet = field(default_factory=SpecifierSet)
    extras: set[str] = field(default_factory=set)
    seen: set[str] | None = None
    """The extras whose requirements were followed; None while none was."""


def applying(
    texts: Iterable[str], extras: Iterable[str], environment: dict[str, str]
) -> Iterator[Requirement]:
    """Those of some requirements that count in an environment, for a package with these extras."""
    for text in texts:
        requirement = Requirement(text)
        cases = [{**environment, "extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(case) for case in cases):
            yield requirement


def own(extras: Iterable[str]) -> Iterator[str]:
    """What mpchan requires with these extras; one that names others is followed."""
    yield from PROJECT["dependencies"]
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            inner = Requirement(text)
            if inner.name == "mpchan":
                yield from own(sorted(inner.extras))
            else:
                yield text


def resolve(python: str, platform: Platform, extras: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """The version of each package that has a wheel, and the names of those that have none."""
    environment = platform.environment(python)
    wanted: dict[str, Wanted] = {}
    versions: dict[str, str] = {}
    missing: set[str] = set()
    level = list(applying(own(extras), (), environment))
    while level:
        asked = set()
        for requirement in level:
            name = canonicalize_name(requirement.name)
            one = wanted.setdefault(name, Wanted())
            one.versions &= requirement.specifier
            one.extras |= requirement.extras
            if name not in missing and one.seen != one.extras:
                asked.add(name)
        found, none = ask({name: wanted[name].versions for name in asked}, python, platform)
        missing |= none
        level = []
        for package, (version, requires) in found.items():
            versions[package] = version
            wanted[package].seen = set(wanted[package].extras)
            level += applying(requires, sorted(wanted[package].extras), environment)
    return versions, missing


def ask(
    packages: dict[str, SpecifierSet], python: str, platform: Platform
) -> tuple[dict[str, tuple[str, list[str]]], set[str]]:
    """Of each package the newest version with a wheel, and what that requires; and those without."""
    left = dict(packages)
    missing: set[str] = set()
    while left:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed"]
            command += ["--quiet", "--disable-pip-version-check", "--report", "-", "--target", folder]
            command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
            command += ["--abi", f"cp{python.replace('.', '')}"]
            command += [word for tag in platform.tags for word in ("--platform", tag)]
            command += [f"{name}{versions}" for name, versions in left.items()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            report = json.loads(done.stdout)["install"]
            return {
                canonicalize_name(one["metadata"]["name"]): (
                    one["metadata"]["version"],
                    one["metadata"].get("requires_dist", []),
                )
                for one in report
            }, missing
        match = re.search(r"No matching distribution found for ([A-Za-z0-9_.-]+)", done.stderr)
        if match is None:
            raise RuntimeError(done.stderr)
        name = canonicalize_name(re.split(r"[<>=!~]", match[1])[0])
        missing.add(name)
        del left[name]
    return {}, missing


def main() -> None:
    extras = list(PROJECT["optional-dependencies"])
    for python in PYTHONS:
        for platform in PLATFORMS:
            found, missing = resolve(python, platform, extras)
            without = ", ".join(sorted(missing)) or "none"
            print(
                f"{python}  {platform.name:<12}  {len(found)} packages; without a wheel: {without}",
                flush=True,
            )


if __name__ == "__main__":
    main()
