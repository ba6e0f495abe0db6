# SPDX-License-Identifier: GPL-2.0-only
"""The balloon of a guest, as seen from both sides."""

import time

from base import GuestTimeout, wait_for
from machine import BALLOON_ID, balloon_device

FIND_BALLOON = """for d in /sys/bus/virtio/devices/*; do
    case $(cat $d/device 2>/dev/null) in 0x0005) echo ${d##*/};; esac
done"""


class Balloon:
    """What a Guest can do with its balloon.

    Guest, the only heir, has the channels that this needs.
    """

    # The balloon, from the host

    def balloon(self, size):
        """Ask the guest to make do with SIZE bytes."""
        self.qmp('balloon', value=int(size))

    def actual(self):
        """Bytes that the guest says it has."""
        return self.qmp('query-balloon')['actual']

    def wait_actual(self, size, timeout=60, tolerance=0):
        """Wait until actual() is SIZE, give or take TOLERANCE; seconds."""
        start = time.monotonic()
        try:
            wait_for(self.actual, lambda now: abs(now - size) <= tolerance,
                     timeout, f'actual to be {size}', 0.02)
        except GuestTimeout as error:
            raise GuestTimeout(f'{error}\n{self.last_status()}') from None
        return time.monotonic() - start

    def balloon_to(self, size, timeout=60, tolerance=0):
        """balloon() and wait_actual()."""
        self.balloon(size)
        return self.wait_actual(size, timeout, tolerance)

    def wait_settled(self, quiet=1.0, timeout=60):
        """Wait until actual() has not changed for QUIET seconds; its value."""
        deadline = time.monotonic() + timeout
        value, since = self.actual(), time.monotonic()
        while time.monotonic() - since < quiet:
            if time.monotonic() > deadline:
                raise GuestTimeout(f'actual still changes after {timeout} s: '
                                   f'{value}\n{self.last_status()}')
            time.sleep(0.05)
            if (now := self.actual()) != value:
                value, since = now, time.monotonic()
        return value

    def _qom(self, command, name, **value):
        return self.qmp(command, path=f'/machine/peripheral/{BALLOON_ID}',
                        property=name, **value)

    def stats_interval(self, seconds):
        """Let QEMU poll the statistics every SECONDS; 0: not at all."""
        self._qom('qom-set', 'guest-stats-polling-interval', value=seconds)

    def stats(self):
        """The guest's latest statistics: name -> value, as QEMU has them.

        Those that the guest has not sent are left out. 'last-update' is the
        time of the last ones, in seconds since 1970; 0: there are none.
        """
        answer = self._qom('qom-get', 'guest-stats')
        stats = {name: value for name, value in answer['stats'].items()
                 if value not in (-1, (1 << 64) - 1)}
        return {**stats, 'last-update': answer['last-update']}

    def wait_stats(self, count=1, timeout=60):
        """Wait for the COUNTth update of the statistics from now; them."""
        for _ in range(count):
            old = self.stats()['last-update']
            stats = wait_for(self.stats,
                             lambda new: new['last-update'] != old,
                             timeout, 'new statistics')
        return stats

    def hotplug_add(self, **props):
        """Plug in the balloon, with properties on top of boot()'s."""
        if not self.config.balloon:
            self.config.balloon = True
        self.qmp('device_add', **{key.replace('-', '_'): value
                 for key, value in
                 balloon_device(self.config, **props).items()})

    def hotplug_del(self, timeout=60):
        """Pull out the balloon, and wait until the guest has let it go."""
        since = len(self.events)
        self.qmp('device_del', id=BALLOON_ID)
        self.wait_event('DEVICE_DELETED', since, timeout, device=BALLOON_ID)

    # The balloon, from the guest

    def load(self, driver='ours', params='', timeout=60):
        """insmod a balloon driver, 'ours' or 'stock'."""
        self.sh(f'insmod /{driver}/virtio_balloon.ko {params}', timeout)

    def unload(self, timeout=60):
        """rmmod the balloon driver."""
        self.sh('rmmod virtio_balloon', timeout)

    def devices(self):
        """The guest's names of balloon devices, such as virtio1."""
        return self.sh(FIND_BALLOON).split()

    def wait_device(self, timeout=60):
        """The guest's name of the balloon device, once it has one."""
        return wait_for(self.devices, bool, timeout, 'a balloon device')[0]

    def features(self):
        """The feature bits negotiated for the balloon, as a set."""
        bits = self.sh(f'cat /sys/bus/virtio/devices/{self.wait_device()}'
                       '/features').strip()
        return {number for number, bit in enumerate(bits) if bit == '1'}

    def bind(self, timeout=60):
        """Bind the driver to the balloon through sysfs."""
        self._write_driver('bind', timeout)

    def unbind(self, timeout=60):
        """Unbind the driver from the balloon through sysfs."""
        self._write_driver('unbind', timeout)

    def _write_driver(self, name, timeout):
        self.sh(f'echo {self.wait_device()} >'
                f'/sys/bus/virtio/drivers/virtio_balloon/{name}', timeout)

    def status(self):
        """The driver's status file in debugfs: key -> text."""
        text = self.sh('cat /sys/kernel/debug/virtio_balloon/*/status')
        pairs = (line.split(':', 1) for line in text.splitlines()
                 if ':' in line)
        return {key.strip(): value.strip() for key, value in pairs}
