# SPDX-License-Identifier: GPL-2.0-only
"""Commands that run in the background of the guest."""

import re
import shlex

from base import GuestError, GuestFault, wait_for


class Job:
    """A command that runs in the background; Guest.spawn() makes them."""

    def __init__(self, guest, number, command):
        self.guest, self.command = guest, command
        self.path = f'/run/job{number}'

    def start(self):
        """Start it: one shell runs it, another one writes down its status.

        Only the first is in the session that kill() signals, so that a killed
        command has a status, too.
        """
        inner = ('echo 0 >/proc/self/oom_score_adj;'
                 f'echo $$ >{self.path}.pid;'
                 f'({self.command}\n) >{self.path}.out 2>&1 </dev/null')
        outer = (f'setsid sh -c {shlex.quote(inner)};'
                 f'echo $? >{self.path}.new;'
                 f'mv {self.path}.new {self.path}.status')
        self.guest.sh(f'setsid sh -c {shlex.quote(outer)} >/dev/null 2>&1 &\n'
                      f'until [ -s {self.path}.pid ]; do sleep 0.01; done')

    def poll(self):
        """The exit status, 128 + signal if killed; None while it runs."""
        text = self.guest.sh(f'cat {self.path}.status 2>/dev/null || true')
        return int(text) if text.strip() else None

    def wait(self, timeout=60, interval=0.1):
        """The exit status, once there is one.

        Each look runs a shell in the guest, every INTERVAL seconds.
        """
        return wait_for(self.poll, lambda status: status is not None, timeout,
                        f'{self.command!r} to end', interval)

    def check_intact(self, timeout=60):
        """Wait for a hog to end; raise unless it found its memory intact."""
        status = self.wait(timeout)
        if status:
            raise GuestFault(f'{self.command!r} ended with {status}, its '
                             f'memory is not intact:\n{self.output()}')

    def output(self, start=0):
        """What it has written so far, both streams, from byte START on."""
        return self.guest.sh(f'tail -c +{start + 1} {self.path}.out')

    def wait_output(self, pattern, timeout=60):
        """The match of regular expression PATTERN in its output."""
        def look():
            match = re.search(pattern, self.output())
            if not match and self.poll() is not None:
                match = re.search(pattern, self.output())
                if not match:
                    raise GuestError(f'{self.command!r} ended without '
                                     f'{pattern!r}:\n{self.output()}')
            return match
        return wait_for(look, bool, timeout, f'{pattern!r} from '
                        f'{self.command!r}')

    def kill(self, sig='TERM'):
        """Signal it and all that it started."""
        self.guest.sh(f'kill -{sig} -$(cat {self.path}.pid)', check=False)
