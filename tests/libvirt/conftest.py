# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of this folder share: the host, and what it needs."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
# Neither brings a service that is started, nor the default network.
PACKAGES = ('libvirt-daemon', 'libvirt-daemon-driver-qemu', 'libvirt-clients',
            'qemu-system-x86')

sys.path.insert(0, str(HERE.parent / 'guest'))    # the harness


def pytest_collection_modifyitems(items):
    """Skip all unless run by root."""
    if os.geteuid() != 0:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(
                    reason='only root can run libvirtd'))


@pytest.fixture(scope='session')
def host():
    """A host with libvirtd."""
    subprocess.run([TOP / 'scripts/prepare', '--packages', *PACKAGES],
                   check=True)
    from host import host as machine
    with machine('one.test') as running:
        yield running
