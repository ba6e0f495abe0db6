# SPDX-License-Identifier: GPL-2.0-only
"""The harness itself: what it must notice, it notices.

Each other test relies on this, as a harness that sees no evil passes all.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

import guest
from guest import (MIB, GuestDied, GuestError, GuestFault, GuestLog,
                   GuestTimeout, boot)
from initramfs import initramfs
from test_sizing import DEFLATE, INFLATE, held_after


@pytest.fixture(scope='module')
def plain():
    """A guest without any balloon driver."""
    with boot(driver=None) as running:
        yield running


# The control channel

def test_commands_answer_with_output_and_status(plain):
    assert plain.sh('echo out; echo err >&2') == 'out\nerr\n'
    assert plain.sh('exit 3', check=False) == ''
    with pytest.raises(guest.CommandFailed) as caught:
        plain.sh('echo why; exit 7')
    assert (caught.value.status, caught.value.output) == (7, 'why\n')


@pytest.mark.parametrize('text', [
    'plain', "it's", 'a\\nb', 'a\nb', '$HOME `id` "x"', '= 1', '! up',
    '% \t é', ' blanks  around '])
def test_any_text_gets_through_the_channel(plain, text):
    command = "cat <<'END'\n" + text + '\nEND'
    assert plain.sh(command) == text + '\n'


def test_long_and_binary_output_is_whole(plain):
    count = 2 * MIB
    octal = plain.sh(f'head -c {count} /dev/zero | tr "\\0" "\\3"')
    assert octal == '\3' * count


def test_commands_run_in_the_background(plain):
    quick = plain.spawn('echo done; exit 4')
    slow = plain.spawn('echo started; sleep 1000')
    assert quick.wait() == 4
    assert quick.output() == 'done\n'
    slow.wait_output('started')
    assert slow.poll() is None
    with pytest.raises(GuestTimeout):
        slow.wait(timeout=0.1)
    slow.kill()
    assert slow.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize('command', [
    'echo $$; exec sleep 1000', '(sleep 1000; echo no) & echo $$; wait',
    'trap "" TERM; echo $$; while :; do sleep 1000; done'])
def test_a_killed_job_has_a_status_and_leaves_nothing(plain, command):
    job = plain.spawn(command)
    group = job.wait_output(r'\d+')[0]
    job.kill('KILL')
    assert job.wait() == 128 + signal.SIGKILL
    assert job.output() == group + '\n'
    guest.wait_for(lambda: plain.sh('ps -o args'),
                   lambda text: 'sleep 1000' not in text, 10, 'all to die')


def test_a_hanging_command_times_out_and_the_next_one_is_answered(plain):
    with pytest.raises(GuestTimeout, match='did not end in 1 s'):
        plain.sh('sleep 3; echo late', timeout=1)
    assert plain.sh('echo next') == 'next\n'


def test_hog_writes_and_verifies_memory(plain):
    job = plain.spawn('hog -r 32 -1 2')
    job.wait_output(r'ready \d+')
    job.kill()
    assert plain.spawn('hog -n 32').wait() == 0
    assert plain.spawn('hog x').wait() == 2


def memory_of_hog(running):
    """Address in the middle of the memory that the only hog fills."""
    maps = running.sh('cat /proc/$(pidof hog)/maps')
    start, end = max(
        ([int(part, 16) for part in span.split('-')]
         for span in re.findall(r'^\w+-\w+(?= rw)', maps, re.M)),
        key=lambda span: span[1] - span[0])
    assert end - start >= 32 * MIB
    return (start + end) // 2 // guest.PAGE * guest.PAGE


@pytest.mark.parametrize('option', ['-r', '-n'])
def test_hog_finds_a_word_that_changed(plain, option):
    job = plain.spawn(f'hog {option} 32 -1')
    job.wait_output('ready')
    plain.sh('dd if=/dev/zero of=/proc/$(pidof hog)/mem bs=8 count=1 '
             f'seek={memory_of_hog(plain) // 8} conv=notrunc')
    job.kill()
    with pytest.raises(GuestFault, match='bad word'):
        job.check_intact()


def view_of(*buffers):
    """What QEMU's trace would show of them."""
    view = guest.TraceView()
    view.buffers = [guest.Buffer(*buffer) for buffer in buffers]
    return view


@pytest.mark.parametrize('buffers, before, what', [
    ([(INFLATE, [5, 6, 5])], [], 'twice in one buffer'),
    ([(DEFLATE, [5, 5])], [5], 'twice in one buffer'),
    ([(INFLATE, [5]), (INFLATE, [6, 5])], [], 'inflated although'),
    ([(INFLATE, [5])], [5], 'inflated although'),
    ([(DEFLATE, [5])], [], 'deflated although'),
    ([(INFLATE, [5]), (DEFLATE, [5]), (DEFLATE, [5])], [], 'deflated altho'),
    ([(2, [5])], [5], 'deflated although'),
])
def test_a_stream_that_breaks_the_rules_is_refused(buffers, before, what):
    with pytest.raises(GuestFault, match=what):
        held_after(view_of(*buffers), before)


def test_a_stream_that_keeps_the_rules_is_added_up():
    view = view_of((INFLATE, [5, 6]), (DEFLATE, [6, 9]), (INFLATE, [6]))
    assert held_after(view, [8, 9]) == {5, 6, 8}


def test_rss_follows_touched_memory(plain):
    before = plain.rss()
    plain.touch(512 * MIB)
    assert plain.rss() - before > 256 * MIB
    assert plain.rss() <= plain.size


def test_cpu_time_is_the_vcpus(plain):
    before = plain.cpu()
    plain.guest_cpu()
    plain.sh('i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done')
    assert plain.guest_cpu() > 0.5
    assert plain.cpu().vcpu_user > before.vcpu_user


def test_the_console_is_counted_as_it_is_returned(tmp_path):
    unborn = guest.Guest(guest.Config(), tmp_path)
    assert unborn.console() == ''
    (tmp_path / 'console.log').write_bytes(b'one\r\ntwo\r\r\nth\xffee')
    assert unborn.console() == 'one\ntwo\nth\xffee'
    assert unborn.console(len('one\n')) == 'two\nth\xffee'
    assert unborn.console(len(unborn.console())) == ''


# What a guest must not do

def test_a_panic_ends_the_run_at_once():
    with pytest.raises(GuestDied) as caught, boot(driver=None) as dying:
        dying.sh('echo c >/proc/sysrq-trigger', timeout=200)
    assert 'Kernel panic' in str(caught.value)


def test_a_panic_is_noticed_where_the_guest_would_reboot():
    with pytest.raises(GuestDied, match='panicked|rebooted'), \
            boot(driver=None, reboot=True) as dying:
        dying.sh('echo c >/proc/sysrq-trigger', timeout=200)


def test_a_warning_in_the_log_fails_the_test():
    line = 'WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2'
    with pytest.raises(GuestLog, match=re.escape(line)), \
            boot(driver=None) as warned:
        warned.sh(f'echo "<4>{line}" >/dev/kmsg')


def test_an_allowed_line_does_not_fail_the_test():
    with boot(driver=None, allow=['WARNING: expected']) as warned:
        warned.sh('echo "<4>WARNING: expected" >/dev/kmsg')


def test_an_oom_kill_fails_the_test_unless_allowed():
    with pytest.raises(GuestLog, match='Out of memory'), \
            boot(mem='256M', driver=None) as small:
        assert small.spawn('hog 1000').wait() != 0
    with boot(mem='256M', driver=None, allow_oom=True) as small:
        assert small.spawn('hog 1000').wait() != 0


def test_a_guest_that_powers_off_by_itself_fails_the_test():
    with pytest.raises(GuestDied), boot(driver=None) as leaving:
        leaving.sh('poweroff -f', timeout=200)


def test_a_guest_that_hangs_fails_the_test(monkeypatch):
    with pytest.raises(GuestTimeout, match='did not end'), \
            boot(driver=None) as hung:
        hung.sh('true')
        sh = hung.sh
        monkeypatch.setattr(hung, 'sh', lambda command: sh(command, 2))
        # A stopped agent is what a hung guest looks like from outside.
        with contextlib.suppress(GuestTimeout):
            sh('kill -STOP $PPID & kill -STOP $$', timeout=2, check=False)


def test_a_guest_that_never_comes_up_fails_the_test():
    with pytest.raises(GuestTimeout, match='no sign of life'), \
            boot(driver=None, timeout=8, append='rdinit=/bin/sleep -- 1000'):
        pytest.fail('it is up')


def test_a_driver_that_cannot_be_loaded_fails_the_boot():
    with pytest.raises(GuestError, match='insmod'), \
            boot(driver='stock', append='module_blacklist=virtio_balloon'):
        pytest.fail('it is up')


@pytest.mark.parametrize('line, bad', [
    ('[    1.0] virtio_balloon: loading out-of-tree module taints kernel.', 0),
    ('[    1.0] kfence: initialized - using 2097152 bytes', 0),
    ('[    1.0] kmemleak: Kernel memory leak detector initialized', 0),
    ('[    1.0] rcu: Preemptible hierarchical RCU implementation.', 0),
    ('[    1.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2', 1),
    ('[    1.0] WARNING: possible circular locking dependency detected', 1),
    ('[    1.0] kmemleak: 3 new suspected memory leaks', 1),
    ('[    1.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:', 1),
    ('[    1.0] INFO: task insmod:80 blocked for more than 120 seconds.', 1),
    ('[    1.0] list_del corruption. prev->next should be ffff', 1),
    ('[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!', 1),
])
def test_bad_log_lines(line, bad):
    assert guest.bad_lines(line) == [line] * bad


def test_an_oom_report_is_allowed_as_a_whole_and_no_more():
    report = ('hog invoked oom-killer: gfp_mask=0x140dca\nCall Trace:\n'
              'oom-kill:constraint=CONSTRAINT_NONE\n'
              'Out of memory: Killed process 90 (hog)\n')
    assert guest.bad_lines(report, allow_oom=True) == []
    assert guest.bad_lines(report + 'Call Trace:', allow_oom=True) \
        == ['Call Trace:']


# Life of a guest

def test_a_paused_guest_starts_on_cont():
    with boot(driver=None, paused=True) as paused:
        assert not paused.running()
        paused.cont()
        paused.wait_up()
        assert paused.sh('echo up') == 'up\n'


@pytest.mark.parametrize('how', ['reset', 'reboot'])
def test_a_guest_comes_up_again(how):
    with boot(driver='stock') as again:
        again.sh('touch /run/old')
        getattr(again, how)()
        assert again.sh('ls /run/old', check=False).startswith('ls:')
        assert again.sh('grep -c ^virtio_balloon /proc/modules') == '1\n'


def test_a_shutdown_is_no_failure():
    with boot(driver='stock') as leaving:
        leaving.shutdown()


def test_a_suspended_guest_wakes_up():
    """And is all there: it hears that its device is to go."""
    with boot(driver='stock', suspend=True, hotplug=True) as sleeper:
        sleeper.balloon_to(900 * MIB)
        sleeper.suspend()
        assert 'PM: suspend exit' in sleeper.dmesg()
        assert sleeper.wait_settled() == 900 * MIB
        sleeper.hotplug_del()


def test_migration_moves_the_guest():
    with boot(mem='256M', driver='stock') as source, \
            boot(mem='256M', driver='stock', incoming=True) as target:
        source.sh('echo moved >/run/marker')
        source.migrate(target)
        assert target.sh('cat /run/marker') == 'moved\n'


def _qemus():
    """Process ids of the children of this process that are QEMU."""
    path = f'/proc/{os.getpid()}/task/{os.getpid()}/children'
    with open(path, encoding='ascii') as file:
        return [int(pid) for pid in file.read().split()
                if 'qemu' in os.readlink(f'/proc/{pid}/exe')]


def test_no_process_and_no_file_is_left():
    before = _qemus()
    with boot(driver=None, paused=True) as short:
        directory = short.directory
        assert short.pid in _qemus()
    assert _qemus() == before
    assert not directory.exists()


def test_qemu_dies_with_a_killed_test_run():
    script = textwrap.dedent('''
        import time
        import guest
        with guest.boot(driver=None, paused=True) as running:
            print(running.pid, running.directory, flush=True)
            time.sleep(1000)
    ''')
    with subprocess.Popen([sys.executable, '-c', script], cwd=guest.HERE,
                          stdout=subprocess.PIPE, text=True) as run:
        pid, directory = run.stdout.readline().split()
        assert _is_alive(pid)
        run.send_signal(signal.SIGKILL)
    shutil.rmtree(directory)    # which nobody else can do now
    guest.wait_for(lambda: _is_alive(pid), lambda alive: not alive, 10,
                   'QEMU to die')


@pytest.mark.parametrize('closed', ['<&-', '<&- >&- 2>&-'])
def test_a_guest_starts_without_standard_files(closed, tmp_path):
    script = textwrap.dedent('''
        import sys
        import guest
        with guest.boot(driver=None, paused=True) as running:
            with open(sys.argv[1], 'w') as file:
                print(running.running(), file=file)
    ''')
    subprocess.run(
        ['sh', '-c', f'exec "$@" {closed}', 'sh', sys.executable, '-c', script,
         tmp_path / 'out'], cwd=guest.HERE, check=True)
    assert (tmp_path / 'out').read_text() == 'False\n'


def _is_alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def _pytest(folder, script):
    """Run pytest on SCRIPT, as scripts/test does."""
    (folder / 'test_it.py').write_text(script)
    return subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'conftest', 'test_it.py',
         '--rootdir', folder, '--noconftest', '-q'],
        env={**os.environ, 'PYTHONPATH': f'{guest.HERE.parent}:{guest.HERE}',
             'VB_COUNTS': str(folder / 'counts')}, text=True, cwd=folder,
        stdout=subprocess.PIPE, check=False)


def test_a_test_that_takes_too_long_fails(tmp_path):
    done = _pytest(tmp_path, 'import time\nimport pytest\n'
                   '@pytest.mark.time_limit(1)\n'
                   'def test_slow():\n    time.sleep(60)\n')
    assert done.returncode == 1
    assert 'not done after 1 s' in done.stdout


FAILS = 'def test_fails():\n    assert False\n'
SPLAT = '    print("the log of the guest has")\n'
DIES = 'def test_dies():\n    raise OSError\n'
WRONG = '''from base import GuestFault
def test_wrong():
    raise GuestFault
'''
NO_END = '''import pytest
@pytest.fixture
def guest():
    yield
    raise OSError
def test_fails(guest):
    assert False
'''


@pytest.mark.parametrize('script, late', [
    (FAILS, ['test_it.py::test_fails']),
    (FAILS + DIES, []),
    (WRONG, []),
    (FAILS.replace('\n', '\n' + SPLAT, 1), []),
    (NO_END, []),
    (''.join(FAILS.replace('fails', f'fails_{i}') for i in range(4)), []),
], ids=['late', 'dies', 'wrong', 'splat', 'no end', 'too many'])
def test_what_may_be_late_is_run_again(tmp_path, script, late):
    """And nothing else."""
    assert _pytest(tmp_path, script).returncode == 1
    assert (tmp_path / 'counts.late').read_text().splitlines() == late


# The balloon, with the kernel's own driver

def test_the_host_sees_the_balloon_and_its_stream():
    with boot(driver='stock', trace=True) as ballooned:
        assert ballooned.devices() == ['virtio1']
        ballooned.trace.mark()
        ballooned.balloon_to(768 * MIB)
        view = ballooned.trace.view()
        assert len(set(view.pfns(0))) == len(view.pfns()) == 256 * MIB // 4096
        assert sum(view.runs()) == len(view.pfns())
        assert {buffer.queue for buffer in view.buffers} == {0}
        assert 0 < view.kicks[0] <= len(view.buffers)
        assert 0 < view.interrupts[0] <= len(view.buffers)
        assert view.targets == [768 * MIB]
        assert view.config_writes[-1] == 256 * MIB // 4096
        ballooned.trace.mark()
        assert ballooned.trace.view().pfns() == []
        ballooned.trace.forget()
        assert ballooned.trace.path.stat().st_blocks < 128
        ballooned.balloon_to(ballooned.size)
        view = ballooned.trace.view()
        assert len(view.pfns(1)) == 256 * MIB // 4096
        assert view.config_writes[-1] == 0


def test_statistics_arrive():
    with boot(driver='stock') as ballooned:
        ballooned.stats_interval(1)
        stats = ballooned.wait_stats(2)
        assert 0 < stats['stat-free-memory'] < ballooned.size
        assert ballooned.events is not None


def test_a_target_that_is_not_reached_times_out():
    with boot(driver=None) as alone:
        alone.balloon(768 * MIB)
        with pytest.raises(GuestTimeout, match=f'last: {alone.size}'):
            alone.wait_actual(768 * MIB, timeout=0.5)
        assert alone.wait_settled(quiet=0.2) == alone.size


def test_unload_load_unbind_bind():
    with boot(driver='stock') as ballooned:
        ballooned.unbind()
        ballooned.bind()
        ballooned.unload()
        ballooned.load('stock')
        ballooned.balloon_to(900 * MIB)


def test_the_balloon_can_be_plugged():
    with boot(driver='stock', hotplug=True) as ballooned:
        ballooned.wait_device()
        ballooned.hotplug_del()
        assert ballooned.devices() == []
        ballooned.hotplug_add(deflate_on_oom=True)
        ballooned.wait_device()
        ballooned.balloon_to(900 * MIB)


# The virtio feature bits that show that a variant is what it is called.
EVENT_IDX, VERSION_1, RING_PACKED = 29, 32, 34

VARIANTS = {
    # name: (options of boot(), feature bits set, feature bits clear)
    'mmio': ({'machine': 'microvm'}, {VERSION_1, EVENT_IDX}, {RING_PACKED}),
    'mmio-legacy': ({'machine': 'microvm', 'extra': (
        '-global', 'virtio-mmio.force-legacy=on')}, {EVENT_IDX}, {VERSION_1}),
    'transitional': ({'balloon': 'virtio-balloon-pci-transitional'},
                     {VERSION_1}, set()),
    'legacy': ({'disable_modern': True, 'disable_legacy': 'off'},
               {EVENT_IDX}, {VERSION_1}),
    'packed': ({'packed': True}, {RING_PACKED}, set()),
    'no-event-idx': ({'event_idx': False}, {VERSION_1}, {EVENT_IDX}),
    'reporting': ({'free_page_reporting': True}, {5}, {3}),
    'hinting': ({'free_page_hint': True}, {3}, {5}),
    'deflate-on-oom': ({'balloon': 'virtio-balloon-pci,deflate-on-oom=on'},
                       {2}, set()),
    'two-cpus': ({'smp': 2}, {VERSION_1}, set()),
    'memfd': ({'mem_backend': 'memory-backend-memfd,share=on'}, {1}, set()),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_of_the_device(name):
    options, have, lack = VARIANTS[name]
    with boot(driver='stock', trace=True, **options) as ballooned:
        features = ballooned.features()
        assert have <= features and not lack & features
        ballooned.balloon_to(900 * MIB)
        assert ballooned.trace.view().kicks[0] > 0


@pytest.mark.parametrize('modules', [(), ('virtio_net',)])
def test_there_is_room_for_acpi_tables_behind_the_initramfs(modules):
    # It depended on the size of a module whether a microvm found its devices.
    assert -initramfs(modules).stat().st_size % 4096 >= 3072


@pytest.mark.new_qemu
@pytest.mark.parametrize('machine', ['q35', 'microvm'])
def test_the_newer_qemu(machine):
    with boot(driver='stock', qemu='new', trace=True,
              machine=machine) as ballooned:
        ballooned.balloon_to(900 * MIB)
        view = ballooned.trace.view()
        assert len(view.pfns(0)) == 124 * MIB // 4096
        assert view.kicks[0] > 0 < view.interrupts[0]


# scripts/vm

def _vm(commands, *options):
    return subprocess.run([guest.TOP / 'scripts/vm', *options],
                          input=commands, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_vm_obeys_commands_from_a_pipe():
    done = _vm('balloon 512M\ninfo\nguest echo from the guest\nstats\n'
               'reset\nquit\n', '--driver', 'stock')
    assert done.returncode == 0, done.stdout
    assert re.search(r'actual +512 MiB of 1024 MiB', done.stdout)
    assert '\nfrom the guest\n' in done.stdout
    assert 'stat-free-memory' in done.stdout
    assert 'up again' in done.stdout


def test_vm_says_what_is_wrong_and_goes_on():
    done = _vm('balloon lots\nballoon 3G\nbaloon 1G\nconsole\n'
               'guest exit 5\nguest echo still there\n',
               '--driver', 'stock')
    assert done.returncode == 1
    for text in ('balloon SIZE, such as', 'at most 1024 MiB',
                 "no command 'baloon'", 'needs a terminal', 'exit status 5',
                 '\nstill there\n'):
        assert text in done.stdout


def test_vm_refuses_wrong_options():
    assert 'at least 128 MiB' in _vm('', '--mem', '5M').stdout
    assert 'not a size' in _vm('', '--mem', 'much').stdout
    assert 'invalid choice' in _vm('', '--driver', 'other').stdout
