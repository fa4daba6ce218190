"""Run a fuzz target for as long as you like.

    python tests/fuzz/run.py --list
    python tests/fuzz/run.py TARGET… --seconds 600      all targets, one after the other, where none is named

With atheris (``pip install 'mpchan[fuzz]'``) the inputs follow the coverage of the code, without it they are made by
the mutators alone. An input that is a finding is written to a file, and ``--input FILE`` gives it to the target again.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MEMORY_MB = 1024


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run")
    parser.add_argument("--random", action="store_true", help="without atheris, even if it is there")
    parser.add_argument(
        "--corpus", type=Path, help="a folder where atheris keeps its inputs for the next run"
    )
    parser.add_argument(
        "--findings", type=Path, default=Path("findings"), help="where inputs that fail are written"
    )
    parser.add_argument("--input", type=Path, help="give this one input to the target")
    return parser.parse_args()


def main() -> int:
    """Exit code 0 where nothing was found."""
    given = options()
    guided = importlib.util.find_spec("atheris") is not None and not given.random
    if guided and not given.input and len(given.targets) == 1:
        import atheris

        with atheris.instrument_imports(include=["mpchan"]):
            from support.fuzz.targets import TARGETS
    else:
        from support.fuzz.targets import TARGETS
    if given.list:
        print("\n".join(TARGETS))
        return 0
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        print(f"no such target: {', '.join(unknown)}", file=sys.stderr)
        return 2
    if given.input:
        for name in given.targets:
            print(name, repr(TARGETS[name].check(given.input.read_bytes())))
        return 0
    if guided and len(given.targets) == 1:
        follow_coverage(TARGETS[given.targets[0]], given)  # ends the process
    if guided:
        return one_by_one(given.targets or list(TARGETS), given)
    return max([at_random(TARGETS[name], given) for name in given.targets or TARGETS])


def one_by_one(names: list[str], given: argparse.Namespace) -> int:
    """A process for each: atheris runs one target and ends."""
    import subprocess

    words = [f"--seconds={given.seconds}", f"--seed={given.seed}", f"--findings={given.findings}"]
    words += [] if given.corpus is None else [f"--corpus={given.corpus}"]
    return max([subprocess.run([sys.executable, __file__, name, *words]).returncode for name in names])


def at_random(target: object, given: argparse.Namespace) -> int:
    """Mutations of the seeds, without a look at the code."""
    from support.fuzz.driver import Target, watched

    assert isinstance(target, Target)
    random, count, taken = Random(f"{target.name} {given.seed}"), 0, 0
    found: set[str] = set()
    target.seeds  # noqa: B018  # they are no part of the time
    end, before = time.monotonic() + given.seconds, _peak_mb()
    for data in target.inputs(random):
        if time.monotonic() >= end:
            break
        count += 1
        try:
            with watched():
                taken += target.check(data) is None
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            where = _where(error)
            if where not in found:
                _keep(given.findings, target.name, data, error)
            found.add(where)
    print(
        f"{target.name}: {count} inputs, {taken} taken, {len(found)} findings, {_peak_mb() - before} MB grown",
        flush=True,
    )
    return int(bool(found) or _peak_mb() - before > MEMORY_MB)


def _where(error: BaseException) -> str:
    """The line that raised: findings of one cause are told once."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {last.filename}:{last.lineno}"


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
        1024 if sys.platform == "linux" else 1 << 20
    )


def _keep(folder: Path, name: str, data: bytes, error: BaseException) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{abs(hash(data)):016x}"
    path.write_bytes(data)
    print(f"FOUND {path}: {type(error).__name__}: {error!s:.300}", flush=True)
    traceback.print_exception(error, limit=-6)


def follow_coverage(target: object, given: argparse.Namespace) -> None:
    """libFuzzer's loop. It counts a hang by the clock, and bounds the memory of the process."""
    import atheris
    from support.fuzz.driver import Target

    assert isinstance(target, Target)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder)
        for number, data in enumerate(target.seeds):
            (seeds / f"{number:04}").write_bytes(data)
        if given.corpus is not None:
            (given.corpus / target.name).mkdir(parents=True, exist_ok=True)
        given.findings.mkdir(parents=True, exist_ok=True)

        def mutate(data: bytes, limit: int, seed: int) -> bytes:
            random = Random(seed)
            if random.randrange(3) == 0:
                return bytes(atheris.Mutate(data, limit))
            return target.mutate(random, data)[:limit]

        words = [
            *(target.name, f"-max_total_time={given.seconds}", f"-seed={given.seed + 1}", "-timeout=60"),
            *(f"-rss_limit_mb={MEMORY_MB}", f"-max_len={target.limit}", "-print_final_stats=1"),
            *(f"-artifact_prefix={given.findings}/{target.name}-", "-verbosity=1"),
            *([] if given.corpus is None else [str(given.corpus / target.name)]),
            str(seeds),
        ]
        atheris.Setup(words, lambda data: target.check(data) and None, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())
