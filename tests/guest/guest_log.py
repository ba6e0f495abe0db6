# SPDX-License-Identifier: GPL-2.0-only
"""The guest's log: what a healthy kernel does not write to it."""

import re

BAD_LOG = [re.compile(pattern) for pattern in (
    r'WARNING:', r'\bBUG:', r'\bOops\b', r'Call Trace', r'Kernel panic',
    r'general protection', r'[Uu]nable to handle', r'soft lockup',
    r'hung task', r'blocked for more than', r'KASAN:', r'KFENCE:', r'KCSAN:',
    r'UBSAN:', r'kmemleak: .*(suspected|[Uu]nable|Cannot)', r'ODEBUG:',
    r'possible .*(deadlock|locking|lock inversion)', r'inconsistent lock',
    r'suspicious RCU', r'rcu:.*stall', r'list_(add|del) corruption',
    r'refcount_t:', r'[Bb]ad page', r'page allocation failure',
    r'memory corruption', r'nobody cared', r'Out of memory', r'oom-kill')]
# What QEMU's smallest firmware for pseries leaves empty
HARMLESS = re.compile(r'WARNING: nvram corruption detected: 0-length')
OOM_LOG = re.compile(r'Out of memory|oom-kill')
OOM_REPORT = re.compile(r'[^\n]*invoked oom-killer:.*?Out of memory: Killed',
                        re.S)
PANIC = re.compile(r'Kernel panic - not syncing')


def bad_lines(log, allow=(), allow_oom=False):
    """Lines of LOG that a healthy kernel does not write.

    ALLOW: regular expressions of lines to let pass. ALLOW_OOM: let whole
    reports of the OOM killer pass, backtrace included.
    """
    if allow_oom:
        log = OOM_REPORT.sub('Out of memory: Killed', log)
    let_pass = [HARMLESS, *map(re.compile, allow)]
    if allow_oom:
        let_pass.append(OOM_LOG)
    return [line for line in log.splitlines()
            if any(pattern.search(line) for pattern in BAD_LOG)
            and not any(pattern.search(line) for pattern in let_pass)]
