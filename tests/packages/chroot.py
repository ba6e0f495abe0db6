# SPDX-License-Identifier: GPL-2.0-only
"""Debian systems to install packages in: cached, and never changed."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
MAKE = HERE / 'make-chroot'
MOUNT = '''
options="lowerdir=$1,upperdir=$2/upper,workdir=$2/work"
mount -t overlay overlay -o "$options" "$2/debian"
mount -t proc proc "$2/debian/proc"
mount --rbind /dev "$2/debian/dev"
echo ready
exec cat
'''
ENVIRONMENT = ('PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C',
               'DEBIAN_FRONTEND=noninteractive')


class Failed(Exception):
    """A command failed."""


def run(*command, what=None, **options):
    """Run a command; what it prints on both channels."""
    start = time.monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, **options)
    what = what or ' '.join(map(str, command))
    print(f'{what}\n{done.stdout}[{time.monotonic() - start:.1f} s]')
    if done.returncode:
        raise Failed(f'status {done.returncode} of: {what}\n{done.stdout}')
    return done.stdout


def cache():
    """The folder of all chroots; it exists."""
    given = os.environ.get('XDG_CACHE_HOME', '')
    home = pathlib.Path(given if given.startswith('/') else
                        pathlib.Path.home() / '.cache')
    path = home / 'virtio-balloon/chroots'
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path, wait=True):
    """Hold the lock; BlockingIOError if another has it, unless WAIT."""
    with open(path, 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def base(suite):
    """The folder of a suite's system; made if it is not there."""
    recipe = hashlib.sha256(MAKE.read_bytes()).hexdigest()[:8]
    path = cache() / f'{suite}-{recipe}'
    making = cache() / f'.making-{suite}'
    with locked(cache() / f'.{suite}.lock'):
        if not path.exists():
            for old in (*cache().glob(f'{suite}-*'), making):
                shutil.rmtree(old, ignore_errors=True)
            # What is mounted meanwhile goes, even if this is killed.
            run('unshare', '--mount', '--propagation', 'private', '--',
                MAKE, suite, making / 'root')
            (making / 'root').rename(path)
            making.rmdir()
    return path


@contextlib.contextmanager
def run_folder():
    """A folder for one run. Those of runs that were killed are removed."""
    with contextlib.ExitStack() as stack:
        with locked(cache() / '.runs.lock'):
            for old in cache().glob('.run.*'):
                with contextlib.suppress(BlockingIOError):
                    with locked(old / 'lock', wait=False):
                        shutil.rmtree(old)
            place = pathlib.Path(tempfile.mkdtemp(prefix='.run.',
                                                  dir=cache()))
            stack.enter_context(locked(place / 'lock'))
        try:
            yield place
        finally:
            shutil.rmtree(place)


class Chroot:
    """A suite's system, of which nothing is left in the end."""

    def __init__(self, suite, place, pid):
        self.suite, self.place = suite, place
        self._enter = ('nsenter', '--target', str(pid), '--mount', '--')
        self.root = place / 'debian'
        self.base = base(suite)

    def sh(self, command):
        """Run shell commands as root; what they print on both channels."""
        return run(*self._enter, 'chroot', self.root, 'env', '-i',
                   *ENVIRONMENT, 'sh', '-ec', command,
                   what=f'{self.suite}# {command}')

    def put(self, path, to):
        """Copy a file or a folder into it."""
        target = self.place / 'upper' / to.lstrip('/')
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copy(path, target)

    def get(self, path, to):
        """Copy a file out of it."""
        run(*self._enter, 'cp', f'{self.root}{path}', to)

    def glob(self, *patterns):
        """Paths that match the shell's patterns."""
        words = ' '.join(patterns)
        return self.sh(f'for f in {words}; do '
                       '[ ! -e "$f" ] || echo "$f"; done').split()


@contextlib.contextmanager
def chroot(suite):
    """A system of that suite, to be changed at will; gone on leaving."""
    lower = base(suite)
    with run_folder() as place:
        for name in ('upper', 'work', 'debian'):
            (place / name).mkdir()
        # It ends when its input does: the mounts go with it, whatever happens.
        with subprocess.Popen(
                ['unshare', '--mount', '--propagation', 'private',
                 'sh', '-ec', MOUNT, 'sh', lower, place],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True) as holder:
            if holder.stdout.readline() != 'ready\n':
                raise Failed(f'could not mount {lower} with an overlay')
            yield Chroot(suite, place, holder.pid)
