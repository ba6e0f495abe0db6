# SPDX-License-Identifier: GPL-2.0-only
"""The life of a guest: what may happen to it, and whether it is well."""

import collections
import contextlib
import time

from guest import MIB, GuestError, boot, fits, wait_for
from test_hinting import NOWHERE, finish, migration
from test_lifecycle import SPARE
from test_sizing import free, held_after, wait_counted

__all__ = ['GuestError', 'Life']

MEM = '1G'
# All programs together, in MiB: so much they always get. At most so many.
NEED, MANY = 240, 3
# What the host asks for at least, with deflate-on-oom and without
LEAST = {True: 64 * MIB, False: 768 * MIB}
# A kernel with all checks on has ever more to remember.
LOST = 2 * SPARE if fits(4) == 4 else 6 * SPARE
# What the status file counts since the driver got its device: all of it has
# to happen in LONG_LIFE actions.
SEEN = ('returned', 'migrated', 'oom', 'shrunk', 'hinted_total', 'reported')
LONG_LIFE = 1000
PARAMS = ('', '', 'deflate_mode=shrinker', 'pfns_per_buffer=256',
          'hint_order=4', 'report=0', 'oom_pages=4096', 'stats=spec')
PARAMETERS = '/sys/module/virtio_balloon/parameters'
PATIENCE = 200


class Life:
    """A guest to which things happen; act() is one of them."""

    def __init__(self, rng):
        self.rng, self.running = rng, None
        self.programs, self.checksum = [], ''
        self.counts = collections.Counter()
        self.seen, self.status = collections.Counter(), {}
        self.moved = 0    # bytes, as the host saw the balloon's size change
        self.actual = self.good = 0
        self.deflates = True
        self.last = self.junk = ''
        self.did = collections.deque(maxlen=40)
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
                  free_page_hint=True, free_page_reporting=True,
                  trace=True) as running:
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
        self.counts[action() or action.__name__] += 1
        time.sleep(self.rng.expovariate(2))
        actual = self.running.actual()
        self.moved += abs(actual - self.actual)
        self.actual = actual
        self.end_programs()

    def told(self):
        """What was done, as text."""
        kinds = ', '.join(f'{name} {number}' for name, number
                          in self.counts.most_common())
        seen = ', '.join(f'{name} {self.seen[name]}' for name in SEEN)
        return (f'{sum(self.counts.values())} actions ({kinds}), at least '
                f'{self.moved / 1024 ** 3:.0f} GiB in and out of the '
                f'balloon; as the driver counts (kB, oom: times): {seen}')

    def _do(self, command, *args):
        """Have it in what is told of a failure, too."""
        self.did.append(f'{self.last}: {" ".join(map(str, args))}')
        return command(*args)

    # Whether it is well

    def end_programs(self, all_of_them=False):
        """Those that are done have found their memory as it was."""
        for job in list(self.programs):
            status = job.wait(PATIENCE) if all_of_them else job.poll()
            if status is not None:
                assert status == 0, f'{job.command} ended with {status}'
                self.programs.remove(job)

    def count(self):
        """Add up what the driver has counted since the last time."""
        status = self.running.status()
        for name in SEEN:
            now = int(status[name].split()[0])
            self.seen[name] += now - self.status.get(name, 0)
            self.status[name] = now

    def look(self):
        """Nothing is lost when all is given back."""
        self.last += ', look'
        self.end_programs(True)
        self.end_file()
        self.running.balloon_to(self.running.size, PATIENCE)
        wait_for(self.running.status, lambda now: now['held'] == '0 kB' and
                 now['hinted'] == now['hinting'] == '0 kB', PATIENCE,
                 'nothing to be held')
        wait_counted(self.running, 0)
        assert not held_after(self.running.trace.view()), \
            'the host was not told of all pages'
        self.running.trace.forget()
        self.count()
        wait_for(lambda: self.running.meminfo()['MemTotal'],
                 lambda now: now == self.total, 30, 'MemTotal to be as before')
        self.running.sh('echo 3 >/proc/sys/vm/drop_caches')
        wait_for(lambda: free(self.running),
                 lambda now: now >= self.before - LOST, 60,
                 f'{self.before - LOST} bytes to be free')
        assert self.running.vmstat()['oom_kill'] == 0, 'killed for memory'
        self.running.judge()
        lost = (self.before - free(self.running)) // MIB
        self.good += 1
        print(f'{time.strftime("%H:%M:%S")} {self.last}: all is there, '
              f'{lost} MiB less free than at first', flush=True)

    def look_back(self):
        """A life that was long has seen everything."""
        if sum(self.counts.values()) >= LONG_LIFE:
            missing = [name for name in SEEN if not self.seen[name]]
            assert not missing, f'never: {", ".join(missing)}'

    # What may happen

    def somewhere(self):
        """A size for the guest."""
        least = LEAST[self.deflates]
        return least + self.rng.randrange((self.running.size - least)
                                          // 4096 + 1) * 4096

    def resize(self):
        """Another size."""
        self._do(self.running.balloon, self.somewhere())

    def flap(self):
        """Many sizes, with no time to reach them."""
        for _ in range(20):
            self.resize()
            time.sleep(self.rng.uniform(0, 0.1))

    def settle(self):
        """What can be reached is reached, exactly."""
        size = self.running.size - self.rng.randrange(256) * MIB
        self.end_programs(True)
        self._do(self.running.balloon_to, size, PATIENCE)

    def program(self):
        """One that checks its memory, if there are not too many."""
        mib = self.rng.randint(8, NEED // MANY)
        hold = self.rng.uniform(0, 20)
        if len(self.programs) >= MANY:
            return 'no program, there were enough'
        self.programs.append(self._do(self.running.spawn,
                                      f'hog -r {mib} {hold:.1f}'))
        return None

    def file(self):
        """Page cache, and memory of a file system."""
        self.end_file()
        mib = self.rng.randint(1, 40)
        self.checksum = self._do(
            self.running.sh, 'dd if=/dev/urandom bs=64k '
            f'count={mib * 16} 2>/dev/null | tee /tmp/file | md5sum',
            PATIENCE)

    def end_file(self):
        """The file is as it was written."""
        if self.checksum:
            assert self.running.sh('md5sum </tmp/file; rm /tmp/file',
                                   PATIENCE) == self.checksum
        self.checksum = ''

    def compact(self):
        """mm moves pages, also the balloon's."""
        self._do(self.running.sh, 'echo 1 >/proc/sys/vm/compact_memory',
                 PATIENCE)

    def drop_caches(self):
        """And shrinkers are called."""
        self.running.sh('echo 3 >/proc/sys/vm/drop_caches', PATIENCE)

    def statistics(self):
        """More or less often, or not at all."""
        self._do(self.running.stats_interval, self.rng.randrange(3))

    def pause(self):
        """The guest stands still for a moment."""
        self.running.stop()
        time.sleep(self.rng.uniform(0, 1))
        self.running.cont()

    def report(self):
        """Free page reporting on or off."""
        value = self.rng.randrange(2)
        self._do(self.running.sh, f'echo {value} >{PARAMETERS}/report')

    def migrate(self):
        """To nowhere, to the end or not; the guest goes on here."""
        speed = self.rng.choice((8, 64, 1000)) * MIB
        self.running.qmp('migrate-set-parameters', max_bandwidth=speed)
        seconds, ends = self.rng.uniform(0, 1), self.rng.random() < 0.5
        self.running.qmp('migrate', uri=NOWHERE)
        self._do(time.sleep, seconds)
        if ends:
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
        self.count()
        self.running.unload(PATIENCE)
        assert self.running.actual() == self.running.size
        self._do(self.running.load, 'ours', self.rng.choice(PARAMS), PATIENCE)
        self.running.wait_device()
        self.status = {}

    def rebind(self):
        """The same without its module."""
        self.count()
        self.running.unbind(PATIENCE)
        self.running.bind(PATIENCE)
        self.running.wait_device()
        self.status = {}

    def replug(self):
        """Another device, which may not be one that deflates on OOM."""
        deflates = self.rng.random() < 0.7
        self.count()
        self.running.hotplug_del(PATIENCE)
        self.deflates = deflates
        self.running.hotplug_add(deflate_on_oom=deflates)
        self.running.wait_device()
        self.status = {}

    def suspend(self):
        """To RAM, and back."""
        self._do(self.running.suspend, self.rng.uniform(0.2, 1), PATIENCE)
