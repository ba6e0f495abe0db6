# SPDX-License-Identifier: GPL-2.0-only
"""The package and 'make install' on the Debians they are for.

In chroots that are thrown away: install, upgrade, a second kernel, removal;
and what modprobe and the initramfs have after each step. What was installed is
then booted in QEMU.
"""

import os
import re
import shutil
import sys

import pytest

import chroot
from chroot import TOP, run

STOCK = 'kernel/drivers/virtio/virtio_balloon.ko'
DKMS = 'updates/dkms/virtio_balloon.ko'
BY_HAND = 'updates/virtio_balloon.ko'
VERSION = re.search(r'^MODULE_VERSION\("(.*)"\);$',
                    (TOP / 'virtio_balloon.c').read_text(), re.M)[1]
NEWER = VERSION + '.1'
FAKE = '9.9.0-1-amd64'    # beyond what the driver knows
SOURCES = ('CHANGES', 'Kbuild', 'Makefile', 'README.md', 'debian', 'dkms.conf',
           'docs', 'include', 'scripts', 'virtio_balloon.c')

pytestmark = [
    pytest.mark.time_limit(1200),    # from clean, chroots are made
    pytest.mark.skipif(os.geteuid() != 0, reason='only root can use chroots'),
]


def build_deb(tree, to):
    """The package of a source tree."""
    to.mkdir()
    run(tree / 'scripts/deb', to)
    return next(to.glob('*.deb'))


def copy_sources(to):
    """The sources, without what anybody built of them."""
    to.mkdir()
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, to / name)
        else:
            shutil.copy(TOP / name, to / name)


@pytest.fixture(scope='module')
def deb(tmp_path_factory):
    """The package."""
    return build_deb(TOP, tmp_path_factory.mktemp('deb') / 'deb')


@pytest.fixture(scope='module')
def newer_deb(tmp_path_factory):
    """The same, of a higher version."""
    tree = tmp_path_factory.mktemp('newer') / 'tree'
    copy_sources(tree)
    for name in ('virtio_balloon.c', 'debian/changelog'):
        text = (tree / name).read_text()
        for left, right in (('MODULE_VERSION("', '")'), ('(', ')')):
            text = text.replace(left + VERSION + right,
                                left + NEWER + right, 1)
        (tree / name).write_text(text)
    return build_deb(tree, tree.parent / 'deb')


@pytest.fixture(params=('bookworm', 'trixie'))
def debian(request):
    """A Debian 12, a Debian 13."""
    with chroot.chroot(request.param) as system:
        yield system


def kernels(debian):
    """The kernels that are installed."""
    return debian.sh('ls /lib/modules').split()


def in_place(debian, kernel):
    """The module that modprobe loads, below the folder of the kernel."""
    path = debian.sh(f'modinfo -k {kernel} -n virtio_balloon').strip()
    line = debian.sh(f'modprobe -S {kernel} --show-depends virtio_balloon '
                     '| tail -n 1').split()
    assert line == ['insmod', path]
    return re.sub(r'\.(xz|zst|gz)$', '',
                  path.replace(f'/lib/modules/{kernel}/', ''))


def in_initramfs(debian, kernel):
    """The modules of that name in the initramfs."""
    files = debian.sh(f'lsinitramfs /boot/initrd.img-{kernel}').split()
    return [re.sub(r'.*/modules/[^/]*/|\.(xz|zst|gz)$', '', name)
            for name in files if '/virtio_balloon.ko' in name]


def version(debian, kernel):
    """Of the module that modprobe loads; the kernel's own has none."""
    return debian.sh(f'modinfo -k {kernel} -F version virtio_balloon').strip()


def install(debian, deb):
    """As apt would do it."""
    debian.put(deb, '/deb/' + deb.name)
    return debian.sh(f'dpkg -i /deb/{deb.name}')


def assert_ours(debian, kernel, wanted):
    """The package's module is found, also by the initramfs."""
    assert in_place(debian, kernel) == DKMS
    assert in_initramfs(debian, kernel) == [DKMS]
    assert version(debian, kernel) == wanted
    status = debian.sh('dkms status -m virtio-balloon')
    assert re.search(rf'^virtio-balloon/{re.escape(wanted)}, '
                     rf'{re.escape(kernel)}, x86_64: installed', status, re.M)


def assert_stock(debian, kernel):
    """The kernel's own module is found, also by the initramfs."""
    assert in_place(debian, kernel) == STOCK
    assert in_initramfs(debian, kernel) == [STOCK]
    assert version(debian, kernel) == ''


def add_fake_kernel(debian, like):
    """A kernel that the driver does not know."""
    debian.sh(f'mkdir /lib/modules/{FAKE}; '
              f'cp -P /lib/modules/{like}/build /lib/modules/{FAKE}/')


def assert_left_alone(debian):
    """Nothing is built for it.

    Its own installation does not fail, but with the DKMS of Debian 12.
    """
    for hook in ('postinst', 'header_postinst'):
        try:
            debian.sh(f'/etc/kernel/{hook}.d/dkms {FAKE}')
        except chroot.Failed as error:
            # DKMS 3.0 says that nothing is to be built, and fails: the manual
            # tells what to do.
            assert debian.suite == 'bookworm'
            assert 'BUILD_EXCLUSIVE directive' in str(error)
    assert FAKE not in debian.sh('dkms status')
    assert not debian.glob(f'/lib/modules/{FAKE}/updates')


def assert_nothing_left(debian):
    """Of the package and of DKMS's work."""
    assert not debian.glob('/var/lib/dkms/virtio*', '/usr/src/virtio*',
                           '/lib/modules/*/updates',
                           '/usr/share/doc/virtio-balloon*',
                           '/usr/share/man/man4/virtio_balloon*')
    assert 'virtio-balloon' not in debian.sh('dpkg -l; dkms status')


def test_life_of_the_package(debian, deb, newer_deb):
    """Install, upgrade, new kernel, removal, purge.

    A kernel that the driver does not know is there from the install on.
    """
    first, = kernels(debian)
    assert_stock(debian, first)
    add_fake_kernel(debian, first)

    install(debian, deb)
    assert_ours(debian, first, VERSION)
    assert debian.glob('/usr/share/man/man4/virtio_balloon.4.gz',
                       f'/usr/src/virtio-balloon-{VERSION}/include/compat')
    manual, = re.findall(r'^\.Pa (/usr/share/doc/\S+)', (
        TOP / 'docs/virtio_balloon.4').read_text(), re.M)
    # The chroot has no documents, but dpkg knows of them.
    assert manual in debian.sh('dpkg -L virtio-balloon-dkms').split()

    with pytest.raises(chroot.Failed, match='remove that first'):
        debian.sh(f'make -C /usr/src/virtio-balloon-{VERSION} '
                  f'KVER={first} install')
    assert_left_alone(debian)

    install(debian, newer_deb)
    assert_ours(debian, first, NEWER)
    assert f'-balloon/{VERSION},' not in debian.sh('dkms status')
    assert not debian.glob(f'/usr/src/virtio-balloon-{VERSION}')

    debian.sh('dpkg -i /second/*.deb')
    second, = set(kernels(debian)) - {first, FAKE}
    assert_ours(debian, second, NEWER)
    assert_ours(debian, first, NEWER)

    debian.sh('dpkg -r virtio-balloon-dkms')
    for kernel in (first, second):
        assert_stock(debian, kernel)
    debian.sh('dpkg -P virtio-balloon-dkms')
    assert_nothing_left(debian)


def test_by_hand(debian, tmp_path):
    """'make install' and 'make uninstall', with and without DESTDIR.

    A kernel that has its own built in is left alone.
    """
    kernel, = kernels(debian)
    copy_sources(tmp_path / 'src')
    debian.put(tmp_path / 'src', '/src')
    make = f'make -C /src KVER={kernel}'

    debian.sh(f'{make} install DESTDIR=/dest')
    assert debian.sh('find /dest -type f').split() \
        == [f'/dest/lib/modules/{kernel}/{BY_HAND}']
    assert_stock(debian, kernel)
    debian.sh(f'{make} uninstall DESTDIR=/dest')
    assert not debian.glob(f'/dest/lib/modules/{kernel}/updates')

    debian.sh(f'{make} install')
    assert in_place(debian, kernel) == BY_HAND
    assert in_initramfs(debian, kernel) == [BY_HAND]
    assert version(debian, kernel) == VERSION
    # No headers are needed for this.
    debian.sh(f'{make} KDIR=/nowhere uninstall')
    assert_stock(debian, kernel)
    assert not debian.glob('/lib/modules/*/updates')

    debian.sh(f'echo {STOCK} >>/lib/modules/{kernel}/modules.builtin')
    with pytest.raises(chroot.Failed, match='built in'):
        debian.sh(f'{make} install')
    assert not debian.glob('/lib/modules/*/updates')


def test_what_was_installed_works(debian, deb, tmp_path):
    """The suite's kernel boots, and the module gives and takes memory."""
    kernel, = kernels(debian)
    install(debian, deb)
    path = debian.sh(f'modinfo -k {kernel} -n virtio_balloon').strip()
    module = tmp_path / path.rsplit('/', 1)[1]
    debian.get(path, module)
    modules = debian.base / 'lib/modules' / kernel
    given = {'CACHE': tmp_path, 'KREL': kernel, 'MODDIR': modules,
             'VMLINUZ': debian.base / 'boot' / f'vmlinuz-{kernel}',
             'KDIR': '', 'MODULE': module, 'QEMU_NEW': '',
             'STOCK': next((modules / STOCK).parent.glob('*_balloon.ko*'))}
    run(sys.executable, chroot.HERE / 'boot.py', VERSION,
        env={**os.environ, 'PYTHONPATH': str(TOP / 'tests/guest'),
             **{'VB_' + name: str(value) for name, value in given.items()}})
