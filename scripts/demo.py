#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The demonstration that scripts/demo starts.

A guest runs through PHASES. All the time it is sampled from both sides; what
was seen is shown as a table, judged, and drawn.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'tests/guest'))

import guest as harness    # noqa: E402

MIB, GIB = harness.MIB, harness.GIB
SMALLEST, LARGEST = GIB, 8 * GIB
PLOT = 'virtio-balloon-demo.png'
DRIVERS = {'ours': 'this driver', 'stock': "the kernel's own driver"}

TICK = 0.5                # seconds from one sample to the next
REPEAT = 2.0              # ... and from one line to the next if all is quiet
SETTLED = 3.0             # a balloon that does not change so long has stopped
HOLD = 4                  # how long the program keeps its memory
IDLE = 4.0                # how long the guest's CPU time is measured
PROMPT = 1.0              # the longest time that a command may take
MAX_CPU = 10              # per cent, of a guest that has nothing to do
MAX_LINES = 3             # of the driver in the guest's log, in one phase


class Interrupted(Exception):
    """The user wants no more of it."""


def text_mib(size):
    """SIZE in bytes as text."""
    return f'{size / MIB:.0f} MiB'


# The command line

class Parser(argparse.ArgumentParser):
    """One with the messages of the command that the user has called."""

    def error(self, message):
        """End with MESSAGE."""
        print(f'demo: {message}\ndemo: scripts/demo --help shows what is '
              'allowed', file=sys.stderr)
        sys.exit(2)


def memory_size(text):
    """The argument of --mem, in bytes."""
    try:
        size = harness.parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not SMALLEST <= size <= LARGEST:
        raise argparse.ArgumentTypeError(
            f'{text} is not from {SMALLEST // GIB}G to {LARGEST // GIB}G')
    return size // MIB * MIB


def plot_file(text):
    """The argument of --output: a place where a file can be written."""
    path = pathlib.Path(text)
    if path.suffix.lower() != '.png':
        raise argparse.ArgumentTypeError(f'{text!r} does not end in .png')
    try:
        # Asking the system whether this may be done proves less.
        with (open(path, 'ab') if path.exists()
              else tempfile.TemporaryFile(dir=path.parent)):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} cannot be written: {error.strerror}') from None
    return path


def arguments():
    """The options."""
    parser = Parser(prog='scripts/demo', add_help=False, allow_abbrev=False)
    parser.add_argument('-o', '--output', type=plot_file)
    parser.add_argument('--no-plot', action='store_true')
    parser.add_argument('--mem', type=memory_size, default=2 * GIB)
    parser.add_argument('--driver', choices=DRIVERS, default='ours')
    parser.add_argument('--check', action='store_true')   # the options only
    options = parser.parse_args()
    if not options.no_plot:
        options.output = options.output or checked_default(parser)
    check_host(parser, options.mem)
    return options


def checked_default(parser):
    """The plot's name if none is given."""
    try:
        return plot_file(PLOT)
    except argparse.ArgumentTypeError as error:
        parser.error(f'{error} (use --output or --no-plot)')


def check_host(parser, size):
    """A host without the memory would end QEMU in the middle."""
    text = pathlib.Path('/proc/meminfo').read_text()
    available = int(re.search(r'MemAvailable: +(\d+)', text)[1]) << 10
    need = size + 256 * MIB
    if available < need:
        parser.error(f'a guest of {text_mib(size)} needs {text_mib(need)} of '
                     f'this machine, which has {text_mib(available)} '
                     'available: try a smaller --mem')


# What is shown

Column = collections.namedtuple('Column', 'name width')
COLUMNS = (Column('time', 6), Column('phase', -15), Column('target', 7),
           Column('held', 7), Column('free', 7), Column('avail', 7),
           Column('RSS', 7), Column('state', -10))
KEY = """\
All sizes are in MiB, and sampled about twice a second:
  target  what the host wants the balloon to take from the guest
  held    what the balloon has taken, as the host sees it
  free    the guest's free memory; avail: what its programs could still get
  RSS     what the guest's RAM costs the host: resident memory of QEMU
  state   what the driver says it is doing"""


class Screen:
    """Text for the user, a little nicer on a terminal."""

    COLOURS = {'bold': '1', 'good': '32', 'bad': '31', 'busy': '36',
               'wait': '33'}
    STATES = {'inflating': 'busy', 'deflating': 'busy', 'hold-off': 'wait',
              'floor': 'wait', 'no-memory': 'wait', 'stalled': 'bad',
              'broken': 'bad'}

    def __init__(self, file):
        self.file = file
        self.tty = file.isatty()
        self.colours = self.tty and not os.environ.get('NO_COLOR')
        self.since_header = 0

    def paint(self, text, colour):
        """TEXT in COLOUR, if there are colours."""
        if not (self.colours and colour):
            return text
        return f'\033[{self.COLOURS[colour]}m{text}\033[0m'

    def say(self, text='', colour=None):
        """Print lines."""
        print(self.paint(text, colour), file=self.file, flush=True)
        self.since_header += text.count('\n') + 1

    def header(self):
        """The names of the columns."""
        self.say(self.cells([column.name for column in COLUMNS]), 'bold')
        self.since_header = 0

    @staticmethod
    def cells(values):
        """One line of the table; a negative width: to the left."""
        cells = [f'{value:<{-width}}' if width < 0 else f'{value:>{width}}'
                 for value, (_, width) in zip(values, COLUMNS)]
        return ' '.join(cells).rstrip()

    def row(self, phase, sample):
        """One line of the table, with the header in sight."""
        lines = shutil.get_terminal_size().lines
        if self.tty and self.since_header > max(lines - 4, 5):
            self.header()
        *values, state = self.cells(
            [f'{sample.time:.1f}', phase, *sample.sizes(),
             sample.state or '-']).rpartition(' ')
        self.say(''.join(values)
                 + self.paint(state, self.STATES.get(state)))


# What is seen

@dataclasses.dataclass
class Sample:
    """One moment. Sizes are in bytes; None: not asked for."""

    time: float                # seconds since the guest is up
    target: int
    held: int
    rss: int
    free: int = None
    available: int = None
    state: str = ''
    why: str = ''
    floor: int = None
    ooms: int = None           # how often the driver gave pages back for it
    oom_kills: int = 0

    def sizes(self):
        """The numbers for the table."""
        return ['-' if size is None else f'{size / MIB:.0f}'
                for size in (self.target, self.held, self.free,
                             self.available, self.rss)]


SAMPLE = ("grep -hE '^(MemFree|MemAvailable|oom_kill|state|why|floor|oom)"
          "[: ]' /proc/meminfo /proc/vmstat "
          '/sys/kernel/debug/virtio_balloon/*/status 2>/dev/null; true')


class Watcher:
    """Samples a guest, shows and keeps the samples."""

    def __init__(self, running, screen):
        self.guest, self.screen = running, screen
        self.start = time.monotonic()
        self.samples = []
        self.target = 0
        self.phase = ''
        self.shown = 0, None
        self.programs = []     # (size, start, end) of what ran in the guest

    def now(self):
        """Seconds since the guest is up."""
        return time.monotonic() - self.start

    @property
    def last(self):
        """The newest sample."""
        return self.samples[-1]

    def sample(self, ask_guest=True):
        """Take one sample, and show it if it tells something new."""
        values = self._ask_guest() if ask_guest else {}
        sample = Sample(time=self.now(), target=self.target,
                        held=self.guest.size - self.guest.actual(),
                        rss=self.guest.rss(), **values)
        if not ask_guest and self.samples:
            sample.state, sample.why = self.last.state, self.last.why
        self.samples.append(sample)
        self._show(sample)
        return sample

    def _ask_guest(self):
        """One program for all of it: starting one is what takes time."""
        pairs = (re.split(r'[: ]\s*', line, 1)
                 for line in self.guest.sh(SAMPLE).splitlines())
        text = dict(pairs)

        def size(name):
            return int(text[name].split()[0]) << 10 if name in text else None

        return {'free': size('MemFree'), 'available': size('MemAvailable'),
                'floor': size('floor'), 'state': text.get('state', ''),
                'why': text.get('why', ''),
                'ooms': int(text['oom']) if 'oom' in text else None,
                'oom_kills': int(text['oom_kill'])}

    def _show(self, sample):
        look = self.phase, sample.sizes(), sample.state
        at, before = self.shown
        if look != before or sample.time - at > REPEAT:
            self.screen.row(self.phase, sample)
            self.shown = sample.time, look

    def until(self, good, timeout, ask_guest=True):
        """Sample until GOOD(sample); the seconds that took, None: too long."""
        start = time.monotonic()
        while True:
            tick = time.monotonic()
            if good(self.sample(ask_guest)):
                return time.monotonic() - start
            if time.monotonic() > start + timeout:
                return None
            time.sleep(max(0, tick + TICK - time.monotonic()))

    def for_seconds(self, seconds, ask_guest=True):
        """Sample for SECONDS."""
        self.until(lambda _: False, seconds, ask_guest)

    def ask(self, keep):
        """Ask the guest to make do with KEEP bytes."""
        self.guest.balloon(keep)
        self.target = self.guest.size - keep

    def settled(self):
        """Whether the balloon has not changed for a while."""
        recent = [sample.held for sample in self.samples
                  if sample.time > self.now() - SETTLED]
        old_enough = self.now() - self.samples[0].time > SETTLED
        return old_enough and max(recent) - min(recent) < 2 * MIB

    def since(self, moment):
        """The samples from MOMENT on."""
        return [sample for sample in self.samples if sample.time >= moment]

    @contextlib.contextmanager
    def program(self, size):
        """Note when a program with SIZE bytes of memory ran in the guest."""
        start = self.now()
        self.programs.append((size, start, start))
        try:
            yield
        finally:
            self.programs[-1] = size, start, self.now()

    def oom_deflations(self):
        """The samples at which the balloon had shrunk unasked."""
        return [new for old, new in zip(self.samples, self.samples[1:])
                if old.target == new.target and old.held <= old.target
                and old.held - new.held >= MIB]


# The phases. Each says what it does, does it, and returns what decides.

Check = collections.namedtuple('Check', 'what expected seen ok')


def seconds(value, otherwise='not in time'):
    """VALUE of Watcher.until() as text."""
    return otherwise if value is None else f'{value:.1f} s'


def change(old, new):
    """From one size to another, as text."""
    return f'{old / MIB:.0f} -> {text_mib(new)}'


def fill_size(running):
    """As much as a program can get without an OOM."""
    return running.size * 25 // 32


def quarter(running):
    """What an inflated guest keeps."""
    return running.size // 4


def needy_size(running):
    """More than an inflated guest has, less than is good for it."""
    return running.size * 7 // 16


def limit(running):
    """Seconds for what takes longer in a larger guest."""
    return 60 * max(1, running.size / (2 * GIB))


class Program:
    """The guest's memory program: it writes, waits, and verifies."""

    def __init__(self, watch, size, hold=0):
        self.job = watch.guest.spawn(f'hog {size // MIB} {hold}')
        self.status = None

    def ready(self, _sample=None):
        """Whether it has all its memory, or has ended without."""
        return 'ready' in self.job.output() or self.ended()

    def ended(self, _sample=None):
        """Whether it has ended."""
        self.status = self.job.poll()
        return self.status is not None

    def fate(self):
        """What became of it and of its memory."""
        return {None: 'does not end', 0: 'intact', 1: 'damaged',
                137: 'killed'}.get(self.status, f'status {self.status}')


def fill(watch):
    """a program in the guest writes to {fill}, which QEMU must back"""
    size = fill_size(watch.guest)
    watch.sample()
    with watch.program(size):
        watch.until(Program(watch, size).ended, 2 * limit(watch.guest))
    watch.for_seconds(1)
    least = size
    return [Check("QEMU's RSS", f'>= {text_mib(least)}',
                  change(watch.samples[0].rss, watch.last.rss),
                  watch.last.rss >= least)]


def inflate(watch):
    """the host asks for {balloon}, and the guest keeps a quarter"""
    before, keep = watch.last.rss, quarter(watch.guest)
    took = inflate_to(watch, keep)
    rss = watch.last.rss
    return [
        Check('balloon', f'takes {text_mib(watch.target)}',
              f'{text_mib(watch.last.held)} in {seconds(took)}',
              took is not None),
        Check("QEMU's RSS", f'<= {text_mib(keep)}',
              change(before, rss), rss <= keep)]


def inflate_to(watch, keep):
    """Inflate; the seconds that took, or None."""
    watch.ask(keep)
    took = watch.until(lambda sample: sample.held == sample.target,
                       limit(watch.guest))
    watch.for_seconds(1)
    return took


def deflate(watch):
    """the host gives everything back"""
    whole = watch.samples[0].available
    watch.ask(watch.guest.size)
    took = watch.until(lambda sample: not sample.held, limit(watch.guest))
    watch.for_seconds(3)
    least = whole * 19 // 20
    return [
        Check('balloon', 'empty',
              f'{text_mib(watch.last.held)} held' if took is None
              else f'empty in {seconds(took)}', took is not None),
        Check('guest, available',
              f'>= {least / MIB:.0f} (was {text_mib(whole)})',
              text_mib(watch.last.available), watch.last.available >= least)]


def oom(watch):
    """inflated again, a program in the guest needs {needy}"""
    inflate_to(watch, quarter(watch.guest))
    first, size = watch.last, needy_size(watch.guest)
    program = Program(watch, size, HOLD)
    with watch.program(size):
        got = watch.until(program.ready, 2 * limit(watch.guest))
        ready = watch.now()
        watch.until(program.ended, HOLD + limit(watch.guest))
    deflated = watch.last
    back = watch.until(
        lambda sample: sample.held >= deflated.held + 64 * MIB, 20)
    watch.for_seconds(2)
    return [program_check(program, got), kill_check(first, watch.last),
            gave_check(first, deflated),
            *calm_checks(watch, ready, deflated, back)]


def program_check(program, got):
    """It must get its memory and find in it what it wrote."""
    return Check('the program', 'gets and keeps memory',
                 f'{program.fate()}, written in {seconds(got)}',
                 program.status == 0)


def kill_check(first, last):
    """Nobody may die for memory that the host can give back."""
    kills = last.oom_kills - first.oom_kills
    return Check('OOM kills', '0', str(kills), not kills)


def gave_check(first, deflated):
    """Without this the rest would prove nothing."""
    gave = first.held - deflated.held
    calls = '' if deflated.ooms is None \
        else f' in {deflated.ooms - first.ooms} OOMs'
    return Check('balloon, on OOM', 'gives back', text_mib(gave) + calls,
                 gave > 0)


def calm_checks(watch, ready, deflated, back):
    """Later the balloon is to fill again, but not at the program's cost."""
    held = [sample.held for sample in watch.since(ready)
            if sample.time <= deflated.time]
    taken = max(held) - held[0] if held else 0
    state = watch.since(ready)[0].state
    return [
        Check('balloon, meanwhile', 'does not grow',
              f'takes {text_mib(taken)}' + (f' ({state})' if state else ''),
              taken < MIB),
        Check('balloon, later', 'heads back within 20 s',
              f'+{text_mib(watch.last.held - deflated.held)} '
              f'({"not 64" if back is None else "64 MiB"} in '
              f'{seconds(back, "20 s")})', back is not None)]


def impossible(watch):
    """the host asks for all but 32 MiB, more than the guest can give"""
    start, before = watch.now(), driver_lines(watch.guest)
    watch.ask(32 * MIB)
    watch.until(lambda sample: sample.time - start > SETTLED
                and watch.settled(), limit(watch.guest))
    settled = watch.last
    watch.guest.guest_cpu()
    watch.for_seconds(IDLE, ask_guest=False)
    cpu = 100 * watch.guest.guest_cpu()
    answer = max(answer_time(watch.guest) for _ in range(5))
    lines = driver_lines(watch.guest)[len(before):]
    watch.sample()
    return [floor_check(watch, settled),
            Check('answers', f'within {PROMPT:.0f} s', f'{answer:.2f} s',
                  answer <= PROMPT),
            Check('guest CPU, stuck', f'<= {MAX_CPU} %', f'{cpu:.1f} %',
                  cpu <= MAX_CPU),
            *why_checks(settled, lines)]


def answer_time(running):
    """Seconds that the guest takes to run a command."""
    start = time.monotonic()
    running.sh('true')
    return time.monotonic() - start


def driver_lines(running):
    """The lines of the guest's log that are about the balloon."""
    return [line for line in running.console().splitlines()
            if 'virtio_balloon' in line or 'fill_balloon' in line]


def floor_of(size):
    """The default of the driver's parameter, for one that has none."""
    return int(64 * (size // 1024) ** 0.5) << 10


def floor_check(watch, settled):
    """The floor is where inflation stops; what caches do later is theirs."""
    floor = settled.floor or floor_of(watch.guest.size)
    least = floor * 3 // 4
    return Check('guest, available', f'>= {text_mib(least)} (3/4 of floor)',
                 f'{text_mib(settled.available)}, {text_mib(settled.held)} '
                 'held', settled.available >= least)


def why_checks(settled, lines):
    """A balloon that is stuck is to say so, but not all day long."""
    return [Check('tells why', 'state is floor', settled.why or 'no state',
                  settled.state == 'floor'),
            Check('lines in the log', f'1 to {MAX_LINES}', str(len(lines)),
                  1 <= len(lines) <= MAX_LINES)]


Phase = collections.namedtuple('Phase', 'name function')
PHASES = (Phase('fill', fill), Phase('inflate', inflate),
          Phase('deflate', deflate), Phase('out of memory', oom),
          Phase('impossible', impossible))


def story(phase, size):
    """What PHASE does, in a sentence."""
    running = argparse.Namespace(size=size)
    return ' '.join(phase.function.__doc__.split()).format(
        fill=text_mib(fill_size(running)), needy=text_mib(needy_size(running)),
        balloon=f'{(size - quarter(running)) / MIB:.0f} of {text_mib(size)}')


# The run

# All that the harness raises if a guest cannot be booted or goes wrong.
TROUBLE = (harness.GuestError, OSError, subprocess.CalledProcessError)


@dataclasses.dataclass
class Verdict:
    """What became of one phase."""

    title: str
    checks: list
    start: float = None
    end: float = None

    @property
    def good(self):
        """Whether all is as expected."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def word(self):
        """The verdict in a word."""
        return 'PASS' if self.good else 'FAIL'


class Run:
    """One demonstration: the guest's life and what is to be said of it."""

    def __init__(self, options, screen):
        self.options, self.screen = options, screen
        self.verdicts = []
        self.watch = None

    def do(self):
        """Boot, play all phases, judge."""
        try:
            with self._boot() as running:
                self._play_all(running)
        except BrokenPipeError:
            raise
        except TROUBLE as error:
            self._failed(error)
        else:
            self._judge_log('none', True)

    def _judge_log(self, seen, good):
        self.verdicts.append(Verdict('log', [
            Check("the guest's log", 'no warnings', seen, good)]))

    def _failed(self, error):
        """What is left has failed too, as nothing has shown that it works."""
        played = len(self.verdicts)
        if isinstance(error, harness.GuestLog):
            self._judge_log(str(error).replace('\n', ' | '), False)
        else:
            self._not_well(next(iter(str(error).splitlines()), repr(error)))
        for number, phase in enumerate(PHASES[played:], played + 1):
            self.verdicts.append(Verdict(f'{number} {phase.name}', [
                Check('the phase', 'is played', 'not played', False)]))

    def _not_well(self, why):
        """The guest has failed: in a phase, or before or after all of them."""
        if not self.verdicts or self.verdicts[-1].checks:
            self.verdicts.append(
                Verdict('end' if self.verdicts else 'boot', []))
        self.verdicts[-1].checks.append(
            Check('the guest', 'is up and answers', why, False))

    @contextlib.contextmanager
    def _boot(self):
        """A guest; what the harness has to say of its failure comes last."""
        self.screen.say(f'booting a guest of {text_mib(self.options.mem)} '
                        'under QEMU ...')
        start, junk = time.monotonic(), io.StringIO()
        try:
            with contextlib.redirect_stdout(junk), \
                    harness.boot(f'{self.options.mem // MIB}M',
                                 driver=self.options.driver, allow_oom=True,
                                 deflate_on_oom=True) as running:
                self.screen.say(f'up after {time.monotonic() - start:.1f} s')
                with self._quiet_end(running):
                    yield running
        except TROUBLE:
            self.screen.say(junk.getvalue())
            raise

    @staticmethod
    @contextlib.contextmanager
    def _quiet_end(running):
        """Someone who interrupts does not want to know how the guest is."""
        try:
            yield
        except (Interrupted, BrokenPipeError):
            running.ended = True
            running.process.kill()
            raise

    def _play_all(self, running):
        self.watch = Watcher(running, self.screen)
        self.screen.say(f'\n{KEY}\n')
        self.screen.header()
        for number, phase in enumerate(PHASES, 1):
            self._play(number, phase)

    def _play(self, number, phase):
        title = f'{number} {phase.name}'
        self.screen.say(f'--- {title}: {story(phase, self.options.mem)}',
                        'bold')
        verdict = Verdict(title, [], start=self.watch.now())
        self.verdicts.append(verdict)
        self.watch.phase = title
        try:
            verdict.checks += phase.function(self.watch)
        finally:
            verdict.end = self.watch.now()

    def show(self):
        """Print the verdicts."""
        self.screen.say(f'\n{"verdict":23}{"expected":25}seen', 'bold')
        for verdict in self.verdicts:
            self._say(verdict.word, verdict.good, verdict.title)
            for check in verdict.checks:
                self._say(' ok' if check.ok else ' no', check.ok,
                          f'{check.what:18} {check.expected:24} {check.seen}')

    def _say(self, word, good, text):
        """A line that begins with WORD in the colour it deserves."""
        word = self.screen.paint(word, 'good' if good else 'bad')
        self.screen.say(f'{word} {text}')

    def count(self):
        """The last line; whether all is well."""
        good = sum(verdict.good for verdict in self.verdicts)
        bad = len(self.verdicts) - good
        self.screen.say(f'{good} passed, {bad} failed')
        return not bad


# The plot

# By Okabe and Ito: to be told apart by everybody.
BLACK, ORANGE, SKY, GREEN = '#000000', '#e69f00', '#56b4e9', '#009e73'
BLUE, RED, PURPLE, GREY = '#0072b2', '#d55e00', '#cc79a7', '#999999'
STATE_COLOURS = {'idle': '#dddddd', 'inflating': SKY, 'deflating': '#b3e0c8',
                 'hold-off': ORANGE, 'floor': PURPLE, 'no-memory': PURPLE,
                 'stalled': RED, 'broken': RED}


class Plot:
    """A picture of a run."""

    def __init__(self, run):
        # Here, since a run without a plot needs none of it.
        import matplotlib
        matplotlib.use('Agg')
        import matplotlib.pyplot as pyplot
        self.run, self.watch = run, run.watch
        self.phases = [verdict for verdict in run.verdicts
                       if verdict.start is not None]
        self.end = self.phases[-1].end
        self.step = self.bottom = None
        self.figure, (self.main, self.strip) = pyplot.subplots(
            2, sharex=True, figsize=(12, 9.6), dpi=110,
            gridspec_kw={'height_ratios': (12, 1.7), 'hspace': 0.05})

    def save(self, path):
        """Draw it all."""
        lines = self._layout()
        self._title()
        self._bands()
        self._lines()
        self._oom_marks()
        self._floor_note()
        self._axes()
        self._strip()
        self._verdicts(lines)
        self.figure.savefig(path)

    def _title(self):
        release = harness.environment()['KREL']
        driver = self.run.options.driver
        self.figure.suptitle(
            f'A guest gives memory to its host and gets it back\n'
            f'Linux {release}, {text_mib(self.run.options.mem)}, '
            f'virtio_balloon: {driver} ({DRIVERS[driver]})', fontsize=13,
            y=0.975)

    def _bands(self):
        """Each phase is a band with its name on top."""
        top = self.run.options.mem / MIB
        for index, phase in enumerate(self.phases):
            for axes in (self.main, self.strip):
                axes.axvspan(phase.start, phase.end, zorder=0, linewidth=0,
                             color=('#f3f3f3', '#ffffff')[index % 2])
            number, _, name = phase.title.partition(' ')
            middle = (phase.start + phase.end) / 2
            self.main.text(middle, top * 1.12, number, ha='center',
                           va='center', fontsize=15, weight='bold')
            for size in (10, 8):
                if self._fits(name, phase.end - phase.start, size):
                    self.main.text(middle, top * 1.055, name, ha='center',
                                   va='center', fontsize=size)
                    break

    def _fits(self, text, width, size):
        """Whether TEXT of font SIZE fits into WIDTH seconds."""
        inches = self.main.get_position().width * self.figure.get_figwidth()
        return len(text) * size * 0.57 / 72 < width / self.end * inches

    def _series(self, name):
        """The points of one line, less those where it was not looked."""
        points = [(sample.time, getattr(sample, name) / MIB)
                  for sample in self.watch.samples
                  if getattr(sample, name) is not None]
        return zip(*points)

    def _lines(self):
        self.main.plot(*self._series('target'), color=BLACK, linewidth=1.5,
                       linestyle=(0, (4, 2)), drawstyle='steps-post',
                       label='target: what the host wants to have',
                       zorder=5)
        self.main.plot(*self._series('held'), color=BLUE, linewidth=3,
                       label='held by the balloon', zorder=4)
        self.main.plot(*self._series('rss'), color=RED, linewidth=2.2,
                       label='RSS of QEMU: what the guest costs',
                       zorder=3)
        self.main.plot(*self._series('free'), color=GREEN, linewidth=1.6,
                       linestyle=(0, (6, 1, 1, 1)),
                       label='free in the guest', zorder=3)

    def _oom_marks(self):
        marks = self.watch.oom_deflations()
        if marks:
            self.main.plot([mark.time for mark in marks],
                           [mark.held / MIB for mark in marks], 'v',
                           color=ORANGE, markeredgecolor=BLACK, markersize=9,
                           linestyle='none', zorder=6,
                           label='given back unasked: guest out of memory')

    def _floor_note(self):
        """The end of a squeeze, where the target is not reached on purpose."""
        last = self.watch.last
        if last.state == 'floor' and last.available is not None:
            self.main.annotate(
                'stops at the floor:\nthe guest keeps\n'
                f'{text_mib(last.available)} available',
                (last.time - (self.end - self.phases[-1].start) / 2,
                 last.held / MIB), xytext=(0, -45),
                textcoords='offset points', ha='center', va='top',
                fontsize=9.5, arrowprops={'arrowstyle': '->'}, zorder=7)

    def _axes(self):
        size = self.run.options.mem / MIB
        self.main.set_xlim(0, self.end * 1.005)
        self.main.set_ylim(-size * 0.015, size * 1.17)
        self.main.set_yticks([size * part / 8 for part in range(9)])
        self.main.set_ylabel('MiB')
        self.main.grid(axis='y', color='#d0d0d0', linewidth=0.7)
        self.main.tick_params(axis='x', length=0)
        self.main.axhline(size, color=GREY, linewidth=1)
        self.main.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0),
                         ncol=3, frameon=False, fontsize=9.5)
        self.strip.set_xlabel('seconds since the guest is up')

    def _strip(self):
        """Below: what ran in the guest, and what the driver said."""
        self.strip.set_ylim(0, 2)
        self.strip.set_yticks([1.5, 0.5], ['program in guest', 'driver state'])
        self.strip.tick_params(axis='y', length=0)
        for size, start, end in self.watch.programs:
            self._bar(start, end, 1.5, f'uses {text_mib(size)}', '#c8c8c8')
        for state, start, end in self._states():
            self._bar(start, end, 0.5, state or 'does not tell',
                      STATE_COLOURS.get(state, '#ffffff'))

    def _bar(self, start, end, middle, text, colour):
        self.strip.barh(middle, end - start, left=start, height=0.8,
                        color=colour, edgecolor='#ffffff', linewidth=0.8)
        if self._fits(text, end - start, 8.5):
            self.strip.text((start + end) / 2, middle, text, ha='center',
                            va='center', fontsize=8.5)

    def _states(self):
        """(state, start, end) of each stretch of one state."""
        result = []
        samples = self.watch.samples
        ends = [sample.time for sample in samples[1:]] + [self.end]
        for sample, end in zip(samples, ends):
            if result and result[-1][0] == sample.state:
                result[-1][2] = end
            else:
                result.append([sample.state, sample.time, end])
        return result

    def _layout(self):
        """Room for the text at the bottom; the lines of it."""
        lines = [(verdict, line) for verdict in self.phases
                 for line in self._summary(verdict)]
        self.step = 0.0178
        self.bottom = self.step * len(lines) + 0.076
        self.figure.subplots_adjust(left=0.115, right=0.985, top=0.858,
                                    bottom=self.bottom)
        return lines

    def _verdicts(self, lines):
        """At the bottom: what was done and seen, phase by phase."""
        for index, (verdict, line) in enumerate(lines):
            y = self.bottom - 0.063 - self.step * index
            self.figure.text(0.065, y, line, fontsize=9.2, va='top')
            if line.startswith(verdict.title):
                self.figure.text(0.02, y, verdict.word, fontsize=9.2,
                                 weight='bold', va='top',
                                 color=BLUE if verdict.good else RED)

    def _summary(self, verdict):
        """Lines about one phase: what it does, and what was seen."""
        phase = PHASES[int(verdict.title.split()[0]) - 1]
        # Blanks that do not break keep each figure on one line.
        seen = ' '.join((f'{check.what}: {check.seen}'
                         + ' (FAIL)' * (not check.ok)
                         + ';').replace(' ', '\xa0')
                        for check in verdict.checks)
        return [f'{verdict.title}: {story(phase, self.run.options.mem)}',
                *textwrap.wrap(seen.rstrip(';'), 165, break_on_hyphens=False,
                               initial_indent='    ',
                               subsequent_indent='    ')]


def draw(run, screen):
    """The plot, if it is wanted; whether that worked."""
    path = run.options.output
    if run.options.no_plot:
        return True
    if not (run.watch and run.watch.samples):
        screen.say('no plot: there is nothing to draw')
        return False
    try:
        Plot(run).save(path)
    except OSError as error:
        screen.say(f'no plot: {error}')
        return False
    screen.say(f'plot: {path.resolve()}')
    return True


def interrupt(number, _frame):
    """End in good order: QEMU goes, and so does its folder."""
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted(number)


def main():
    """The program; the exit status."""
    options = arguments()
    if options.check:
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    screen = Screen(sys.stdout)
    run = Run(options, screen)
    try:
        run.do()
        run.show()
        drawn = draw(run, screen)
        return 0 if run.count() and drawn else 1
    except Interrupted as signalled:
        print('\ndemo: interrupted, the guest is gone', file=sys.stderr)
        return 128 + signalled.args[0]
    except BrokenPipeError:    # as of "scripts/demo | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == '__main__':
    sys.exit(main())
