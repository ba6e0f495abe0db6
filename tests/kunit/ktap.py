# SPDX-License-Identifier: GPL-2.0-only
"""What the log of a test run says: results of tests, and complaints."""

import dataclasses
import pathlib
import re
import time

import guest_log

STAMP = re.compile(r'^\[ *\d+\.\d+\](\[ *[CT]\d+\])? ')
INIT = 'kunit-init: '
START, LOADED, END = (INIT + word for word in (
    'tests start', 'loaded virtio_balloon_kunit', 'end'))
COULD_NOT = INIT + 'could not '
SEARCHED = INIT + 'looked for leaks'
SEARCHES = 2    # with the modules, and without

KTAP = re.compile(r'^( {4})*(KTAP version|1\.\.\d|(not )?ok \d|# )')
FAILURE = re.compile(r'^ {4}# (\S+): (EXPECTATION|ASSERTION) FAILED at ')
PLAN = re.compile(r'^((?: {4})*)1\.\.(\d+)$')
STARTS = re.compile(r'^ {4}# (\S+): starts$')
SUBTEST = re.compile(r'^ {4}# Subtest: (.+)$')
RESULT = re.compile(r'^((?: {4})*)(ok|not ok) \d+ (?:- )?(\S+)'
                    r'(?: # (SKIP|TODO)\b *(.*))?$')

CASE = re.compile(r'KUNIT_CASE(?:_\w+)?\((\w+)')

BAD_LOG = re.compile(r'kernel BUG at|Kernel mode fault|non-static key|'
                     r'held lock freed|^kmemleak: unreferenced')
SHOWN = 200    # lines of complaints
# In backtraces: what happened to be on the stack.
NOISE = re.compile(r'^ +(\[<[0-9a-f()_ptrval]+>\] )?\? |^ [0-9a-f]{8}( |$)')
# User Mode Linux of 6.1 walks the first process's memory map without its lock.
OF_UML = re.compile(
    r'^=+\nWARNING: suspicious RCU usage\n(?:(?!=====|kunit-init:).*\n)*?'
    r'lib/maple_tree\.c:\d+ suspicious rcu_dereference_check\(\) usage!\n'
    r'(?:(?!=====|kunit-init:).*\n)*?.*\bforce_flush_all\+.*\n'
    r'(?: .*\n|<TASK>.*\n|</TASK>.*\n)*', re.M)


def clean(line):
    """A line of the kernel's log without what the console adds to it."""
    return STAMP.sub('', line.rstrip('\r\n'))


@dataclasses.dataclass
class Suite:
    """A suite and its cases: name -> 'passed', 'failed' or 'skipped'.

    And how many seconds of this machine's time each took.
    """

    name: str
    plan: int = None
    cases: dict = dataclasses.field(default_factory=dict)
    seconds: dict = dataclasses.field(default_factory=dict)
    ended: bool = False


def case_names(suite):
    """Its cases as the source has them: KUnit names a case when it is done."""
    for path in pathlib.Path(__file__).parent.glob('*.c'):
        text = path.read_text(encoding='utf-8')
        if f'.name = "{suite}"' in text:
            return CASE.findall(text)
    return []


class Results:
    """What the tests said of themselves, line by line."""

    def __init__(self):
        self.plan = None
        self.suites = []
        self.errors = []
        self.timeout = None    # after which the run was ended
        self.last = ''
        self.details = []    # of a failure, as long as there are more
        self.why = {}    # suite.case -> what was expected of it
        self.late = []    # suite.case that failed once
        self.skips = {}    # suite.case -> why it was skipped
        self.searches = 0    # for leaks
        self.case = ''
        self.since = time.monotonic()    # a start, or the last result
        self.started = self.loaded = self.ended = False

    def feed(self, line):
        """Take a line of the log; whether it is the tests' own."""
        if line.startswith(START):
            self.started = True
        elif line.startswith(COULD_NOT):
            self.errors += [self.last, line.removeprefix(INIT)]
        elif line == LOADED:
            self.loaded = True
        elif line == SEARCHED:
            self.searches += 1
        elif line == END:
            self.ended = True
        elif self.started and not self.loaded:
            self._result(line)
            if KTAP.match(line):
                self.details = self._failure(line)
                return True
            if self.details:    # up to a line without indentation
                if line.startswith('    '):
                    self.details.append(line)
                else:
                    self.details = []
                return True
        self.last = line
        return False

    def _failure(self, line):
        match = FAILURE.match(line)
        if not match or not self.suites:
            return []
        lines = self.why.setdefault(f'{self.suites[-1].name}.{match[1]}', [])
        lines.append(line)
        return lines

    def _result(self, line):
        if match := PLAN.match(line):
            if not match[1]:
                self.plan = int(match[2])
            elif len(match[1]) == 4 and self.suites:
                self.suites[-1].plan = int(match[2])
        elif match := SUBTEST.match(line):
            self.suites.append(Suite(match[1]))
            self.since = time.monotonic()
        elif match := STARTS.match(line):
            if match[1] != self.case:    # not the next parameter
                self.case, self.since = match[1], time.monotonic()
        elif match := RESULT.match(line):
            self._outcome(*match.groups())

    def _outcome(self, indent, outcome, name, directive, reason):
        if not self.suites or len(indent) > 4:
            return    # that of one parameter
        suite = self.suites[-1]
        what = ('skipped' if directive == 'SKIP' else
                'passed' if outcome == 'ok' else 'failed')
        if indent:
            suite.cases[name] = what
            if what == 'skipped':
                self.skips[f'{suite.name}.{name}'] = reason
            now = time.monotonic()
            suite.seconds[name], self.since = now - self.since, now
        elif name == suite.name:
            suite.ended = True
            if what == 'failed' and 'failed' not in suite.cases.values():
                self.errors.append(f'suite {name} failed as a whole')

    def names(self, what):
        """suite.case of all cases with that outcome."""
        return [f'{suite.name}.{case}' for suite in self.suites
                for case, outcome in suite.cases.items() if outcome == what]

    def slowest(self, number):
        """The NUMBER slowest cases, as text."""
        cases = [(seconds, f'{suite.name}.{case}') for suite in self.suites
                 for case, seconds in suite.seconds.items()]
        return [f'{seconds:.1f} s {name}' for seconds, name
                in sorted(cases, reverse=True)[:number]]

    def where(self):
        """Where the log ends."""
        if not self.started:
            return 'before the tests'
        if self.ended:
            return 'at its end'
        if self.loaded:
            return 'after the tests'
        if not self.suites:
            return 'before the first suite'
        suite = self.suites[-1]
        if suite.ended:
            return f'after suite {suite.name}'
        number = len(suite.cases)
        name = dict(enumerate(case_names(suite.name))).get(number, '')
        return (f'in suite {suite.name}, case {number + 1} of '
                f'{suite.plan or "?"} {name}').strip()

    def missing(self):
        """What there should be and is not."""
        lines = []
        if not self.ended:
            how = (f'not done after {self.timeout:g} s' if self.timeout else
                   'the kernel stopped')
            lines.append(f'{how}: {self.where()}')
        elif self.plan is None and not self.errors:
            lines.append('the tests did not say how many suites there are')
        if self.ended and self.searches < SEARCHES:
            lines.append(f'looked for leaks {self.searches} times, not '
                         f'{SEARCHES} times')
        if self.plan not in (None, len(self.suites)):
            lines.append(f'{len(self.suites)} suites of {self.plan} ran')
        for suite in self.suites:
            if suite.plan != len(suite.cases):
                lines.append(f'{len(suite.cases)} cases of {suite.plan} of '
                             f'suite {suite.name} ran')
            elif not suite.ended:
                lines.append(f'suite {suite.name} has no end')
        return lines


def complaints(lines, is_uml):
    """Parts of the log in which the kernel complains, each a list of lines."""
    log = ''.join(f'{line}\n' for line in lines)
    if is_uml:
        log = OF_UML.sub('', log, count=2)
    lines = log.splitlines()
    bad = set(guest_log.bad_lines(log))
    parts, end = [], -1
    for number, line in enumerate(lines):
        if line not in bad and not BAD_LOG.search(line):
            continue
        start = max(number - 2, end)
        stop = min(number + 45, len(lines))
        if start <= end and parts:
            parts[-1] += lines[end:stop]
        else:
            parts.append(lines[start:stop])
        end = max(stop, end)
    return [[line for line in part if not NOISE.match(line)]
            for part in parts]
