# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of this folder share: options and markers."""

import os

import pytest

import guest


def pytest_addoption(parser):
    parser.addoption('--driver', choices=('ours', 'stock'), default='ours',
                     help='the balloon driver that tests load: %(default)s')


def pytest_configure(config):
    config.addinivalue_line(
        'markers', 'new_qemu: needs the newer QEMU of scripts/prepare')


def pytest_collection_modifyitems(items):
    """Skip what the newer QEMU is missing for."""
    skip = pytest.mark.skip(reason=os.environ.get('VB_NO_NEW_QEMU') or 'no '
                            'newer QEMU: scripts/prepare --new-qemu has it')
    for item in items:
        if item.get_closest_marker('new_qemu') and not guest.new_qemu():
            item.add_marker(skip)


@pytest.fixture(scope='session')
def env():
    """The names and values of scripts/prepare --env."""
    return guest.environment()


@pytest.fixture
def driver(request):
    """The balloon driver to test: 'ours' or 'stock'."""
    return request.config.getoption('--driver')
