# SPDX-License-Identifier: GPL-2.0-only
"""That scripts/soak works; what it finds takes hours."""

import pathlib
import re
import subprocess

import pytest

SOAK = pathlib.Path(__file__).resolve().parent.parent.parent / 'scripts/soak'


def soak(*words):
    """Run it: exit status and what it said."""
    done = subprocess.run([SOAK, *words], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


@pytest.mark.time_limit(1200)
def test_two_minutes_of_everything():
    status, said = soak('--minutes', '2', '--kernel', 'plain', '--seed', '1')
    print(said)
    assert status == 0
    assert re.search(r'^[1-9]\d* passed, 0 failed\n\Z', said, re.M)
    assert re.search(r'seed 1: \d+ actions \(.*resize \d+', said)


@pytest.mark.parametrize('words', [
    ['--minutes', '0'], ['--minutes', 'x'], ['--seed', 'x'],
    ['--kernel', 'stock'], ['more']])
def test_wrong_arguments_are_refused(words):
    status, said = soak(*words)
    assert status == 2 and 'soak' in said.splitlines()[-1]
