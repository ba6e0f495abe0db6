# SPDX-License-Identifier: GPL-2.0-only
"""Where the modules of the guests' harness are."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent
                       / 'guest'))


def pytest_configure(config):
    # Those of the guest tests, from which experiments take functions
    config.addinivalue_line('filterwarnings',
                            'ignore::pytest.PytestUnknownMarkWarning')
