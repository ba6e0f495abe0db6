# SPDX-License-Identifier: GPL-2.0-only
"""The channels to QEMU's monitor and to the agent in the guest."""

import base64
import collections
import itertools
import json
import select
import time

from base import GuestDied, GuestTimeout, QmpError


class Lines:
    """Lines over a socket, with time limits.

    watch() is called at least four times a second while waiting: it raises
    if waiting has become pointless.
    """

    def __init__(self, sock, watch):
        self.sock, self.watch = sock, watch
        self.buffer = bytearray()
        self.lines = collections.deque()

    def send(self, text, timeout):
        """Send TEXT; the other side may be slow to take it."""
        self.sock.settimeout(timeout)
        try:
            self.sock.sendall(text.encode())
        except TimeoutError:
            raise GuestTimeout(f'not taken in {timeout} s: {text[:200]!r}') \
                from None
        except OSError:
            self._closed()

    def get(self, deadline):
        """The next line, or None when DEADLINE (time.monotonic) passes."""
        while not self.lines:
            left = deadline - time.monotonic()
            if not self._readable(min(max(left, 0), 0.25)):
                self.watch()
                if left <= 0:
                    return None
                continue
            self._receive()
        return self.lines.popleft()

    def _readable(self, timeout):
        return select.select([self.sock], [], [], timeout)[0]

    def _receive(self):
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError:
            data = b''
        if not data:
            self._closed()
        self.buffer += data
        *whole, rest = self.buffer.split(b'\n')
        self.lines.extend(bytes(line) for line in whole)
        self.buffer = bytearray(rest)

    def _closed(self):
        time.sleep(0.2)        # so that the process can be seen to be dead
        self.watch()
        raise GuestDied('QEMU closed a channel')


class Qmp:
    """QEMU's monitor."""

    def __init__(self, sock, watch):
        self.lines = Lines(sock, watch)
        self._events = []

    def start(self):
        """Read the greeting and leave capabilities mode."""
        self._message(time.monotonic() + 30)
        self.command('qmp_capabilities')

    def _message(self, deadline):
        line = self.lines.get(deadline)
        return None if line is None else json.loads(line)

    def command(self, name, timeout=60, **args):
        """Run QMP command NAME; '_' in argument names stands for '-'."""
        args = {key.replace('_', '-'): value for key, value in args.items()}
        self.lines.send(json.dumps({'execute': name, 'arguments': args}),
                        timeout)
        deadline = time.monotonic() + timeout
        while (message := self._message(deadline)) is not None:
            if 'return' in message:
                return message['return']
            if 'error' in message:
                raise QmpError(f'{name}: {message["error"]["desc"]}')
            self._events.append(message)
        raise GuestTimeout(f'QEMU did not answer {name} in {timeout} s')

    @property
    def events(self):
        """All events so far, oldest first, as QEMU sent them."""
        while self.lines.lines or self.lines._readable(0):
            message = self._message(time.monotonic())
            if message is None:
                break
            self._events.append(message)
        return self._events

    def wait_event(self, name, since=0, timeout=60, **data):
        """The first event NAME from index SINCE whose data has DATA."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events[since:]:
                have = event.get('data', {})
                if event['event'] == name and data.items() <= have.items():
                    return event
            message = self._message(deadline)
            if message is None:
                raise GuestTimeout(f'no event {name} {data} in {timeout} s')
            self._events.append(message)


def quote_line(text):
    """TEXT as one line that the guest's shell takes for one word."""
    special = {'\\': '\\\\', "'": "\\'", '\n': '\\n', '\t': '\\t'}
    return "$'" + ''.join(special.get(char, char) for char in text) + "'"


class Agent:
    """The control channel; the other end is agent.sh."""

    def __init__(self, sock, watch):
        self.lines = Lines(sock, watch)
        self.numbers = itertools.count(1)

    def wait_up(self, timeout):
        """Wait until an agent has started since the last call."""
        deadline = time.monotonic() + timeout
        while (line := self.lines.get(deadline)) is not None:
            if line == b'! up':
                return
        raise GuestTimeout(f'no sign of life from the guest in {timeout} s')

    def run(self, command, timeout):
        """(exit status, output) of COMMAND in the guest."""
        number = next(self.numbers)
        deadline = time.monotonic() + timeout
        self.lines.send(f'{number} {quote_line(command)}\n', timeout)
        body = bytearray()
        while (line := self.lines.get(deadline)) is not None:
            if line == b'= %d' % number:
                return self._parse(body)
            if line.startswith(b'! '):
                raise GuestDied(f'the guest rebooted during {command!r}')
            if line.startswith(b'= '):    # answer nobody waited for
                body.clear()
            else:
                body += line
        raise GuestTimeout(f'{command!r} did not end in {timeout} s')

    @staticmethod
    def _parse(body):
        output, _, status = base64.b64decode(body).rpartition(b'\n')
        return int(status), output.decode(errors='replace')
