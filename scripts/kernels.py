#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Build and test the driver for every kernel series that it supports.

Which kernels there are, is looked up in Debian's suites each day. They are
unpacked in a cache folder; nothing is installed.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import filecmp
import functools
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
SERIES = ('5.10', '6.1', '6.12', '7.2', '7.3')
# The oldest and the newest: what --ci boots, as scripts/test has booted 6.1.
BOOTED_BY_CI = ('5.10', '7.3')
# Debian suites that have them; libraries for the tools of the newest, too.
SUITES = ('bookworm', 'trixie', 'trixie-backports')
SECURITY_SUITES = ('bullseye-security', 'bookworm-security')

DAY = 24 * 60 * 60
# Of a kernel's modules; no guest of the tests has such hardware.
UNUSED = ('sound', 'net', 'drivers/gpu', 'drivers/net', 'drivers/media',
          'drivers/infiniband', 'drivers/staging', 'drivers/usb',
          'drivers/iio', 'drivers/scsi', 'drivers/hwmon', 'drivers/input')

# Debian's newer kernels are made by newer compilers, and may ask for what the
# compiler here does not know. The modules' BTF needs a newer pahole, and
# nothing here reads it.
MAKE = ('W=1', 'CC=gcc', 'CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=',
        'CONFIG_DEBUG_INFO_BTF_MODULES=', 'modules')
# That compiler and pahole are not those of the kernel is no warning here.
WARNING = re.compile(r'(?!warning: (?:the compiler|pahole) ).*\bwarning:',
                     re.I)

WRAPPER = """\
#!/bin/sh
exec {lib}/ld-linux-x86-64.so.2 --library-path {lib} --argv0 "$0" {tool} "$@"
"""


class KernelsError(Exception):
    """Something that the user has to know; no traceback."""


def say(text):
    """Tell what takes so long."""
    print(f'kernels: {text}', file=sys.stderr, flush=True)


def run(*command, **options):
    """Output of a command, which must not fail."""
    done = subprocess.run([*map(str, command)], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **options)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise KernelsError(f'failed: {shlex.join(map(str, command))}')
    return done.stdout


def cache_folder():
    """As in scripts/prepare; a relative path is to be ignored."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    if not base.startswith('/'):
        base = pathlib.Path.home() / '.cache'
    return pathlib.Path(base) / 'virtio-balloon'


CACHE = cache_folder()
MATRIX = CACHE / 'matrix'


# What Debian has

class Apt:
    """Debian's suites, with lists and a state of our own in TOP."""

    def __init__(self, top, suites, security_suites=(), more=()):
        self.top, self.dir = top, top / 'apt'
        self.suites = (False, suites), (True, security_suites)
        self.architectures = ('amd64', *more)
        self.options = [
            *(f'-oAPT::Architectures::={name}' for name in self.architectures),
            '-o', 'APT::Sandbox::User=root',
            '-o', f'Dir::Etc::SourceList={self.dir}/sources.list',
            '-o', 'Dir::Etc::SourceParts=/dev/null',
            '-o', 'Dir::Etc::Preferences=/dev/null',
            '-o', 'Dir::Etc::PreferencesParts=/dev/null',
            '-o', f'Dir::State={self.dir}/state',
            '-o', f'Dir::State::Status={self.dir}/status',
            '-o', f'Dir::Cache={self.dir}/cache',
            # Some machines keep none, and to make it takes most of the time.
            '-o', 'Dir::Cache::pkgcache=pkgcache.bin',
            '-o', 'Dir::Cache::srcpkgcache=srcpkgcache.bin',
            '-o', 'Acquire::Languages=none']

    def sources(self):
        """Lines for all suites, from the mirrors that the machine uses."""
        targets = run('apt-get', 'indextargets', 'Created-By: Packages',
                      '--format', '$(ORIGIN)|$(CODENAME)|$(REPO_URI)')
        mirrors = {}
        for line in targets.splitlines():
            origin, codename, uri = line.split('|')
            if origin == 'Debian':
                mirrors.setdefault(codename.endswith('-security'), uri)
        options = f'arch={",".join(self.architectures)}'
        keys = '/usr/share/keyrings/debian-archive-keyring.gpg'
        if os.path.exists(keys):
            options += f' signed-by={keys}'
        return [f'deb [{options}] {mirrors[security]} {suite} main\n'
                for security, suites in self.suites
                for suite in suites if security in mirrors]

    def update(self, force=False):
        """Refresh the lists, if they are of yesterday; whether that was so."""
        stamp = self.dir / 'updated'
        sources = ''.join(self.sources())
        with contextlib.suppress(FileNotFoundError):
            if not force and stamp.read_text() == sources and \
                    time.time() - stamp.stat().st_mtime < DAY:
                return False
        say('refreshing the package lists')
        self.__dict__.pop('names', None)
        for name in ('state/lists/partial', 'cache/archives/partial'):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        (self.dir / 'sources.list').write_text(sources)
        (self.dir / 'status').touch()
        # A suite that is gone costs its kernels, not those of the others.
        done = subprocess.run(['apt-get', '-q', *self.options, 'update'],
                              text=True, check=False, stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL)
        sys.stderr.write(done.stderr)
        stamp.write_text(sources)
        if done.returncode:
            stamp.unlink()
        return True

    @functools.cached_property
    def names(self):
        """Names of all kernel packages."""
        return set(run('apt-cache', *self.options, 'pkgnames',
                       'linux-').split())

    def depends(self, package, *options):
        """Names of what a package needs, directly or (--recurse) not."""
        lines = run('apt-cache', *self.options, 'depends', '--important',
                    *options, package).splitlines()
        # Packages for all architectures are <NAME:ARCH> to those for others.
        found = (re.match(r' *\|?Depends: (?:<(\S+):\w+>|([^<]\S*))', line)
                 for line in lines)
        return [match[1] or match[2] for match in found if match]

    def unpack(self, packages, folder):
        """Fetch packages and unpack them. No script of them runs."""
        with tempfile.TemporaryDirectory(dir=self.top, prefix='.tmp.') as debs:
            run('apt-get', '-q', *self.options, 'download', *packages,
                cwd=debs)
            for deb in sorted(pathlib.Path(debs).iterdir()):
                run('dpkg', '-x', deb, folder)


APT = Apt(MATRIX, SUITES, SECURITY_SUITES)


def newest_release(series, flavour, apt):
    """The newest release of a series that has headers and an image."""
    pattern = re.compile(rf'linux-headers-({re.escape(series)}[.-]'
                         rf'(?!\S*-(?:rt|cloud)-)\S+-{flavour})')
    found = [match[1] for match in map(pattern.fullmatch, apt.names) if match]
    found = [release for release in found if image_packages(release, apt)]
    if not found:
        raise KernelsError(f'Debian has no kernel {series} of {flavour} now')
    return max(found, key=functools.cmp_to_key(compare_versions))


def compare_versions(one, other):
    """As dpkg does: negative, 0 or positive."""
    def is_true(relation):
        return not subprocess.run(['dpkg', '--compare-versions', one,
                                   relation, other], check=False).returncode
    return is_true('gt') - is_true('lt')


def image_packages(release, apt):
    """Names of the packages with the kernel and its modules, or ()."""
    for names in ((f'linux-binary-{release}', f'linux-modules-{release}',
                   f'linux-base-{release}'), (f'linux-image-{release}',)):
        if apt.names.issuperset(names):
            return names
    return ()


# Unpacked kernels

@dataclasses.dataclass(frozen=True)
class Kernel:
    """An unpacked kernel, and the driver that is built for it."""

    series: str
    release: str
    flavour: str = 'amd64'
    # Not of a kernel, but of all that this class is for:
    top, apt, make = MATRIX, APT, MAKE

    @property
    def name(self):
        """For messages."""
        return self.series

    @property
    def dir(self):
        """Where it is, or will be: scripts/prepare may have it."""
        shared = CACHE / 'kernels' / self.release
        return shared if shared.is_dir() else self.top / self.release

    @property
    def build_dir(self):
        """For the driver."""
        return self.top / 'build' / self.release

    @property
    def module(self):
        """The driver."""
        return self.build_dir / 'virtio_balloon.ko'

    def environment(self):
        """What tests/guest needs to know, as scripts/prepare --env has it."""
        modules = self.dir / 'lib/modules' / self.release
        stock = [*modules.glob('kernel/drivers/virtio/virtio_balloon.ko*')]
        return {'VB_CACHE': self.build_dir, 'VB_KREL': self.release,
                'VB_VMLINUZ': self.dir / 'vmlinuz',
                'VB_KDIR': self.dir / 'build', 'VB_MODDIR': modules,
                'VB_MODULE': self.module,
                'VB_STOCK': stock[0] if stock else '', 'VB_QEMU_NEW': ''}

    def packages(self):
        """Names of the packages it is in."""
        return [*image_packages(self.release, self.apt),
                f'linux-headers-{self.release}']

    def fetch(self):
        """Make it whole, or not at all."""
        if self.dir.is_dir():
            return
        # With kbuild's tools for this machine, whatever the kernel's is.
        more = [name.partition(':')[0] for name in
                self.apt.depends(f'linux-headers-{self.release}')
                if re.match('linux-(headers|kbuild)-', name)]
        say(f'{self.name}: fetching {self.release}')
        with tempfile.TemporaryDirectory(dir=self.top, prefix='.tmp.') as new:
            new = pathlib.Path(new) / 'kernel'
            self.apt.unpack([*self.packages(), *more], new)
            self._arrange(new)
            self._wrap_tools(new, [name for name in more if 'kbuild' in name])
            new.rename(self.dir)

    def _arrange(self, new):
        """The same places in all; headers name each other by full path."""
        modules = new / 'lib/modules'
        if not modules.is_dir():
            modules.parent.mkdir(exist_ok=True)
            (new / 'usr/lib/modules').rename(modules)
        modules /= self.release
        image = [*new.glob('boot/vmlinu[xz]-*'), *modules.glob('vmlinuz*')]
        image[0].rename(new / 'vmlinuz')
        for name in UNUSED:
            shutil.rmtree(modules / 'kernel' / name, ignore_errors=True)
        for name in ('boot', 'usr/share'):
            shutil.rmtree(new / name, ignore_errors=True)
        headers = f'usr/src/linux-headers-{self.release}'
        makefile = new / headers / 'Makefile'
        makefile.write_text(makefile.read_text().replace(
            '/usr/src/', f'{self.dir}/usr/src/'))
        (new / 'build').symlink_to(headers)
        run('depmod', '-b', new, self.release)

    def _wrap_tools(self, new, packages):
        """Let tools that are too new for this machine have a newer libc."""
        lib = self.dir / 'tools'
        tools = [path for path in (new / 'usr/lib').glob('linux-kbuild-*/**/*')
                 if path.is_file() and not path.is_symlink()
                 and path.read_bytes()[:4] == b'\x7fELF'
                 and is_too_new(path)]
        if not tools:
            return
        names = {name for package in packages
                 for name in self.apt.depends(package, '--recurse')
                 if re.match(r'lib|zlib', name)}
        self.apt.unpack(sorted(names), new / 'tools.deb')
        (new / 'tools').mkdir()
        for path in (new / 'tools.deb').glob('**/x86_64-linux-gnu/*.so*'):
            if not (new / 'tools' / path.name).exists():
                shutil.copy(path, new / 'tools')
        shutil.rmtree(new / 'tools.deb')
        for tool in tools:
            elf = tool.with_name(tool.name + '.elf')
            tool.rename(elf)
            tool.write_text(WRAPPER.format(
                lib=lib, tool=self.dir / elf.relative_to(new)))
            tool.chmod(0o755)

    def is_built(self):
        """Whether there is a driver, made of what is here now."""
        return self.module.exists() and all(
            (self.build_dir / name).exists() and
            filecmp.cmp(self.build_dir / name, TOP / name, shallow=False)
            for name in sources())

    def build(self):
        """Build the driver; its warnings, or None if it did not build."""
        shutil.rmtree(self.build_dir, ignore_errors=True)
        for name in sources():
            path = self.build_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, path)
        done = subprocess.run(
            ['make', '-C', self.dir / 'build', f'M={self.build_dir}',
             *self.make],
            text=True, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, 'LC_ALL': 'C'})
        log = self.build_dir / 'build.log'
        log.write_text(done.stdout)
        warnings = [*filter(WARNING.match, done.stdout.splitlines())]
        if done.returncode or not self.module.exists():
            say(f'{self.name}: the driver was not built, see {log}')
            return None
        for line in warnings:
            say(f'{self.name}: {line}')
        return warnings

    def test(self, *arguments):
        """Run the core tests in guests: (passed, failed).

        What may have been late, beside all else that runs, is run once more.
        """
        log = self.build_dir / 'test.log'
        # What is run once more is to get the same random numbers.
        os.environ.setdefault('VB_SEED', str(random.randrange(1 << 32)))
        say(f'{self.name}: testing, see {log}')
        with log.open('w') as out:
            passed, failed, late = self.pytest(out, *arguments,
                                               TOP / 'tests/guest')
            if late:
                again, failed, _ = self.pytest(
                    out, *(TOP / name for name in late))
                passed += again
                say(f'{self.name}: LATE {" ".join(late)}, now '
                    f'{again} passed, {failed} failed')
        for line in log.read_text().splitlines():
            if failed and re.match(r'(FAILED|ERROR) ', line):
                say(f'{self.name}: {line}')
        return passed, failed or int(not passed)

    def pytest(self, out, *arguments):
        """One run of pytest: passed, failed, names of what may be late."""
        counts = self.build_dir / 'counts'
        late = self.build_dir / 'counts.late'
        counts.unlink(missing_ok=True)
        environment = {name: str(value)
                       for name, value in self.environment().items()}
        subprocess.run(
            [sys.executable, '-m', 'pytest', '-v', '-ra', '--rootdir', TOP,
             '-p', 'no:cacheprovider', *arguments],
            cwd=TOP, check=False, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, **environment, 'VB_COUNTS': str(counts),
                 'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONUNBUFFERED': '1'})
        if not counts.exists():
            return 0, 1, []
        passed, failed = map(int, re.findall(r'\d+', counts.read_text())[:2])
        return passed, failed, late.read_text().splitlines()


def sources():
    """What the driver is built of, as seen from the top."""
    return ['virtio_balloon.c', 'Kbuild', 'Makefile',
            *(path.relative_to(TOP)
              for path in sorted((TOP / 'include').rglob('*.h')))]


def is_too_new(path):
    """Whether a program needs a newer C library than this machine's."""
    done = subprocess.run(['ldd', path], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return 'version `GLIBC' in done.stdout


def newest_kernel(series, flavour, kind):
    """The newest kernel of a series, unpacked."""
    kernel = kind(series, newest_release(series, flavour, kind.apt), flavour)
    kernel.fetch()
    return kernel


def provide(series, flavour='amd64', kind=Kernel):
    """newest_kernel(), or None; older ones go."""
    try:
        fresh = kind.apt.update()
        try:
            kernel = newest_kernel(series, flavour, kind)
        except KernelsError:
            # Old lists name packages that the mirror no longer has.
            if fresh:
                raise
            kind.apt.update(force=True)
            kernel = newest_kernel(series, flavour, kind)
    except KernelsError as error:
        say(error)
        return None
    for folder in (kind.top, kind.top / 'build'):
        for old in folder.glob(f'{series}[.-]*-{flavour}'):
            if old.name != kernel.release:
                shutil.rmtree(old)
    return kernel


# What is shown

def row(series, kernel, marks):
    """A row of the table: (cells, number of passed, of failed).

    KERNEL is None if there is none; MARKS choose tests, None: no test. To
    build without a warning counts as one.
    """
    if not kernel:
        return (series, 'none', '', '', ''), 0, 1
    say(f'{series}: building the driver for {kernel.release}')
    warnings = kernel.build()
    if warnings is None:
        return (series, kernel.release, 'FAILED', '', ''), 0, 1
    passed, failed, result, start = 0, 0, '', time.monotonic()
    if marks:
        passed, failed = kernel.test('-m', marks)
        result = f'{passed} passed'
        if failed:
            result += f', {failed} FAILED'
        result += f' ({time.monotonic() - start:.0f} s)'
    return ((series, kernel.release, 'yes', str(len(warnings)), result),
            passed + (not warnings), failed + bool(warnings))


def show(head, rows):
    """Print the table of row()s, and the sum; the exit status."""
    table = [head, *(cells for cells, _, _ in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    print()
    for cells in table:
        print('  '.join(cell.ljust(width) for cell, width
                        in zip(cells, widths)).rstrip())
    passed, failed = (sum(row[n] for row in rows) for n in (1, 2))
    print(f'\n{passed} passed, {failed} failed')
    return 1 if failed else 0


def options():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='scripts/kernels', description='Build the driver with all '
        'warnings (W=1) for the newest Debian kernel of each series that it '
        'supports, and test it there. Exit status 0: all built without a '
        'warning, and no test failed.',
        epilog=f'All is kept in {MATRIX}, which can be removed at any time. '
        'To run other tests on one of the kernels: '
        'env $(scripts/kernels --env 7.3) scripts/test -k stats')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--test', action='store_true',
                      help='boot each kernel and run the core tests')
    what.add_argument('--ci', action='store_true', help='build for all, and '
                      f'boot {", ".join(BOOTED_BY_CI)} only')
    what.add_argument('--env', action='store_true', help='only print what '
                      'tests/guest needs to boot one kernel')
    what.add_argument('--apt', action='store_true', help='only refresh the '
                      "package lists, and print apt's options for them")
    parser.add_argument('-m', default='core', metavar='MARKS',
                        help="pytest's choice of tests (default: %(default)s)")
    parser.add_argument('-j', type=int, metavar='N', default=1,
                        help='test N kernels at a time (default: %(default)s)')
    parser.add_argument('series', nargs='*', choices=[*SERIES, []],
                        metavar='SERIES', help=f'of {", ".join(SERIES)} '
                        '(default: all)')
    chosen = parser.parse_args()
    if chosen.env and len(chosen.series) != 1:
        parser.error('--env is for one series')
    return chosen


def print_environment(series):
    """NAME=value lines for a kernel that is there, and today's driver."""
    modules = [*(MATRIX / 'build').glob(f'{series}[.-]*/virtio_balloon.ko')]
    if not modules:
        raise KernelsError('no driver there, run: scripts/kernels ' + series)
    kernel = Kernel(series, modules[0].parent.name)
    with alone(MATRIX):
        if not kernel.is_built() and kernel.build() is None:
            raise KernelsError(f'no driver for {kernel.release}')
    for name, value in kernel.environment().items():
        print(f'{name}={value}')


def clean_environment():
    """For the tools that are run."""
    os.environ['LC_ALL'] = 'C'
    os.environ['PATH'] += ':/usr/sbin:/sbin'    # depmod
    for name in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL'):
        os.environ.pop(name, None)


@contextlib.contextmanager
def alone(top):
    """The only run that uses the folder TOP, without what others left."""
    top.mkdir(parents=True, exist_ok=True)
    with (top / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in top.glob('.tmp.*'):
            shutil.rmtree(left)
        yield


def main():
    """Do what the command line says; the exit status."""
    chosen = options()
    clean_environment()
    if chosen.env:
        print_environment(chosen.series[0])
        return 0
    with alone(MATRIX):
        if chosen.apt:
            APT.update()
            print(*APT.options, sep='\n')
            return 0
        chosen_series = chosen.series or SERIES
        kernels = [provide(series) for series in chosen_series]
        marks = [chosen.m if chosen.test or chosen.ci
                 and series in BOOTED_BY_CI else None
                 for series in chosen_series]
        with concurrent.futures.ThreadPoolExecutor(chosen.j) as pool:
            rows = [*pool.map(row, chosen_series, kernels, marks)]
    return show(('series', 'kernel', 'built', 'warnings', 'core tests'), rows)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KernelsError as error:
        sys.exit(f'kernels: {error}')
