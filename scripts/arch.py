#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Build and test the driver for other architectures and page sizes.

As scripts/kernels does for the series of Debian's kernels on amd64: the
newest one is looked up in Debian's suites, unpacked in a cache folder, built
for with a cross compiler, and booted with an emulated CPU.
"""

import argparse
import dataclasses
import re
import sys

import kernels
from kernels import CACHE, KernelsError

TOP = CACHE / 'arch'
# Suites with kernels for all of them.
SUITES = ('bookworm', 'trixie')


@dataclasses.dataclass(frozen=True)
class Platform:
    """How a flavour of Debian's kernel is built for and booted."""

    series: str
    flavour: str
    debian: str          # Debian's name of the architecture
    kernel: str          # the kernel's
    gnu: str             # the compiler's


PLATFORMS = {
    'arm64': Platform('6.1', 'arm64', 'arm64', 'arm64', 'aarch64'),
    'arm64-16k': Platform('6.12', 'arm64-16k', 'arm64', 'arm64', 'aarch64'),
    'ppc64el': Platform('6.1', 'powerpc64le', 'ppc64el', 'powerpc',
                        'powerpc64le'),
    's390x': Platform('6.12', 's390x', 's390x', 's390', 's390x'),
}
DEBIAN = tuple(sorted({platform.debian for platform in PLATFORMS.values()}))


@dataclasses.dataclass(frozen=True)
class Kernel(kernels.Kernel):
    """A kernel of another architecture, and the driver for it."""

    top, apt = TOP, kernels.Apt(TOP, SUITES, more=DEBIAN)

    @property
    def name(self):
        """Of the platform."""
        return next(name for name, platform in PLATFORMS.items()
                    if platform.flavour == self.flavour)

    @property
    def cross(self):
        """What the names of the cross compiler's tools begin with."""
        return f'{PLATFORMS[self.name].gnu}-linux-gnu-'

    @property
    def make(self):
        """More arguments for make; the last one of a name counts."""
        return (*kernels.MAKE, f'ARCH={PLATFORMS[self.name].kernel}',
                f'CROSS_COMPILE={self.cross}', f'CC={self.cross}gcc')

    def packages(self):
        """The guest's busybox, too."""
        return [*super().packages(),
                f'busybox-static:{PLATFORMS[self.name].debian}']

    def environment(self):
        """What tests/guest needs to know."""
        busybox = [*self.dir.glob('**/bin/busybox')]
        return {**super().environment(), 'VB_BUSYBOX': busybox[0],
                'VB_ARCH': PLATFORMS[self.name].debian,
                'VB_CC': self.cross + 'gcc'}

    def properties(self):
        """Page size and byte order, as the kernel was configured."""
        config = (self.dir / 'build/include/config/auto.conf').read_text()
        shift = re.search(r'^CONFIG_\w*PAGE_SHIFT=(\d+)', config, re.M)
        kib = 1 << int(shift[1] if shift else 12) >> 10
        big = 'CONFIG_CPU_BIG_ENDIAN=y' in config
        return f'{kib} KiB', 'big' if big else 'little'


def row(name, kernel, marks):
    """A row of the table, as kernels.row() has it."""
    (_, *cells), passed, failed = kernels.row(name, kernel, marks)
    properties = kernel.properties() if kernel else ('', '')
    return (name, *properties, *cells), passed, failed


def provide(name):
    """The newest kernel for a platform, or None."""
    platform = PLATFORMS[name]
    return kernels.provide(platform.series, platform.flavour, Kernel)


def print_environment(name):
    """NAME=value lines for a platform whose kernel is there."""
    modules = (TOP / 'build').glob(
        f'*-{PLATFORMS[name].flavour}/virtio_balloon.ko')
    for module in modules:
        kernel = Kernel(PLATFORMS[name].series, module.parent.name,
                        PLATFORMS[name].flavour)
        for variable, value in kernel.environment().items():
            print(f'{variable}={value}')
        return
    raise KernelsError('no driver there, run: scripts/arch ' + name)


def options():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='scripts/arch', description='Build the driver with all warnings '
        '(W=1) for other page sizes and byte orders, and run the tests that '
        'are about these, in guests with emulated CPUs. Exit status 0: all '
        'built without a warning, and no test failed.',
        epilog=f'All is kept in {TOP}, which can be removed at any time. To '
        'run other tests on one of them: '
        'env $(scripts/arch --env s390x) scripts/test -k stats')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--build', action='store_true', help='boot nothing')
    what.add_argument('--env', action='store_true', help='only print what '
                      'tests/guest needs to boot one of them')
    parser.add_argument('-m', default='pages', metavar='MARKS',
                        help="pytest's choice of tests (default: %(default)s)")
    parser.add_argument('names', nargs='*', choices=[*PLATFORMS, []],
                        metavar='NAME', help=f'of {", ".join(PLATFORMS)} '
                        '(default: all)')
    chosen = parser.parse_args()
    if chosen.env and len(chosen.names) != 1:
        parser.error('--env is for one of them')
    return chosen


def main():
    """Do what the command line says; the exit status."""
    chosen = options()
    kernels.clean_environment()
    if chosen.env:
        print_environment(chosen.names[0])
        return 0
    with kernels.alone(TOP):
        rows = [row(name, provide(name), None if chosen.build else chosen.m)
                for name in chosen.names or PLATFORMS]
    return kernels.show(('architecture', 'page size', 'byte order', 'kernel',
                         'built', 'warnings', 'tests'), rows)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KernelsError as error:
        sys.exit(f'arch: {error}')
