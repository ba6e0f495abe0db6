# SPDX-License-Identifier: GPL-2.0-only
"""Boot a guest with VB_MODULE, and have it give and take memory.

Usage: boot.py VERSION, which the module must say it has; the environment has
the names and values of scripts/prepare --env, each with VB_ before its name.
"""

import sys

import guest

MIB = guest.MIB

with guest.boot(mem='1G') as running:
    version = running.sh('cat /sys/module/virtio_balloon/version').strip()
    assert version == sys.argv[1], version
    running.balloon_to(512 * MIB)
    assert running.status()['held'] == f'{512 * 1024} kB'
    running.balloon_to(running.size)
    assert running.status()['held'] == '0 kB'
    running.unload()
