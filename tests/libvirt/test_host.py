# SPDX-License-Identifier: GPL-2.0-only
"""The hosts of these tests leave nothing behind, however they end."""

import os
import pathlib
import subprocess
import sys

from base import wait_for

HERE = pathlib.Path(__file__).resolve().parent
PLACES = ('/run', '/run/libvirt', '/var/lib', '/var/lib/libvirt', '/var/cache',
          '/var/log', '/etc/libvirt', '/mnt', '/dev/hugepages')
PROGRAM = '''
import time
from host import Host
host = Host('killed.test')
host.wait_up()
print(host.pid, flush=True)
time.sleep(1000)
'''


def processes(namespace):
    """Name by number of all processes in a PID namespace."""
    found = {}
    for path in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if os.readlink(path / 'ns/pid') == namespace:
                found[path.name] = (path / 'comm').read_text().strip()
        except OSError:    # it has ended
            pass
    return found


def traces():
    """What a libvirtd that is not apart would change."""
    return {name: sorted(os.listdir(name)) for name in PLACES
            if os.path.isdir(name)}, \
        pathlib.Path('/proc/self/mounts').read_text(), \
        pathlib.Path('/etc/passwd').read_text(), \
        os.uname().nodename


def test_nothing_is_left_of_a_host_that_is_killed():
    """The worst case: SIGKILL to who started it."""
    before = traces()
    path = os.pathsep.join((str(HERE), str(HERE.parent / 'guest')))
    with subprocess.Popen([sys.executable, '-c', PROGRAM], text=True,
                          stdout=subprocess.PIPE,
                          env={**os.environ, 'PYTHONPATH': path}) as starter:
        pid = starter.stdout.readline().strip()
        namespace = os.readlink(f'/proc/{pid}/ns/pid_for_children')
        names = sorted(processes(namespace).values())
        assert {'libvirtd', 'virtlogd'} <= set(names)
        assert traces() == before
        starter.kill()
    wait_for(lambda: processes(namespace), lambda left: not left, 10,
             'all processes to end')
    assert traces() == before
