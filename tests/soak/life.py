# SPDX-License-Identifier: GPL-2.0-only
"""The life of a guest: what may happen to it, and whether it is well."""

import collections
import contextlib
import time

from guest import MIB, GuestError, boot, wait_for
from test_hinting import NOWHERE, finish, migration
from test_lifecycle import SPARE
from test_sizing import free

__all__ = ['GuestError', 'Life']

MEM = '1G'
# All programs together, in MiB: so much they always get. At most so many.
NEED, MANY = 240, 3
LEAST = 64 * MIB    # of what the host asks for
# A kernel with all checks on has ever more to remember.
LOST = 24 * SPARE
PARAMS = ('', '', 'deflate_mode=shrinker', 'pfns_per_buffer=256',
          'hint_order=4', 'report=0', 'oom_pages=4096', 'stats=spec')
PARAMETERS = '/sys/module/virtio_balloon/parameters'
PATIENCE = 200


class Life:
    """A guest to which things happen; act() is one of them."""

    def __init__(self, rng):
        self.rng, self.running = rng, None
        self.programs = []
        self.counts = collections.Counter()
        self.moved = 0    # bytes, as the host saw the balloon's size change
        self.actual = 0
        self.last = self.junk = ''
        self.total = self.before = 0
        self.actions = {
            self.resize: 30, self.flap: 8, self.settle: 8, self.program: 20,
            self.file: 6, self.compact: 6, self.drop_caches: 2,
            self.statistics: 4, self.pause: 4, self.report: 4,
            self.migrate: 6, self.reload: 4, self.rebind: 3, self.replug: 4,
            self.suspend: 3}

    @contextlib.contextmanager
    def guest(self):
        """Boot it, and keep what there is to see if it fails."""
        with boot(MEM, smp=2, hotplug=True, suspend=True, deflate_on_oom=True,
                  free_page_hint=True, free_page_reporting=True) as running:
            self.running = running
            running.wait_device()
            time.sleep(3)
            self.total = running.meminfo()['MemTotal']
            self.before, self.actual = free(running), running.actual()
            try:
                yield
            except BaseException:
                self.junk = running.junk()
                raise

    def act(self):
        """Do something, and see what became of the balloon."""
        action, = self.rng.choices(list(self.actions),
                                   self.actions.values())
        self.last = f'action {sum(self.counts.values())}, {action.__name__}'
        action()
        self.counts[action.__name__] += 1
        time.sleep(self.rng.expovariate(2))
        actual = self.running.actual()
        self.moved += abs(actual - self.actual)
        self.actual = actual
        self.end_programs()

    def told(self):
        """What was done, as text."""
        kinds = ', '.join(f'{name} {number}' for name, number
                          in self.counts.most_common())
        return (f'{sum(self.counts.values())} actions ({kinds}), at least '
                f'{self.moved / 1024 ** 3:.0f} GiB in and out of the balloon')

    # Whether it is well

    def end_programs(self, all_of_them=False):
        """Those that are done have found their memory as it was."""
        for job in list(self.programs):
            status = job.wait(PATIENCE) if all_of_them else job.poll()
            if status is not None:
                assert status == 0, f'{job.command} ended with {status}'
                self.programs.remove(job)

    def look(self):
        """Nothing is lost when all is given back."""
        self.last += ', look'
        self.end_programs(True)
        self.running.balloon_to(self.running.size, PATIENCE)
        wait_for(self.running.status, lambda now: now['held'] == '0 kB' and
                 now['hinted'] == now['hinting'] == '0 kB', PATIENCE,
                 'nothing to be held')
        wait_for(lambda: self.running.meminfo()['MemTotal'],
                 lambda now: now == self.total, 30, 'MemTotal to be as before')
        self.running.sh('echo 3 >/proc/sys/vm/drop_caches')
        wait_for(lambda: free(self.running),
                 lambda now: now >= self.before - LOST, 60,
                 f'{self.before - LOST} bytes to be free')
        assert self.running.vmstat()['oom_kill'] == 0, 'killed for memory'
        self.running.judge()
        lost = (self.before - free(self.running)) // MIB
        print(f'{time.strftime("%H:%M:%S")} {self.last}: all is there, '
              f'{lost} MiB less free than at first', flush=True)

    # What may happen

    def somewhere(self):
        """A size for the guest."""
        return LEAST + self.rng.randrange((self.running.size - LEAST)
                                          // 4096 + 1) * 4096

    def resize(self):
        """Another size."""
        self.running.balloon(self.somewhere())

    def flap(self):
        """Many sizes, with no time to reach them."""
        for _ in range(20):
            self.resize()
            time.sleep(self.rng.uniform(0, 0.1))

    def settle(self):
        """What can be reached is reached, exactly."""
        size = self.running.size - self.rng.randrange(256) * MIB
        self.end_programs(True)
        self.running.balloon_to(size, PATIENCE)

    def program(self):
        """One that checks its memory, if there are not too many."""
        if len(self.programs) < MANY:
            mib = self.rng.randint(8, NEED // MANY)
            hold = self.rng.uniform(0, 20)
            self.programs.append(
                self.running.spawn(f'hog -r {mib} {hold:.1f}'))

    def file(self):
        """Page cache, and memory of a file system."""
        mib = self.rng.randint(1, 40)
        self.running.sh(f'dd if=/dev/urandom of=/tmp/file bs=64k '
                        f'count={mib * 16} 2>/dev/null; rm -f /tmp/file',
                        PATIENCE)

    def compact(self):
        """mm moves pages, also the balloon's."""
        self.running.sh('echo 1 >/proc/sys/vm/compact_memory', PATIENCE)

    def drop_caches(self):
        """And shrinkers are called."""
        self.running.sh('echo 3 >/proc/sys/vm/drop_caches', PATIENCE)

    def statistics(self):
        """More or less often, or not at all."""
        self.running.stats_interval(self.rng.randrange(3))

    def pause(self):
        """The guest stands still for a moment."""
        self.running.stop()
        time.sleep(self.rng.uniform(0, 1))
        self.running.cont()

    def report(self):
        """Free page reporting on or off."""
        value = self.rng.randrange(2)
        self.running.sh(f'echo {value} >{PARAMETERS}/report')

    def migrate(self):
        """To nowhere, to the end or not; the guest goes on here."""
        speed = self.rng.choice((8, 64, 1000)) * MIB
        self.running.qmp('migrate-set-parameters', max_bandwidth=speed)
        self.running.qmp('migrate', uri=NOWHERE)
        time.sleep(self.rng.uniform(0, 1))
        if self.rng.random() < 0.5:
            if migration(self.running)['status'] != 'completed':
                finish(self.running)
            wait_for(self.running.running, lambda now: not now, 10,
                     'the end of the migration')
            self.running.cont()
        else:
            self.running.qmp('migrate_cancel')
            wait_for(lambda: migration(self.running)['status'],
                     lambda now: now in ('cancelled', 'completed'), 60,
                     'the end of the migration')
            if not self.running.running():
                self.running.cont()

    def reload(self):
        """The driver goes, with whatever the host has, and comes."""
        self.running.unload(PATIENCE)
        assert self.running.actual() == self.running.size
        self.running.load('ours', self.rng.choice(PARAMS), PATIENCE)
        self.running.wait_device()

    def rebind(self):
        """The same without its module."""
        self.running.unbind(PATIENCE)
        self.running.bind(PATIENCE)
        self.running.wait_device()

    def replug(self):
        """Another device."""
        self.running.hotplug_del(PATIENCE)
        self.running.hotplug_add()
        self.running.wait_device()

    def suspend(self):
        """To RAM, and back."""
        self.running.suspend(self.rng.uniform(0.2, 1), PATIENCE)
