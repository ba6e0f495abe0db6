# SPDX-License-Identifier: GPL-2.0-only
"""Hosts with a libvirtd of their own, of which nothing is left in the end.

A host is a set of namespaces: mounts, processes, host name, IPC and network.
All that libvirt writes goes to file systems that only exist in there, and all
that runs in there ends with the host's first process, which ends when the pipe
to it is closed. So this holds also if the tests are killed.
"""

import contextlib
import pathlib
import subprocess
import uuid

from base import GuestError, wait_for

INIT = pathlib.Path(__file__).resolve().parent / 'host-init'
NAMESPACES = ('--mount', '--uts', '--ipc', '--net')
SHARED = '/run/shared'


class VirshError(GuestError):
    """virsh failed."""


class Host:
    """A machine as libvirt sees it."""

    def __init__(self, name, first=None):
        """A second host shares a folder, SHARED, with the FIRST."""
        inside = (['nsenter', f'--mount=/proc/{first.pid}/ns/mnt']
                  if first else [])
        self.socket = f'{SHARED}/{name}/libvirt-sock'
        self.uri = f'qemu+unix:///system?socket={self.socket}'
        self.process = subprocess.Popen(
            [*inside, 'unshare', *NAMESPACES, '--pid', '--fork',
             '--mount-proc', INIT, name, str(uuid.uuid4())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True)    # so that Ctrl-C does not reach it
        if self.process.stdout.readline() != 'ready\n':
            self.close()
            raise GuestError(f'could not set up host {name}')

    @property
    def pid(self):
        """The process whose namespaces are the host's."""
        return self.process.pid

    def path(self, name):
        """A file of the host, as seen from outside."""
        return pathlib.Path(f'/proc/{self.pid}/root{name}')

    def command(self, *words):
        """WORDS as a command that runs on the host."""
        return ['nsenter', f'--target={self.pid}', *NAMESPACES,
                f'--pid=/proc/{self.pid}/ns/pid_for_children', '--', *words]

    def wait_up(self, timeout=60):
        """Wait for libvirtd to answer; it looks at all QEMUs first."""
        try:
            wait_for(self.path(self.socket).exists, bool, timeout,
                     'the socket of libvirtd')
            self.virsh('version', timeout=timeout)
        except GuestError as error:
            raise GuestError(f'{error}\n{self.log()}') from None

    def virsh(self, *words, timeout=30):
        """What virsh prints; VirshError with its complaint if it fails."""
        words = [str(word) for word in words]
        try:
            done = subprocess.run(
                self.command('virsh', '--quiet', '--connect', self.uri,
                             *words), stdin=subprocess.DEVNULL, text=True,
                capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise VirshError(f'no end of {words} in {timeout} s') from None
        if done.returncode:
            raise VirshError(f'{words}: {done.stderr.strip()}')
        return done.stdout

    def restart_libvirtd(self):
        """End libvirtd and start it again; guests go on meanwhile."""
        pid = self.path('/run/libvirtd.pid').read_text().strip()
        run = [self.command('sh', '-c', command) for command in (
            f'kill {pid}; while kill -0 {pid} 2>&-; do sleep 0.1; done',
            'libvirtd --daemon')]
        for command in run:
            subprocess.run(command, check=True, timeout=60,
                           stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        self.wait_up()

    def log(self):
        """What libvirtd complains of."""
        path = self.path('/var/log/libvirt/libvirtd')
        return path.read_text() if path.exists() else ''

    def close(self):
        """End all that runs on the host; what it has written is gone."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.stdout.close()


@contextlib.contextmanager
def host(name, first=None):
    """A Host whose libvirtd answers."""
    machine = Host(name, first)
    try:
        machine.wait_up()
        yield machine
    finally:
        machine.close()
