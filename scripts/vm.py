#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Boot a guest with the balloon driver and leave it to the user."""

import argparse
import contextlib
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
import tty

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'tests/guest'))

import guest    # noqa: E402

MIB = guest.MIB
SMALLEST = 128 * MIB
DETACH = 0x1d    # Ctrl-]

HELP = """\
balloon SIZE       let the guest keep SIZE: 512M, 1.5G or bytes
info               what the guest, the host and the driver say of the balloon
stats              the guest's statistics as QEMU has them
guest COMMAND...   run COMMAND in the guest's shell; Ctrl-C kills it
console            a shell in the guest, on a terminal; Ctrl-] leaves it
dmesg              the guest's kernel log
reset              reset the guest as by its button, and wait for it
stop, cont         pause the guest, and let it go on
help               this text
quit               end the guest"""


class UsageError(Exception):
    """What the user asked for is not possible."""


def mib(size):
    """SIZE in bytes as text in MiB."""
    return f'{size / MIB:.0f} MiB'


class Prompt:
    """The commands; each public method is one, with the line's rest."""

    def __init__(self, running, driver):
        self.guest, self.driver = running, driver
        self.target = running.size
        self.failed = False

    # Reading commands

    def names(self):
        """All commands."""
        return sorted(name[3:] for name in dir(self)
                      if name.startswith('do_'))

    def run(self):
        """Read and obey commands until quit or the end of the input."""
        for line in self._lines():
            name, _, rest = line.strip().partition(' ')
            if name in ('quit', 'exit'):
                return
            if name and not self._obey(name, rest.strip()):
                return

    def _lines(self):
        interactive = sys.stdin.isatty()
        if interactive:
            self._use_readline()
        while True:
            try:
                line = input('vm> ' if interactive else '')
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print('\n(quit ends the guest)')
                continue
            if not interactive:
                print(f'vm> {line}', flush=True)
            yield line

    def _use_readline(self):
        import readline    # changes how input() works, thus only here

        def complete(text, state):
            found = [name + ' ' for name in self.names()
                     if name.startswith(text)]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.parse_and_bind('tab: complete')

    def _obey(self, name, rest):
        """Run a command; whether there is still a guest."""
        command = getattr(self, f'do_{name}', None)
        try:
            if not command:
                raise UsageError(f'no command {name!r}: try help')
            command(rest)
        except guest.GuestDied:
            if self.guest.process.poll() != 0:
                raise
            self.guest.ended = True
            print('the guest has ended')
            return False
        except (UsageError, guest.GuestError) as error:
            self.failed = True
            print(f'error: {error}')
        except KeyboardInterrupt:
            print('\ninterrupted')
        sys.stdout.flush()
        return True

    @staticmethod
    def _no_argument(name, rest):
        if rest:
            raise UsageError(f'{name} takes no argument')

    def _need_running(self):
        if not self.guest.running():
            raise UsageError('the guest is paused: cont lets it go on')

    # Commands

    def do_help(self, _rest):
        print(HELP)

    def do_balloon(self, rest):
        try:
            size = guest.parse_size(rest)
        except ValueError:
            raise UsageError('balloon SIZE, such as 512M, 1.5G or bytes') \
                from None
        if not 0 < size <= self.guest.size:
            raise UsageError('SIZE is what the guest is to keep, at most '
                             + mib(self.guest.size))
        self.target = size
        self.guest.balloon(size)
        if self.guest.running():
            self._follow(size)
        else:
            print('set; the guest is paused and will follow after cont')

    def _follow(self, size):
        """Wait until the guest is there, or has got stuck for 3 s."""
        start = changed = time.monotonic()
        pages = size // guest.PAGE * guest.PAGE
        now = self.guest.actual()
        while now != pages and time.monotonic() - changed < 3:
            time.sleep(0.02)
            last, now = now, self.guest.actual()
            if now != last:
                changed = time.monotonic()
        if now == pages:
            print(f'{mib(now)} after {time.monotonic() - start:.1f} s')
        else:
            print(f'stopped at {mib(now)}{self._why()}')

    def _why(self):
        with contextlib.suppress(guest.CommandFailed):
            status = self.guest.status()
            return f': {status.get("state")}, {status.get("why")}'
        return ''

    def do_info(self, rest):
        self._no_argument('info', rest)
        actual = self.guest.actual()
        print(f'target      {mib(self.target)}\n'
              f'actual      {mib(actual)} of {mib(self.guest.size)}\n'
              f'held        {mib(self.guest.size - actual)}\n'
              f'host RSS    {mib(self.guest.rss())} of the guest\'s RAM')
        if not self.guest.running():
            print('guest       paused')
            return
        memory = self.guest.meminfo()
        print(f'guest free  {memory["MemFree"] // 1024} MiB, '
              f'{memory["MemAvailable"] // 1024} MiB available, '
              f'{memory["MemTotal"] // 1024} MiB in total')
        self._show_status()

    def _show_status(self):
        try:
            status = self.guest.status()
        except guest.CommandFailed:
            print(f'driver      {self.driver} (has no status file)')
            return
        print(f'driver      {self.driver}')
        for key, value in status.items():
            print(f'  {key:20} {value}')

    def do_stats(self, rest):
        self._no_argument('stats', rest)
        self._need_running()
        self.guest.stats_interval(1)
        try:
            stats = self.guest.wait_stats(timeout=15)
        finally:
            self.guest.stats_interval(0)
        del stats['last-update']
        for name, value in sorted(stats.items()):
            size = f'  ({mib(value)})' if 'memory' in name \
                or name == 'stat-disk-caches' else ''
            print(f'{name:24} {value}{size}')

    def do_guest(self, rest):
        if not rest:
            raise UsageError('guest COMMAND...')
        self._need_running()
        job = self.guest.spawn(rest)
        try:
            self._show_job(job)
        except KeyboardInterrupt:
            job.kill()
            raise

    def _show_job(self, job):
        shown, status = 0, None
        while status is None:
            status = job.poll()
            new = job.output(shown)
            shown += len(new.encode())
            print(new, end='', flush=True)
            time.sleep(0.1 if status is None else 0)
        if status:
            self.failed = True
            print(f'exit status {status}')

    def do_console(self, rest):
        self._no_argument('console', rest)
        if not sys.stdin.isatty():
            raise UsageError('console needs a terminal; guest COMMAND does '
                             'not')
        self._need_running()
        size = shutil.get_terminal_size()
        self.guest.sh(f'stty -F /dev/hvc0 rows {size.lines} '
                      f'cols {size.columns}', check=False)
        print('(Ctrl-] leaves the guest\'s shell)')
        attach(self.guest.shell)

    def do_dmesg(self, rest):
        self._no_argument('dmesg', rest)
        self._need_running()
        print(self.guest.dmesg(), end='')

    def do_reset(self, rest):
        self._no_argument('reset', rest)
        self._need_running()
        start = time.monotonic()
        self.guest.reset()
        print(f'up again after {time.monotonic() - start:.1f} s')

    def do_stop(self, rest):
        self._no_argument('stop', rest)
        self.guest.stop()

    def do_cont(self, rest):
        self._no_argument('cont', rest)
        self.guest.cont()


def attach(shell):
    """Connect the terminal with the socket SHELL until Ctrl-]."""
    terminal = sys.stdin.fileno()
    saved = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        shell.sendall(b'\n')    # for a prompt
        while copy_once(terminal, shell):
            pass
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
        print()


def copy_once(terminal, shell):
    """Copy what is there, in both directions; whether to go on."""
    ready = select.select([terminal, shell], [], [])[0]
    if shell in ready:
        data = shell.recv(1 << 16)
        if not data:
            return False
        os.write(sys.stdout.fileno(), data)
    if terminal in ready:
        data = os.read(terminal, 1 << 10)
        if not data or DETACH in data:
            return False
        shell.sendall(data)
    return True


def memory_size(text):
    """An argument of --mem."""
    try:
        size = guest.parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if size < SMALLEST:
        raise argparse.ArgumentTypeError('the guest needs at least '
                                         + mib(SMALLEST))
    return f'{size // MIB}M'


def device_options(text):
    """An argument of --device."""
    if not re.fullmatch(r'[\w-]+=[\w.-]+(,[\w-]+=[\w.-]+)*', text):
        raise argparse.ArgumentTypeError(f'not NAME=VALUE,...: {text!r}')
    return dict(option.split('=') for option in text.split(','))


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='scripts/vm',
        description='Boot a guest with the balloon driver under QEMU, and '
        'give a prompt on\nthe host to inflate and look at its balloon. '
        'Commands can also be piped in.',
        epilog='commands:\n' + HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--mem', type=memory_size, default='1G',
                        metavar='SIZE', help='its RAM (default: 1G)')
    parser.add_argument('--smp', type=int, default=1, metavar='N',
                        choices=range(1, 65), help='its CPUs (default: 1)')
    parser.add_argument('--driver', choices=('ours', 'stock'), default='ours',
                        help='this driver (ours, the default) or the '
                        'kernel\'s own (stock)')
    parser.add_argument('--params', default='', metavar='"NAME=VALUE ..."',
                        help='parameters of the driver')
    parser.add_argument('--device', type=device_options, default={},
                        metavar='NAME=VALUE,...', help='properties of '
                        'QEMU\'s device, e.g. deflate-on-oom=on')
    parser.add_argument('--machine', choices=sorted(guest.MACHINES),
                        default='q35', help='QEMU\'s machine (default: q35)')
    parser.add_argument('--kernel-args', default='', metavar='"WORD ..."',
                        help='more of the kernel\'s command line')
    return parser.parse_args()


def prepare():
    """Provide what a guest needs; scripts/prepare says what it does."""
    subprocess.run([HERE / 'prepare'], stdout=sys.stderr, check=True)


def use(options):
    """Boot, prompt and end; the exit status."""
    print(f'booting {options.mem} with driver {options.driver} ...',
          flush=True)
    start = time.monotonic()
    with guest.boot(mem=options.mem, smp=options.smp, driver=options.driver,
                    params=options.params, machine=options.machine,
                    append=options.kernel_args, props=options.device,
                    shell=True, allow_oom=True) as running:
        print(f'up after {time.monotonic() - start:.1f} s; help lists the '
              'commands', flush=True)
        prompt = Prompt(running, options.driver)
        prompt.run()
    return 1 if prompt.failed and not sys.stdin.isatty() else 0


def main():
    """Run the program; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    try:
        prepare()
        return use(options)
    except subprocess.CalledProcessError as error:
        command = shlex.join(map(str, error.cmd))
        print(f'vm: {command} failed', file=sys.stderr)
    except guest.GuestError as error:
        print(f'vm: {error}', file=sys.stderr)
    except KeyboardInterrupt:
        print('\nvm: interrupted', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
