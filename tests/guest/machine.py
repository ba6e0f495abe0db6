# SPDX-License-Identifier: GPL-2.0-only
"""What to boot, and QEMU's command line for it."""

import ctypes
import dataclasses
import functools
import mmap
import os
import pathlib
import platform
import re
import time

from base import GuestError, parse_size
from initramfs import initramfs
from kernel_image import kernel
from provided import ARCH, environment, new_qemu
from qemu_trace import TRACE_EVENTS

BALLOON_ID = 'balloon0'
ROOT_PORT = 'port0'

# Seconds from starting QEMU to the agent's first word. A boot takes 3 to 8 s
# on an idle machine without KVM, so this only ends hopeless ones.
BOOT_TIMEOUT = 120

PLATFORMS = {
    # architecture -> (QEMU, machine, CPU, console)
    'amd64': ('qemu-system-x86_64', 'q35', 'max', 'ttyS0'),
    # Pointer authentication as the architecture has it is slow to emulate.
    'arm64': ('qemu-system-aarch64', 'virt', 'max,pauth-impdef=on',
              'ttyAMA0'),
    'ppc64el': ('qemu-system-ppc64', 'pseries', 'power9', 'hvc0'),
    's390x': ('qemu-system-s390x', 's390-ccw-virtio', 'max', 'ttysclp0'),
}
QEMU, MACHINE, CPU, CONSOLE = PLATFORMS[ARCH]
MACHINES = {
    # machine -> (-machine value, transport of its virtio devices, arguments)
    'q35': ('q35', 'pci', ()),
    'pc': ('pc', 'pci', ()),
    # Without PIC, as nobody sets that up, and it would raise exception 0.
    'microvm': ('microvm,acpi=on,pit=off,pic=off', 'device',
                ('-global', 'virtio-mmio.force-legacy=off')),
    'virt': ('virt', 'pci', ()),
    # Its smallest firmware; without what QEMU warns that it cannot emulate.
    'pseries': ('pseries,x-vof=on,cap-cfpc=broken,cap-sbbc=broken,'
                'cap-ibs=broken,cap-ccf-assist=off', 'pci', ()),
    's390-ccw-virtio': ('s390-ccw-virtio', 'ccw', ()),
}
# The virtio properties whose names really have underscores.
UNDERSCORED = {'any_layout', 'event_idx', 'indirect_desc', 'iommu_platform',
               'notify_on_empty', 'queue_reset', 'in_order', 'max_revision'}


@dataclasses.dataclass
class Config:
    """How to boot a guest; boot() says what each field is."""

    mem: str = '1G'
    smp: int = 1
    machine: str = MACHINE
    qemu: str = None
    balloon: object = True
    hotplug: bool = False
    driver: str = 'ours'
    params: str = ''
    append: str = ''
    trace: object = ()
    paused: bool = False
    incoming: bool = False
    reboot: bool = False
    extra: tuple = ()
    mem_backend: str = 'memory-backend-ram'
    modules: tuple = ()
    programs: tuple = ()
    shell: bool = False
    suspend: bool = False
    allow: tuple = ()
    allow_oom: bool = False
    timeout: float = BOOT_TIMEOUT
    props: dict = dataclasses.field(default_factory=dict)

    @property
    def size(self):
        """Bytes of RAM at boot."""
        return parse_size(self.mem.split(',')[0])

    @property
    def transport(self):
        """'pci', 'device' or 'ccw', as in the names of virtio devices."""
        return MACHINES[self.machine][1]

    @property
    def qemu_path(self):
        """The QEMU to run."""
        path = new_qemu() if self.qemu == 'new' else self.qemu or QEMU
        if not path:
            raise GuestError('the newer QEMU is not there: '
                             'scripts/prepare --new-qemu')
        return path

    @property
    def trace_events(self):
        """Globs of QEMU's trace events."""
        return TRACE_EVENTS if self.trace is True else tuple(self.trace or ())


def can_use_kvm():
    """Whether this machine has working hardware virtualization."""
    flags = pathlib.Path('/proc/cpuinfo').read_text()
    return (ARCH == 'amd64' and re.search(r'\b(vmx|svm)\b', flags) is not None
            and os.access('/dev/kvm', os.R_OK | os.W_OK))


RDTSC = bytes.fromhex('0f31 48c1e220 4809d0 c3')    # rdtsc, whole in rax, ret


@functools.cache
def tsc_khz():
    """Frequency of this machine's time stamp counter.

    It is the guest's as well without KVM, and a microvm, which has no other
    timer to measure it by, does not boot without knowing it.
    """
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE
                   | mmap.PROT_EXEC) as code:
        code.write(RDTSC)
        first = ctypes.c_char.from_buffer(code)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(first))
        samples = sorted(_tsc_sample(rdtsc) for _ in range(5))
        del first, rdtsc
    return round(samples[2])


def _tsc_sample(rdtsc):
    start, ticks = time.monotonic_ns(), rdtsc()
    time.sleep(0.01)
    end, ticks = time.monotonic_ns(), rdtsc() - ticks
    return ticks * 1e6 / (end - start)


def balloon_device(config, **more):
    """The balloon as a dictionary in the form that device_add takes."""
    name = (f'virtio-balloon-{config.transport}' if config.balloon is True
            else config.balloon)
    driver, *options = name.split(',')
    device = {'driver': driver, 'id': BALLOON_ID}
    if config.hotplug:
        device['bus'] = ROOT_PORT
    device.update(option.split('=', 1) for option in options)
    for key, value in {**config.props, **more}.items():
        if key not in UNDERSCORED:
            key = key.replace('_', '-')
        device[key] = value
    if device.get('free-page-hint') in (True, 'on'):
        device.setdefault('iothread', 'io0')
    return device


def _device_argument(device):
    words = [device['driver']]
    for key, value in device.items():
        if isinstance(value, bool):
            value = 'on' if value else 'off'
        if key != 'driver':
            words.append(f'{key}={value}')
    return ','.join(words)


def _balloon_arguments(config):
    arguments = []
    if config.hotplug:
        arguments += ['-device', f'pcie-root-port,id={ROOT_PORT},chassis=1']
    device = balloon_device(config) if config.balloon else {}
    if config.hotplug or 'iothread' in device:
        arguments += ['-object', 'iothread,id=io0']
    if device:
        arguments += ['-device', _device_argument(device)]
    return arguments


def kernel_command_line(config):
    # The check of the timer is wrong if the machine is busy, and panics.
    words = [f'console={CONSOLE} panic=-1 oops=panic no_timer_check']
    if config.driver:
        words.append(f'vb_driver={config.driver}')
    if config.params:
        words.append(f'vb_params="{config.params}"')
    if config.shell:
        words.append('vb_shell=1')
    if config.machine == 'microvm' and not can_use_kvm() \
            and platform.machine() == 'x86_64':
        words.append(f'tsc_early_khz={tsc_khz()}')
    return ' '.join([*words, config.append]).strip()


def _machine_arguments(config):
    accel = ['kvm'] if can_use_kvm() else ['tcg,thread=multi']
    return ['-nodefaults', '-no-user-config', '-display', 'none',
            '-machine', f'{MACHINES[config.machine][0]},memory-backend=ram',
            '-accel', *accel, '-cpu', CPU, '-smp', str(config.smp),
            '-m', config.mem,
            '-object', f'{config.mem_backend},id=ram,size={config.size}',
            *MACHINES[config.machine][2]]


def _channel_arguments(config, fds):
    """Console log, monitor, control channel and, if asked for, a shell."""
    arguments = ['-serial', 'chardev:console',
                 '-chardev', 'file,id=console,path=console.log',
                 '-chardev', f'socket,id=qmp,fd={fds["qmp"]}',
                 '-mon', 'chardev=qmp,mode=control',
                 '-chardev', f'socket,id=agent,fd={fds["agent"]}',
                 '-device', f'virtio-serial-{config.transport},id=serial0',
                 '-device', 'virtserialport,bus=serial0.0,nr=1,'
                 'chardev=agent,name=agent']
    if config.shell:
        arguments += ['-chardev', f'socket,id=shell,fd={fds["shell"]}',
                      '-device', 'virtconsole,bus=serial0.0,nr=2,'
                      'chardev=shell']
    return arguments


def qemu_command(config, fds):
    """The whole command line; FDS: sockets by channel name."""
    command = ['setpriv', '--pdeathsig', 'KILL', config.qemu_path,
               *_machine_arguments(config), *_channel_arguments(config, fds),
               *_balloon_arguments(config),
               # On waking up QEMU would load an ELF file once more.
               '-kernel', (environment()['VMLINUZ'] if config.suspend
                           else str(kernel())),
               '-initrd', str(initramfs(config.modules, config.programs)),
               '-append', kernel_command_line(config)]
    if not config.reboot:
        command.append('-no-reboot')
    if config.paused:
        command.append('-S')
    if config.incoming:
        command += ['-incoming', 'defer']
    for event in config.trace_events:
        command += ['-trace', event]
    return [*command, '-D', 'qemu.log', *config.extra]
