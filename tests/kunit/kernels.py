# SPDX-License-Identifier: GPL-2.0-only
"""Kernels to test in: building the modules for them, and booting them."""

import contextlib
import fcntl
import filecmp
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import threading

from provided import pass_on_nice

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
DRIVER = 'virtio_balloon.c'
SOURCES = (DRIVER, 'Kbuild', 'Kconfig', 'Makefile', 'include',
           'tests/kunit')
SUFFIXES = ('.c', '.h', '')    # nothing that a build has made
OF = '.checkout'    # whose build this is
INIT = TOP / 'tests/kunit/init'
UML_MEMORY = 512 << 20


class CannotRun(Exception):
    """What has to be there before a test can run is not."""


def is_uml(name):
    """Whether that kernel is User Mode Linux, and not one for QEMU."""
    return name != 'debug'


def prepare(name):
    """Have scripts/prepare make the kernel; its NAME=value lines."""
    script = TOP / 'scripts/prepare'
    option = {'debug': '--debug-kernel'}.get(name, f'--{name}')
    if subprocess.run([script, option], check=False).returncode:
        raise CannotRun(f'scripts/prepare {option} failed')
    lines = subprocess.run([script, '--env', name], text=True, check=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    return dict(line.split('=', 1) for line in lines)


# Building

def source_files(top):
    """Names of all source files below TOP."""
    paths = []
    for name in SOURCES:
        path = top / name
        paths += [path] if path.is_file() else path.rglob('*')
    return {path.relative_to(top) for path in paths
            if path.suffix in SUFFIXES and path.is_file()
            and not path.name.startswith('.')}


def copy_sources(to):
    """Copy what changed, with the time of now, as older may come back."""
    wanted = source_files(TOP)
    for name in wanted:
        source, target = TOP / name, to / name
        if not target.exists() or not filecmp.cmp(source, target, False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for name in source_files(to) - wanted:
        if name.name not in ('Module.symvers', 'modules.order'):
            (to / name).unlink()


def remove_orphans(place):
    """Remove builds of checkouts that are gone."""
    for path in place.glob('*/' + OF):
        if not (pathlib.Path(path.read_text()) / 'tests/kunit').is_dir():
            shutil.rmtree(path.parent, ignore_errors=True)


def copy_mutant(mutant, source, to):
    """Make TO a folder with that mutant of the driver in SOURCE."""
    for name in SOURCES:
        link = to / name
        if name not in (DRIVER, 'tests/kunit') and not link.is_symlink():
            link.symlink_to(source / name)
    text = mutant.apply((source / DRIVER).read_text(encoding='utf-8'))
    (to / DRIVER).write_text(text, encoding='utf-8')


class Build:
    """Driver and tests, built for a kernel in a folder beside it.

    A mutant has a folder of its own, and the tests of the sound driver.
    COUNTED: without UBSAN, whose checks would count as branches not taken.
    """

    def __init__(self, name, env, mutant=None, counted=False):
        self.name, self.env = name, env
        self.mutant, self.counted = mutant, counted
        place = pathlib.Path(env['KDIR']).parent / 'kunit'
        remove_orphans(place)
        mark = hashlib.sha256(bytes(TOP)).hexdigest()[:8]
        mark += '-counted' if counted else ''
        self.dir = self._folder(place / mark)
        self.driver = self.dir if not mutant else self._folder(
            self.dir.with_name(self.dir.name + '-mutant'))
        self.log = self.driver / 'kernel.log'

    @staticmethod
    def _folder(path):
        path.mkdir(parents=True, exist_ok=True)
        (path / OF).write_text(str(TOP))
        return path

    @contextlib.contextmanager
    def locked(self):
        """Keep others out: they may change sources and modules."""
        with open(self.dir / '.lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def make(self):
        """Build both modules."""
        if not (TOP / 'tests/kunit/Kbuild').exists():
            raise CannotRun('there are no tests: no tests/kunit/Kbuild')
        copy_sources(self.dir)
        if self.mutant:
            copy_mutant(self.mutant, self.dir, self.driver)
        self._make(self.driver, self.driver)
        self._make(self.dir, self.dir / 'tests/kunit')

    def _make(self, top, folder):
        # gcov counts, and UBSAN looks, where these say so.
        ubsan = 'n' if self.counted else 'y'
        variables = ['GCOV_PROFILE=y', f'UBSAN_SANITIZE={ubsan}', 'KCFLAGS='
                     f'-fmacro-prefix-map={top}/=']
        arch = 'um' if is_uml(self.name) else 'x86_64'
        environment = {key: value for key, value in os.environ.items()
                       if key not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL')}
        # The kernel's Makefile drops LC_ALL.
        environment |= {'LANG': 'C', 'LC_MESSAGES': 'C', 'LANGUAGE': ''}
        done = subprocess.run(
            ['make', '-C', self.env['KDIR'], f'ARCH={arch}', f'M={folder}',
             f'-j{os.cpu_count()}', *variables, 'modules'], text=True,
            env=environment, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        if done.returncode:
            raise CannotRun(f'could not build {folder}:\n{done.stdout}')
        for line in done.stdout.splitlines():
            if 'warning:' in line:
                print(line)

    def modules(self):
        """Paths of the driver and of the tests."""
        return (self.driver / 'virtio_balloon.ko',
                self.dir / 'tests/kunit/virtio_balloon_kunit.ko')

    def copy_notes(self, to):
        """Copy what gcov needs beside the counts, as it is in the build."""
        for path in self.dir.rglob('*.gcno'):
            target = to / path.relative_to(self.dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


# The initramfs

def make_initramfs(path, build, files):
    """Write the initramfs; FILES: name -> text of those in /kunit."""
    busybox = shutil.which('busybox')
    if not busybox:
        raise CannotRun('no busybox: install busybox-static')
    root = path.parent / 'root'
    for name in ('bin', 'kunit'):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / 'bin/busybox')
    shutil.copy(INIT, root / 'init')
    (root / 'init').chmod(0o755)
    for module in build.modules():
        shutil.copy(module, root / 'kunit')
    for name, text in files.items():
        (root / 'kunit' / name).write_text(text + '\n')
    names = [str(item.relative_to(root)) for item in sorted(root.rglob('*'))]
    with open(path, 'wb') as archive:
        subprocess.run(['cpio', '-o', '-H', 'newc', '-R', '0:0', '--quiet'],
                       input='\n'.join(names).encode(), stdout=archive,
                       cwd=root, check=True)
    shutil.rmtree(root)


# Booting

CHECKS = ('panic=-1', 'oops=panic', 'kasan_multi_shot',
          'printk.devkmsg=on', 'kunit.enable=1')
# As one test needs it where there is one: it is off, and can be switched on.
PROFILE = 'sysctl.vm.mem_profiling=0'
# What free pages are filled with. Without KVM this is much of what a guest
# with two processors does.
POISON, ZERO = 'page_poison=1', 'init_on_free=1'
# The machine may be busy with other things.
PATIENCE = ('no_timer_check', 'rcupdate.rcu_cpu_stall_timeout=200',
            'workqueue.watchdog_thresh=200')


def fixed_addresses():
    """What gives a command the same addresses each time.

    Nothing where that is forbidden, as in some containers.
    """
    prefix = ['setarch', '-R']
    allowed = subprocess.run([*prefix, 'true'], check=False,
                             stderr=subprocess.DEVNULL).returncode == 0
    return prefix if allowed else []


def uml_command(env, tmp, fill=POISON):
    """The command for User Mode Linux. FILL: what fills free pages.

    Addresses decide about the order of some lists, and so about what happens
    to a random host: see fuzz_test.c.
    """
    words = ['mem=512M', f'initrd={tmp}/initrd', f'uml_dir={tmp}',
             'con=null', 'con0=null,fd:1', 'console=tty0', 'norandmaps',
             *CHECKS, fill, PROFILE, 'time-travel=inf-cpu']
    return [*fixed_addresses(), env['VMLINUZ'], *words]


def qemu_command(env, tmp, fill=()):
    """The command for QEMU. FILL: what fills free pages, if anything."""
    # Waiting takes its time here: with -icount sleep=off, where it takes none,
    # such a kernel executes several times slower, on one thread only.
    words = ['console=ttyS0', *CHECKS, *fill, *PATIENCE]
    return ['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64',
            '-nodefaults', '-no-user-config', '-display', 'none',
            '-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max',
            '-smp', '2', '-m', '640M', '-no-reboot',
            '-chardev', 'stdio,id=console,signal=off',
            '-serial', 'chardev:console',
            '-device', 'virtio-serial-pci,id=serial0',
            '-chardev', f'file,id=port,path={tmp}/gcov.tar',
            '-device', 'virtserialport,bus=serial0.0,nr=1,chardev=port',
            '-kernel', env['VMLINUZ'], '-initrd', f'{tmp}/initrd',
            '-append', ' '.join(words)]


class Group(subprocess.Popen):
    """A command whose children, of which UML has many, end with it."""

    def __init__(self, command, **options):
        super().__init__(command, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True, errors='replace',
                         start_new_session=True, **options)
        pass_on_nice(self.pid)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def __exit__(self, *details):
        self.kill()
        super().__exit__(*details)


class Machine(Group):
    """A running kernel; iterate over the lines that it prints."""

    def __init__(self, command, tmp, timeout):
        environment = dict(os.environ)
        if shutil.disk_usage('/dev/shm').free < UML_MEMORY:
            environment['TMPDIR'] = str(tmp)    # where UML keeps its memory
        super().__init__(command, env=environment, cwd=tmp,
                         stderr=subprocess.STDOUT)
        self.timed_out = False
        self.timer = threading.Timer(timeout, self._expired)
        self.timer.daemon = True
        self.timer.start()

    def _expired(self):
        self.timed_out = True
        self.kill()

    def __iter__(self):
        yield from self.stdout

    def __exit__(self, *details):
        self.timer.cancel()
        super().__exit__(*details)
