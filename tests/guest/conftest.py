# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of this folder share: options and markers."""

import os
import re

import pytest

import guest


def pytest_addoption(parser):
    parser.addoption('--driver', choices=('ours', 'stock'), default='ours',
                     help='the balloon driver that tests load: %(default)s')


def pytest_configure(config):
    config.addinivalue_line(
        'markers', 'new_qemu: needs the newer QEMU of scripts/prepare')
    config.addinivalue_line(
        'markers', 'core: quick, and finds what differs between kernels')
    config.addinivalue_line(
        'markers', 'thorough: what little would be missed without')
    config.addinivalue_line(
        'markers', 'pages: works for any page size and byte order')
    config.addinivalue_line(
        'markers', "kernel(version): needs it or a newer one, e.g. '6.16'")


def _numbers(version):
    """Of major and minor version: 6.1.0-1-amd64 is (6, 1)."""
    return tuple(map(int, re.findall(r'\d+', version)[:2]))


def pytest_collection_modifyitems(items):
    """Skip what the newer QEMU or a newer kernel is missing for."""
    skip = pytest.mark.skip(reason=os.environ.get('VB_NO_NEW_QEMU') or 'no '
                            'newer QEMU: scripts/prepare --new-qemu has it')
    for item in items:
        if item.get_closest_marker('new_qemu') and not guest.new_qemu():
            item.add_marker(skip)
        least = item.get_closest_marker('kernel')
        if least and _numbers(guest.environment()['KREL']) < \
                _numbers(*least.args):
            item.add_marker(pytest.mark.skip(
                reason=f'needs Linux {least.args[0]}'))


@pytest.fixture(scope='session')
def env():
    """The names and values of scripts/prepare --env."""
    return guest.environment()


@pytest.fixture
def driver(request):
    """The balloon driver to test: 'ours' or 'stock'."""
    return request.config.getoption('--driver')
