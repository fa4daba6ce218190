"""A part of a file into another file, as fast as the system can.

``copy_file_range`` moves the data inside the kernel, or only notes that two files share them (Btrfs, XFS). Where it
does not exist or does not like the files, Linux's ``sendfile`` still spares the way through this process. The plain
way comes last and everywhere. A fault is the last one's to tell: the one before it may only have had its own opinion.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mpchan import durability

_KERNEL_BYTES = 1 << 26
_PLAIN_BYTES = 1 << 20

Way = Callable[[int, int, int, int], int]
"""Copies some bytes of a source (descriptor, offset, count) to where a target stands, and says how many."""


def copy_part(source: int, offset: int, length: int, target: int, goes_on: Callable[[], bool]) -> int:
    """Copy ``length`` bytes from ``offset`` of one descriptor to where another stands; how many there were.

    Args:
        goes_on: asked now and then; False breaks the copying off.

    Raises:
        OSError: one of the two fails.
    """
    ways = [_within_kernel, _sent, _plainly]
    done = 0
    while done < length and goes_on():
        last = len(ways) == 1
        try:
            count = ways[0](source, offset + done, length - done, target)
        except OSError:
            if last:
                raise
            count = 0
        if not count:
            if last:
                break  # the end of the source
            del ways[0]
        done += count
    return done


def _within_kernel(source: int, offset: int, count: int, target: int) -> int:
    copy = getattr(os, "copy_file_range", None)
    if copy is None:
        return 0
    copied: int = durability.step("write", copy, source, target, min(count, _KERNEL_BYTES), offset)
    return copied


def _sent(source: int, offset: int, count: int, target: int) -> int:
    """On Linux; elsewhere the target must be a socket."""
    return durability.step("write", os.sendfile, target, source, offset, min(count, _KERNEL_BYTES))


def _plainly(source: int, offset: int, count: int, target: int) -> int:
    data = os.pread(source, min(count, _PLAIN_BYTES), offset)
    durability.write(target, data)
    return len(data)
