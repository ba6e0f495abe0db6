# SPDX-License-Identifier: GPL-2.0-only
"""Moving a balloon, and what that costs whom."""

import dataclasses
import pathlib
import time

from guest import GIB, GuestTimeout

POLL = 0.004
# What a driver puts off until it rests (ours: handing pages to mm, after 1 s)
REST = 1.5
LIMIT = 240


@dataclasses.dataclass
class Move:
    """One move, from `balloon` until `actual` is there.

    .size     bytes that were moved
    .seconds  until `actual` was there
    .first    seconds until the first GiB was, None if there was none
    .guest    CPU seconds of the guest, with what was put off until REST
    .host     CPU seconds of QEMU and its kernel for it
    .device   CPU seconds of QEMU's main thread, until `actual` was there
    .answer   seconds that QEMU took to answer meanwhile, at most
    .points   (seconds, actual), whenever `actual` was seen to change
    """

    size: int
    seconds: float
    first: float
    guest: float
    host: float
    device: float
    answer: float
    points: list

    def per_gib(self, value):
        """VALUE for each GiB that was moved."""
        return value / (self.size / GIB)


def main_thread(running):
    """CPU seconds of QEMU's main thread so far."""
    text = pathlib.Path(
        f'/proc/{running.pid}/task/{running.pid}/schedstat').read_text()
    return int(text.split()[0]) / 1e9


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
    cpu, device = running.cpu(), main_thread(running)
    start = time.monotonic()
    running.balloon(size)
    points, answer = follow(running, size, start)
    device = main_thread(running) - device
    if points[-1][1] != size:
        raise GuestTimeout(f'actual is {points[-1][1]}, not {size}, after '
                           f'{LIMIT} s\n{running.last_status()}')
    time.sleep(REST)
    used = [new - old for new, old in zip(running.cpu(), cpu)]
    first = next((seconds for seconds, actual in points
                  if abs(actual - old) >= GIB), None)
    return Move(abs(size - old), points[-1][0], first, used[0],
                sum(used[1:]), device, answer, points)
