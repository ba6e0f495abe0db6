# SPDX-License-Identifier: GPL-2.0-only
"""Guests that libvirt runs.

They are the guests of tests/guest in all that concerns their inside; QEMU and
its monitor are libvirt's, and so is the balloon: what there is to say about it
is said with virsh. All sizes are in bytes, but for those that dommemstat()
returns: they are libvirt's, in KiB.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import socket
import time
from xml.sax.saxutils import quoteattr

from base import KIB, GuestError, wait_for
from channels import Agent
from guest import Config, Guest
from host import VirshError
from initramfs import initramfs
from kernel_image import kernel
from machine import kernel_command_line

XML = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='b'>{size}</memory>
  <currentMemory unit='b'>{current}</currentMemory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='{folder}/console.log' append='on'/>
    </serial>
    <channel type='unix'>
      <source mode='bind' path='{folder}/agent'/>
      <target type='virtio' name='agent'/>
    </channel>
    {balloon}
  </devices>
</domain>
"""


@dataclasses.dataclass
class Options:
    """What a domain is defined with, besides the Config of its inside."""

    name: str = 'guest'
    current: int = None         # bytes; None: all there is
    model: str = 'virtio'       # of the balloon
    attributes: dict = dataclasses.field(default_factory=dict)
    packed: bool = False
    period: int = None          # seconds between statistics


def balloon_xml(options):
    """The domain's <memballoon>."""
    attributes = {'model': options.model, **options.attributes}
    inside = ''
    if options.packed:
        inside += "<driver packed='on'/>"
    if options.period is not None:
        inside += f"<stats period='{options.period}'/>"
    words = ' '.join(f'{name}={quoteattr(value)}'
                     for name, value in attributes.items())
    return f'<memballoon {words}>{inside}</memballoon>'


class Monitor:
    """QEMU's monitor, through libvirt; for what virsh has no word for."""

    def __init__(self, domain):
        self.domain = domain

    def command(self, name, timeout=60, **args):
        """Run a QMP command; '_' in argument names stands for '-'."""
        args = {key.replace('_', '-'): value for key, value in args.items()}
        answer = json.loads(self.domain.virsh(
            'qemu-monitor-command',
            json.dumps({'execute': name, 'arguments': args}),
            timeout=timeout))
        if 'error' in answer:
            raise VirshError(f'{name}: {answer["error"]["desc"]}')
        return answer['return']


class Domain(Guest):
    """A guest under libvirt: what domain() yields."""

    def __init__(self, host, config, options):
        self.folder = f'/run/{options.name}'
        super().__init__(config, host.path(self.folder))
        self.host, self.options = host, options
        self.name = options.name
        self._monitor = Monitor(self)

    # Life

    def xml(self):
        """The definition."""
        options, config = self.options, self.config
        return XML.format(
            name=self.name, size=config.size, folder=self.folder,
            current=options.current or config.size, kernel=kernel(),
            initrd=initramfs(config.modules),
            cmdline=kernel_command_line(config),
            emulator=shutil.which(config.qemu_path),
            balloon=balloon_xml(options))

    def start(self):
        """Define it, start it, and wait until it is up."""
        self.directory.mkdir()
        (self.directory / 'domain.xml').write_text(self.xml())
        self.host.virsh('define', f'{self.folder}/domain.xml')
        self.host.virsh('start', self.name, timeout=60)
        self.connect()
        self.wait_up()

    def resume_from(self, *command):
        """Have virsh start QEMU with the guest as it was."""
        self.host.virsh(*command, timeout=60)
        self.reconnect()

    def connect(self):
        """Open a channel to the agent."""
        self.disconnect()
        sock = self._sockets['agent'] = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.directory / 'agent'))
        self._agent = Agent(sock, self._watch)

    def reconnect(self):
        """Open a new channel to the agent of a guest that goes on.

        The agent starts anew if it has seen that the old one was closed, which
        may still come when the new one is open already.
        """
        self.connect()
        for _ in range(2):
            wait_for(self._agent_answers, bool, 60, 'the agent to answer')
            time.sleep(0.3)

    def _agent_answers(self):
        try:
            self._agent.run('true', 5)
        except GuestError:
            return False
        return True

    def disconnect(self):
        """Close the channel to the agent."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def arrive(self, host):
        """Be on another host from now on."""
        shutil.rmtree(self.directory)
        self.host, self.directory = host, host.path(self.folder)
        self._console_seen = 0
        self.reconnect()

    def close(self):
        """End QEMU, whatever its state, and forget the domain."""
        self.disconnect()
        with contextlib.suppress(VirshError):
            self.host.virsh('destroy', self.name)
        with contextlib.suppress(VirshError):
            self.host.virsh('undefine', '--managed-save', self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _watch(self):
        """Raise if the guest has panicked. That QEMU has died shows in the
        channel to the agent.
        """
        self.process = _Running
        super()._watch()

    def junk(self, lines=40):
        """What to look at after a failure, as text."""
        log = self.host.path(f'/var/log/libvirt/qemu/{self.name}.log')
        text = log.read_text() if log.exists() else ''
        return '\n'.join([super().junk(lines), '---- log of QEMU ----',
                          *text.splitlines()[-lines:]])

    # As libvirt has it

    def virsh(self, command, *words, timeout=30):
        """What a virsh command about this domain prints."""
        return self.host.virsh(command, self.name, *words, timeout=timeout)

    def running(self):
        """Whether the virtual CPUs run."""
        return self.virsh('domstate').strip() == 'running'

    def setmem(self, size):
        """Ask the guest to make do with SIZE bytes."""
        self.virsh('setmem', f'{size // KIB}k')

    def dommemstat(self):
        """Name -> number, in KiB where it is a size."""
        return {name: int(value) for name, value in re.findall(
            r'^(\S+) (\d+)$', self.virsh('dommemstat'), re.M)}

    def used(self):
        """Bytes that `virsh dominfo` says are in use."""
        match = re.search(r'^Used memory: +(\d+) KiB$',
                          self.virsh('dominfo'), re.M)
        return int(match[1]) * KIB

    def actual(self):
        """Bytes that the guest says it has."""
        return self.dommemstat()['actual'] * KIB

    def wait_size(self, size, timeout=60):
        """Wait until libvirt says in each place that the guest has SIZE."""
        self.wait_actual(size, timeout)
        # It goes by QEMU's events, of which there is one a second.
        wait_for(self.used, lambda now: now == size, 5,
                 f'dominfo to say {size}')

    def setmem_to(self, size, timeout=60):
        """setmem() and wait_size()."""
        self.setmem(size)
        self.wait_size(size, timeout)

    def total(self):
        """The guest's MemTotal in bytes."""
        return self.meminfo()['MemTotal'] * KIB

    def wait_update(self, timeout=30):
        """Wait for new statistics; them."""
        old = self.dommemstat()['last_update']
        return wait_for(self.dommemstat,
                        lambda new: new['last_update'] > old, timeout,
                        'new statistics')

    def stays(self, get, seconds=2):
        """Assert that get() does not change for SECONDS; its value."""
        value, end = get(), time.monotonic() + seconds
        while time.monotonic() < end:
            now = get()
            if now != value:
                raise GuestError(f'{value} has become {now}')
            time.sleep(0.1)
        return value


class _Running:
    """In place of QEMU's process, which libvirt watches."""

    @staticmethod
    def poll():
        """The exit status."""


@contextlib.contextmanager
def domain(host, mem='1G', **options):
    """Run a guest on HOST; a context manager that yields a Domain.

    Options are the fields of Options, and of Config in tests/guest. On
    leaving, a guest that died, hangs or has a bad log raises.
    """
    names = {field.name for field in dataclasses.fields(Options)}
    outside = {key: options.pop(key) for key in names & options.keys()}
    running = Domain(host, Config(mem=mem, **options), Options(**outside))
    try:
        running.start()
        yield running
        running.judge()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:    # as pytest's own are
        print(running.junk(60))
        raise
    finally:
        running.close()
