# SPDX-License-Identifier: GPL-2.0-only
"""What all modules of the harness share: sizes, errors, waiting."""

import pathlib
import re
import time

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4096

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent


class GuestError(Exception):
    """The guest, its host side or its driver did what it must not do."""


class GuestDied(GuestError):
    """QEMU went away, or the guest's kernel panicked or rebooted."""


class GuestTimeout(GuestError):
    """The guest or QEMU did not answer, or did not get there, in time."""


class GuestLog(GuestError):
    """The guest's log has lines that a healthy kernel does not write."""


class GuestFault(GuestError):
    """Something is wrong that no delay explains, however busy the machine.

    Memory that is not as it was, a program that was killed, a page that is
    given twice: tests/conftest.py never takes that for late.
    """


class QmpError(GuestError):
    """QEMU refused a QMP command."""


class CommandFailed(GuestError):
    """A command in the guest ended with a status other than 0."""

    def __init__(self, command, status, output):
        super().__init__(f'{command!r} ended with {status}:\n{output}')
        self.command, self.status, self.output = command, status, output


def parse_size(text):
    """Bytes in TEXT, a number with an optional suffix K, M, G or T."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?',
                         str(text).strip(), re.I)
    if not match:
        raise ValueError(f'not a size: {text!r} (try 512M, 1.5G or bytes)')
    shift = ' KMGT'.index(match[2].upper() or ' ') * 10
    return int(float(match[1]) * (1 << shift))


def wait_for(get, good, timeout, what, interval=0.1):
    """Poll get() until good(its value); that value."""
    deadline = time.monotonic() + timeout
    while True:
        value = get()
        if good(value):
            return value
        if time.monotonic() > deadline:
            raise GuestTimeout(f'waited {timeout} s for {what}; last: '
                               f'{value!r}')
        time.sleep(interval)
