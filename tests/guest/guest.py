# SPDX-License-Identifier: GPL-2.0-only
"""Boot guests under QEMU, talk to them and to their balloon.

`boot()` is the one function that starts a guest, and it judges it at the end:
a guest that does not say it is up, that dies, hangs or logs a kernel problem
raises. All sizes are in bytes unless a name or docstring says KiB.

base         sizes, errors, waiting
provided     what scripts/prepare provides; a cache
initramfs, kernel_image  what QEMU boots
machine      Config and QEMU's command line
channels     QEMU's monitor and the agent in the guest
jobs         commands in the guest's background
guest_log    what a healthy kernel does not write
qemu_trace   what QEMU's trace says of the driver
balloon      the part of Guest that is about the balloon
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import re
import shlex
import socket
import subprocess
import tempfile
import time

from balloon import Balloon
from base import (GIB, HERE, KIB, MIB, PAGE, TOP, CommandFailed, GuestDied,
                  GuestError, GuestFault, GuestLog, GuestTimeout, QmpError,
                  parse_size, wait_for)
from channels import Agent, Qmp
from guest_log import PANIC, bad_lines
from jobs import Job
from machine import BALLOON_ID, MACHINES, Config, can_use_kvm, qemu_command
from provided import (balloon_modules, environment, new_qemu,
                      pass_on_nice)
from qemu_trace import TRACE_EVENTS, Buffer, Trace, TraceView

# All that a test may want, from whichever module.
__all__ = ['BALLOON_ID', 'GIB', 'HERE', 'KIB', 'MACHINES', 'MIB', 'PAGE',
           'TOP', 'TRACE_EVENTS', 'Buffer', 'CommandFailed', 'Config',
           'CpuTime', 'Guest', 'GuestDied', 'GuestError', 'GuestFault',
           'GuestLog', 'GuestTimeout', 'Job', 'QmpError', 'RESTORE_PMBASE',
           'SAVE_PMBASE', 'Trace', 'TraceView', 'bad_lines',
           'balloon_modules', 'boot', 'can_use_kvm', 'environment', 'fits',
           'new_qemu', 'parse_size', 'wait_for']

CpuTime = collections.namedtuple(
    'CpuTime', 'vcpu_user vcpu_system other_user other_system')

# The part of the chip set's configuration that places its power management:
# QEMU's firmware forgets it on waking up. Then the next suspend would be none,
# and nobody would hear that a device is to be pulled out; for that the event,
# which the kernel could not enable as it woke up, has to be enabled, too.
CHIPSET = '/sys/bus/pci/devices/0000:00:1f.0/config'
EVENT = '/sys/firmware/acpi/interrupts/gpe01'
SAVE_PMBASE = f'dd if={CHIPSET} of=/run/pmbase bs=8 skip=8 count=1'
RESTORE_PMBASE = (f'dd if=/run/pmbase of={CHIPSET} bs=8 seek=8 conv=notrunc; '
                  f'echo disable >{EVENT}; echo enable >{EVENT}')


class Guest(Balloon):
    """A running guest: what boot() yields."""

    def __init__(self, config, directory):
        self.config, self.directory = config, pathlib.Path(directory)
        self.process = None
        self.ended = False           # ended on purpose
        self.jobs = itertools.count(1)
        self.trace = Trace(self.directory / 'qemu.log')
        self._console_seen = 0
        self._guest_cpu = None
        self._sockets = {}
        self.shell = None

    # Life

    def start(self):
        """Start QEMU, and wait until the guest is up unless it is paused."""
        self._launch(['qmp', 'agent'] + ['shell'] * self.config.shell)
        self._monitor = Qmp(self._sockets['qmp'], self._watch)
        self._agent = Agent(self._sockets['agent'], self._watch)
        self.shell = self._sockets.get('shell')
        self._monitor.start()
        if not (self.config.paused or self.config.incoming):
            self.wait_up()

    def _launch(self, channels):
        """Start QEMU with a socket for each of CHANNELS."""
        _open_standard_files()
        with contextlib.ExitStack() as theirs:
            fds = {}
            for name in channels:
                self._sockets[name], other = socket.socketpair()
                fds[name] = theirs.enter_context(other).fileno()
            stderr = theirs.enter_context(
                open(self.directory / 'stderr', 'wb'))
            self.process = subprocess.Popen(
                qemu_command(self.config, fds), cwd=self.directory,
                pass_fds=fds.values(), stdin=subprocess.DEVNULL,
                stdout=stderr, stderr=stderr,
                start_new_session=True)    # so that Ctrl-C does not reach it
            pass_on_nice(self.process.pid)

    def wait_up(self, timeout=None):
        """Wait for the guest to come up, once for each boot or reset."""
        timeout = timeout or self.config.timeout
        self._agent.wait_up(timeout)
        status = self.sh('while [ ! -e /run/driver ]; do sleep 0.05; done;'
                         'cat /run/driver', timeout)
        if status.strip() != '0':
            raise GuestError(f'insmod of driver {self.config.driver!r} with '
                             f'parameters {self.config.params!r} failed: '
                             + self.sh('cat /run/insmod'))

    def close(self):
        """End QEMU, whatever its state."""
        if self.process:
            self.process.kill()
            self.process.wait()
        for sock in self._sockets.values():
            sock.close()

    def _watch(self):
        """Raise if the guest has died without being asked to."""
        if self.ended:
            return
        status = self.process.poll()
        if status is not None:
            raise GuestDied(f'QEMU ended with status {status}\n'
                            + self.junk())
        text = self.console(self._console_seen)
        self._console_seen += text.rfind('\n') + 1
        if PANIC.search(text) and bad_lines(text, self.config.allow):
            raise GuestDied('the guest panicked\n' + self.junk())

    def judge(self):
        """Raise if the guest is not well: dead, mute or with a bad log."""
        if not self.ended:
            self._watch()
            if self.running():
                self.sh('true')
        bad = self.complaints()
        if bad:
            raise GuestLog(bad)

    def complaints(self):
        """What of its log is bad, as text; '' if nothing is."""
        bad = bad_lines(self.console(), self.config.allow,
                        self.config.allow_oom)
        return '\n'.join(['the log of the guest has', *bad]) if bad else ''

    def junk(self, lines=40):
        """What to look at after a failure, as text."""
        parts = [('guest console', self.console())]
        for name in ('stderr', 'qemu.log'):
            path = self.directory / name
            if path.exists() and (name == 'stderr'
                                  or not self.config.trace_events):
                parts.append((f'QEMU {name}', path.read_text()))
        return '\n'.join(
            f'---- {title}, last lines ----\n'
            + '\n'.join(text.splitlines()[-lines:])
            for title, text in parts if text.strip())

    def last_status(self):
        """The driver's status file as far as it can still be had."""
        try:
            self._monitor.command('query-status', timeout=5)
            return self._agent.run(
                'cat /sys/kernel/debug/virtio_balloon/*/status', 5)[1]
        except (GuestError, OSError) as error:
            return f'not to be had: {error!s:.200}'

    # Commands in the guest

    def sh(self, command, timeout=60, check=True):
        """Output of COMMAND, run by the guest's shell as root.

        It is immune to the OOM killer, and not to be left running in the
        background: spawn() is for that.
        """
        status, output = self._agent.run(command, timeout)
        if check and status:
            raise CommandFailed(command, status, output)
        return output

    def spawn(self, command):
        """Run COMMAND in the background, killable by the OOM killer."""
        job = Job(self, next(self.jobs), command)
        job.start()
        return job

    def dmesg(self):
        """The guest's kernel log."""
        return self.sh('dmesg')

    def console(self, start=0):
        """What the guest wrote to its console, from character START on.

        There are no carriage returns in it, and none are counted.
        """
        path = self.directory / 'console.log'
        if not path.exists():
            return ''
        text = path.read_bytes().decode('latin-1')
        return text.replace('\r', '')[start:]

    @functools.cached_property
    def page(self):
        """Bytes in a page of the guest; PAGE is the protocol's."""
        return KIB * int(re.search(r'^KernelPageSize: +(\d+) kB', self.sh(
            'cat /proc/self/smaps'), re.M)[1])

    def meminfo(self):
        """/proc/meminfo: name -> KiB."""
        return {name: int(value) for name, value in re.findall(
            r'^(\S+):\s+(\d+)', self.sh('cat /proc/meminfo'), re.M)}

    def vmstat(self):
        """/proc/vmstat: name -> number."""
        words = self.sh('cat /proc/vmstat').split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def check_nobody_killed(self):
        """Raise if a program was killed for want of memory."""
        kills = self.vmstat()['oom_kill']
        if kills:
            raise GuestFault(f'programs killed for want of memory: {kills}')

    def free(self):
        """MemFree of the guest in KiB."""
        return self.meminfo()['MemFree']

    def available(self):
        """MemAvailable of the guest in KiB."""
        return self.meminfo()['MemAvailable']

    def touch(self, size):
        """Write SIZE bytes of guest memory, so that the host has to back it.

        They are free in the guest again on return.
        """
        self.sh(f'hog {int(size) // MIB}', timeout=300)

    def guest_cpu(self):
        """Busy fraction (0 to 1) of the guest's CPUs since the last call."""
        fields = self.sh('head -n1 /proc/stat').split()[1:9]
        ticks = [int(field) for field in fields]
        now = sum(ticks), ticks[3] + ticks[4]
        last, self._guest_cpu = self._guest_cpu or (0, 0), now
        total, idle = now[0] - last[0], now[1] - last[1]
        return 1 - idle / total if total else 0.0

    # QEMU

    @property
    def pid(self):
        """QEMU's process."""
        return self.process.pid

    @property
    def size(self):
        """Bytes of RAM that the guest was booted with."""
        return self.config.size

    def qmp(self, command, timeout=60, **args):
        """Run a QMP command; '_' in argument names stands for '-'."""
        return self._monitor.command(command, timeout, **args)

    @property
    def events(self):
        """The QMP events so far, oldest first."""
        return self._monitor.events

    def wait_event(self, name, since=0, timeout=60, **data):
        """The first QMP event NAME from index SINCE on that has DATA."""
        return self._monitor.wait_event(name, since, timeout, **data)

    def running(self):
        """Whether the virtual CPUs run."""
        return self.qmp('query-status')['running']

    def stop(self):
        """Pause the guest."""
        self.qmp('stop')

    def cont(self):
        """Let the guest go on."""
        self.qmp('cont')

    @contextlib.contextmanager
    def _rebooting(self):
        """Let a reset be a reset, where -no-reboot makes it the end."""
        self.qmp('set-action', reboot='reset')
        yield
        if not self.config.reboot:
            self.qmp('set-action', reboot='shutdown')

    def reset(self, timeout=None):
        """system_reset, and wait until the guest is up again."""
        with self._rebooting():
            self.qmp('system_reset')
            self.wait_up(timeout)

    def reboot(self, timeout=None):
        """Let the guest's kernel reboot, and wait until it is up again."""
        with self._rebooting():
            self._agent.lines.send("0 'reboot -f'\n", 30)
            self.wait_up(timeout)

    def suspend(self, seconds=0.5, timeout=60):
        """Suspend the guest to RAM, and wake it up after SECONDS."""
        since = len(self.events)
        job = self.spawn(f'{SAVE_PMBASE}; sleep 0.5\n'
                         'echo mem >/sys/power/state; status=$?\n'
                         f'{RESTORE_PMBASE}; exit $status')
        self.wait_event('SUSPEND', since, timeout)
        time.sleep(seconds)
        self.qmp('system_wakeup')
        if job.wait(timeout):
            raise GuestError('no suspend: ' + job.output())

    def shutdown(self, timeout=60):
        """Let the guest power itself off, and wait for QEMU's end."""
        self.ended = True
        self._agent.lines.send("0 'poweroff -f'\n", 30)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestTimeout(f'no power-off in {timeout} s\n'
                               + self.junk()) from None
        if status:
            raise GuestDied(f'QEMU ended with status {status}\n'
                            + self.junk())

    def migrate(self, other, timeout=120):
        """Move this guest to OTHER, booted alike but with incoming=True."""
        uri = f'unix:{self.directory}/migration'
        other.qmp('migrate-incoming', uri=uri)
        self.qmp('migrate', uri=uri)
        wait_for(lambda: self.qmp('query-migrate')['status'],
                 lambda status: status == 'completed', timeout,
                 'migration to complete')
        wait_for(other.running, bool, timeout, 'the migrated guest to run')

    def rss(self):
        """Bytes of the guest's RAM that the host backs with memory.

        It is what QEMU's smaps say of the mapping of the RAM block, which is
        found by its size.
        """
        return self._ram('Rss', 'Shared_Hugetlb', 'Private_Hugetlb')

    def huge(self):
        """Bytes of the guest's RAM that are in the host's huge pages."""
        return self._ram('AnonHugePages')

    def _ram(self, *names):
        """The sum, in bytes, of what smaps has by these names."""
        return max((size == self.size // KIB, size, values)
                   for size, values in self._mappings(names))[2] * KIB

    def _mappings(self, names):
        """(size, sum of NAMES) in KiB of each of QEMU's mappings."""
        smaps = pathlib.Path(f'/proc/{self.pid}/smaps').read_text()
        for text in re.split(r'^[0-9a-f]+-[0-9a-f]+ .*\n', smaps,
                             flags=re.M)[1:]:
            values = dict(re.findall(r'^(\w+): +(\d+) kB', text, re.M))
            yield int(values['Size']), sum(int(values.get(name, 0))
                                           for name in names)

    def cpu(self):
        """CPU seconds so far of QEMU's vCPU threads and of all others."""
        vcpus = {str(cpu['thread-id'])
                 for cpu in self.qmp('query-cpus-fast')}
        tick = os.sysconf('SC_CLK_TCK')
        times = [0, 0, 0, 0]
        for task in pathlib.Path(f'/proc/{self.pid}/task').iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = (task / 'stat').read_text().rpartition(')')[2].split()
                index = 0 if task.name in vcpus else 2
                times[index] += int(fields[11]) / tick
                times[index + 1] += int(fields[12]) / tick
        return CpuTime(*times)


def _open_standard_files():
    """Open /dev/null as each of the files 0 to 2 that is closed.

    A socket that got such a number would not get through to QEMU.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def fits(mib):
    """MIB (or bytes), or what can be had instead with a debug kernel: KASAN
    keeps an eighth of all memory, and what was freed for a while.
    """
    return mib * 3 // 4 if 'debug' in environment()['KREL'] else mib


@contextlib.contextmanager
def boot(mem='1G', *, props=(), **options):
    """Boot a guest; a context manager that yields a Guest.

    mem         RAM at boot, as QEMU's -m takes it ('1G,slots=2,maxmem=4G')
    smp         number of CPUs
    machine     'q35', 'pc' (slow without KVM) or 'microvm' (virtio-mmio)
    qemu        path of QEMU, 'new' for the newer one; None: Debian's
    balloon     True, or QEMU's name of the device with options; None: none
    hotplug     put the balloon on a PCIe root port, for hotplug_add/_del()
    driver      'ours', 'stock' or None: which module to load at boot
    params      its module parameters
    append      more of the kernel's command line
    trace       True (TRACE_EVENTS) or globs of QEMU's trace events
    paused      do not start the CPUs: use cont() and wait_up()
    incoming    wait for another guest's migrate()
    reboot      a reboot by the guest restarts it, instead of ending QEMU
    extra       more arguments for QEMU
    mem_backend QEMU's object for RAM, with options
    modules     more kernel modules to load at boot, before the driver
    programs    C sources, as paths, of more programs for the guest
    shell       a shell on Guest.shell (a socket)
    suspend     so that Guest.suspend() works; makes booting slower
    allow       regular expressions of log lines to let pass
    allow_oom   let the OOM killer's log lines pass
    timeout     seconds for booting
    props       properties of the balloon, as a dictionary; any other keyword
                is one too: free_page_reporting=True, packed=True

    On leaving, a guest that died, hangs or has a bad log raises. QEMU is
    gone in any case.
    """
    fields = {field.name for field in dataclasses.fields(Config)}
    config = Config(mem=mem, props={**dict(props), **{
        key: value for key, value in options.items() if key not in fields}},
        **{key: value for key, value in options.items() if key in fields})
    _check(config)
    with tempfile.TemporaryDirectory(prefix='vb-guest-') as directory:
        guest = Guest(config, directory)
        try:
            guest.start()
            yield guest
            guest.judge()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:    # as pytest's own are
            _report(guest)
            raise
        finally:
            guest.close()


def _check(config):
    """Raise early on what QEMU or the guest would only be obscure about."""
    if config.machine not in MACHINES:
        raise ValueError(f'no machine {config.machine!r}')
    if config.driver and config.driver not in balloon_modules():
        raise GuestError(f'there is no module for driver={config.driver!r}: '
                         'run scripts/prepare')
    if '"' in config.params:
        raise ValueError('no double quotes in params, please')


def _report(guest):
    """Print what helps to understand a failure; pytest shows it."""
    if guest.process is None:
        return
    print(f'\nQEMU: {shlex.join(map(str, guest.process.args))}')
    print(guest.junk(60))
    print(guest.complaints())
    if guest.process.poll() is None and not guest.ended:
        print(f'---- driver status ----\n{guest.last_status()}')
