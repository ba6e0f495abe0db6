# SPDX-License-Identifier: GPL-2.0-only
"""Moving a balloon, and what that costs whom."""

import dataclasses
import pathlib
import time

from guest import GIB, GuestTimeout

POLL = 0.004
LIMIT = 240


@dataclasses.dataclass
class Move:
    """One move, from `balloon` until `actual` is there.

    .size     bytes that were moved
    .seconds  until `actual` was there
    .first    seconds until the first GiB was, None if there was none
    .guest    CPU seconds of the guest, with what was put off until a rest()
    .vcpus    the same, with all that the host does in the guest's threads
    .host     CPU seconds of QEMU and its kernel for it
    .device   CPU seconds of QEMU's main thread, until `actual` was there
    .answer   seconds that QEMU took to answer meanwhile, at most
    .points   (seconds, actual), whenever `actual` was seen to change
    """

    size: int
    seconds: float
    first: float
    guest: float
    vcpus: float
    host: float
    device: float
    answer: float
    points: list


def thread(running, number):
    """CPU seconds of a thread of QEMU so far."""
    text = pathlib.Path(
        f'/proc/{running.pid}/task/{number}/schedstat').read_text()
    return int(text.split()[0]) / 1e9


def main_thread(running):
    """CPU seconds of QEMU's main thread so far."""
    return thread(running, running.pid)


def vcpu_threads(running):
    """CPU seconds of those that are the guest's CPUs."""
    return sum(thread(running, cpu['thread-id'])
               for cpu in running.qmp('query-cpus-fast'))


def rest(size):
    """Wait for what a driver puts off after SIZE bytes were moved.

    Ours hands pages to mm: after a second, and then 64 MiB at a time.
    """
    time.sleep(1.5 + 0.4 * size / GIB)


def follow(running, size, start, limit=LIMIT):
    """Look at `actual` until it is SIZE, or until LIMIT seconds after START.

    (seconds since START, actual), whenever that was seen to change; and the
    longest time that QEMU took to say it.
    """
    points, longest = [(0.0, running.actual())], 0
    while points[-1][1] != size and time.monotonic() - start < limit:
        asked = time.monotonic()
        actual = running.actual()
        longest = max(longest, time.monotonic() - asked)
        if actual != points[-1][1]:
            points.append((time.monotonic() - start, actual))
        else:
            time.sleep(POLL)
    return points, longest


def move(running, size):
    """Move the balloon, so that the guest has SIZE; a Move."""
    old = running.actual()
    cpu, vcpus = running.cpu(), vcpu_threads(running)
    device, start = main_thread(running), time.monotonic()
    running.balloon(size)
    points, answer = follow(running, size, start)
    device = main_thread(running) - device
    if points[-1][1] != size:
        raise GuestTimeout(f'actual is {points[-1][1]}, not {size}, after '
                           f'{LIMIT} s\n{running.last_status()}')
    rest(abs(size - old))
    used = [new - old for new, old in zip(running.cpu(), cpu)]
    first = next((seconds for seconds, actual in points
                  if abs(actual - old) >= GIB), None)
    return Move(abs(size - old), points[-1][0], first, used[0],
                vcpu_threads(running) - vcpus, sum(used[1:]), device, answer,
                points)
