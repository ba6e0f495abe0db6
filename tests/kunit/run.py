#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Run the driver's KUnit tests; see scripts/kunit --help."""

import argparse
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'guest'))

import in_tree    # noqa: E402
import kernels    # noqa: E402
import ktap    # noqa: E402
import mutants    # noqa: E402

STEPS_A_SECOND = 100    # of the fuzzing host, on a slow machine
TIMEOUTS = {'uml': 3600, 'uml-new': 3600, 'debug': 5000}
MOST_AGAIN = 5    # cases: more are not just late
SLOWEST = 10    # cases: so many are named
REASONS = 8    # lines of what was expected of a case
# Where the host says what the driver did wrong, which is no matter of time
VERDICT = re.compile(r'\b(fake_host|fuzz_test)\.c:\d')
# What is looked at where free pages hold something else than usual
FILLED_CASES = 'b[0-9]*,d14*,poison*'
# Why a case may be skipped: anywhere, and in each kernel
SKIPS = ('deflate_mode=shrinker', 'needs deflate_mode=shrinker')
# ... where free pages hold something, and where they do not
FILLED = ('free pages hold something in this guest',)
EMPTY = ('free pages hold nothing in this guest',
         'this guest does not fill free pages',
         'this guest has no poison value')
SKIPS_IN = {
    'uml': (*FILLED, 'this kernel has no such profile'),
    'uml-new': FILLED,
    'debug': (*EMPTY,
              'looks too late where time is real',
              'the host may answer too late',
              'this kernel has no such profile',
              'too late where time is real',
              'waits too long where time is real')}


def parse_arguments(words=None):
    """The options."""
    parser = argparse.ArgumentParser(
        prog='scripts/kunit', allow_abbrev=False,
        description='Builds the driver and its KUnit tests, boots a kernel '
        'with all checks on, and runs them in it. Ends with one line: '
        'N passed, N failed[, N skipped]. The exit status is 0 only if '
        'something ran, nothing failed and the kernel did not complain.')
    add = parser.add_argument
    add('--kernel', choices=('uml', 'uml-new', 'debug'), default='uml',
        help='User Mode Linux, where waiting takes no time (default), the '
        'same of the newest kernel in Debian\'s suites, or an x86-64 kernel '
        'with two processors in QEMU')
    add('--suite', metavar='GLOB', default='*',
        help='only the suites of that name')
    add('--case', metavar='GLOB[,GLOB...]', default='*',
        help='only the cases of these names')
    add('--seed', type=int, metavar='N', help='of what is random')
    add('--steps', type=int, metavar='N', help='of the fuzzing host')
    add('--fuzz', metavar='CASE/ROUND', help='only that round of it, with its '
        'steps in the log, for example lifecycle/85')
    add('--param', metavar='NAME=VALUE', action='append', default=[],
        help='a parameter of the driver')
    add('--init-on-free', action='store_true', help='with --kernel uml: free '
        'pages are zero and not poisoned; without --case only for the cases '
        'that look at that')
    add('--page-poison', action='store_true', help='with --kernel debug: free '
        'pages are poisoned, which takes a while; without --case only for the '
        'cases that look at that')
    add('--coverage', metavar='DIR', type=pathlib.Path,
        help='put .gcda and .gcno files for lcov there')
    add('--mutant', choices=sorted(mutants.BY_NAME), metavar='NAME',
        help='a broken driver, of those that scripts/canaries tries: '
        'the tests should fail')
    add('--timeout', type=float, metavar='SECONDS',
        help=f'end it after that: {TIMEOUTS["uml"]}, with --kernel debug '
        f'{TIMEOUTS["debug"]}; more with --steps')
    add('--kunit-py', action='store_true',
        help='instead: put driver and tests into a kernel tree and have its '
        'own tools/testing/kunit/kunit.py build and run them')
    add('--raw', action='store_true', help='show the whole log of the kernel')
    options = parser.parse_args(words)
    # The newest kernel does not bear it with KASAN in User Mode Linux.
    if options.init_on_free and options.kernel != 'uml':
        parser.error('--init-on-free is for --kernel uml')
    if options.page_poison and options.kernel != 'debug':
        parser.error('--page-poison is for --kernel debug; User Mode Linux '
                     'does so anyway')
    if options.case == '*' and (options.init_on_free or options.page_poison):
        options.case = FILLED_CASES
    return options


def module_parameters(options):
    """What insmod is told: of the driver, and of the tests."""
    tests = [f'suites={options.suite}', f'cases={options.case}']
    tests += [f'{name}={value}' for name, value in
              (('seed', options.seed), ('steps', options.steps),
               ('fuzz', options.fuzz))
              if value is not None]
    return {'driver': ' '.join(options.param), 'tests': ' '.join(tests)}


def run_in_tree(options, env):
    """Numbers of passed, failed and skipped tests."""
    build = kernels.Build('uml', env)
    place = build.dir.with_name(build.dir.name + '-tree')
    place.mkdir(exist_ok=True)
    shutil.copyfile(build.dir / kernels.OF, place / kernels.OF)
    with build.locked():
        return in_tree.run(env, place, options.suite,
                           options.timeout or TIMEOUTS['uml'])


def run(options, env, tmp):
    """Build and boot. What the log says, and its lines."""
    build = kernels.Build(options.kernel, env,
                          mutants.BY_NAME.get(options.mutant),
                          bool(options.coverage))
    options.log = build.log
    files = module_parameters(options)
    if options.coverage:
        files['coverage'] = 'port' if options.kernel == 'debug' else str(tmp)
    with build.locked():
        build.make()
        kernels.make_initramfs(tmp / 'initrd', build, files)
        if options.coverage:
            build.copy_notes(options.coverage)
    if kernels.is_uml(options.kernel):
        fill = kernels.ZERO if options.init_on_free else kernels.POISON
        command = kernels.uml_command(env, tmp, fill)
    else:
        fill = (kernels.POISON,) if options.page_poison else ()
        command = kernels.qemu_command(env, tmp, fill)
    results, lines = ktap.Results(), []
    timeout = options.timeout or TIMEOUTS[options.kernel] \
        + (options.steps or 0) / STEPS_A_SECOND
    with kernels.Machine(command, tmp, timeout) as machine:
        for raw in machine:
            line = ktap.clean(raw)
            lines.append(line)
            if results.feed(line) or options.raw:
                print(line, flush=True)
    options.log.write_text(''.join(f'{line}\n' for line in lines))
    if machine.timed_out:
        results.timeout = timeout
    if options.coverage and results.ended:
        unpack_counts(tmp / 'gcov.tar', build.dir, options.coverage)
    return results, lines


def unpack_counts(archive, build, to):
    """The .gcda files go to where their .gcno files are."""
    place = archive.parent / 'gcov'
    place.mkdir()
    subprocess.run(['tar', '-x', '-m', '-f', archive, '-C', place], check=True)
    root = place / build.relative_to('/')
    for path in root.rglob('*.gcda'):
        target = to / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def complaints(lines, options):
    """Parts of the log in which the kernel complains."""
    return ktap.complaints(lines, kernels.is_uml(options.kernel))


def try_again(results, lines, options, env):
    """Run cases again that failed, each alone; those that then passed.

    Where time is real, what waits for it may be late on a busy machine: once.
    What else goes wrong is no matter of time, and stays.
    """
    failed = [(suite, case) for suite in results.suites
              for case, outcome in suite.cases.items() if outcome == 'failed']
    if results.errors or results.missing() or complaints(lines, options) or \
            not 0 < len(failed) <= MOST_AGAIN or \
            any(VERDICT.search(line) for why in results.why.values()
                for line in why):
        return
    for suite, case in failed:
        print(f'\nAGAIN {suite.name}.{case}', flush=True)
        options.suite, options.case = suite.name, case
        with tempfile.TemporaryDirectory(prefix='kunit-') as tmp:
            again, more = run(options, env, pathlib.Path(tmp))
        lines += more
        results.errors += again.errors + again.missing()
        if again.names('passed') == [f'{suite.name}.{case}']:
            results.late.append(f'{suite.name}.{case}')
            suite.cases[case] = 'passed'
    options.log.write_text(''.join(f'{line}\n' for line in lines))


def wrong_skips(results, options):
    """Lines about cases that had to run in this kernel and were skipped."""
    allowed = SKIPS + SKIPS_IN[options.kernel]
    if options.page_poison:
        allowed = FILLED + tuple(set(allowed) - set(EMPTY))
    # Of other kinds of fuzzing there is no round.
    allowed += ('',) if options.fuzz else ()
    return [f'{name} must not be skipped here'
            for name, reason in results.skips.items() if reason not in allowed]


def report(results, lines, options):
    """Print what went wrong, and the last line; the exit status."""
    parts = complaints(lines, options)
    errors = results.errors + results.missing() + wrong_skips(results, options)
    if not results.started:
        errors += lines[-20:]
    failed = results.names('failed')
    print()
    for line in results.slowest(SLOWEST):
        print(f'SLOWEST {line}')
    for name, reason in results.skips.items():
        print(f'SKIPPED {name}: {reason}')
    if parts or errors or failed or results.late:
        print()
    for what, names in (('LATE', results.late), ('FAILED', failed)):
        for name in names:
            print(f'{what} {name}',
                  *results.why.get(name, [])[:REASONS], sep='\n')
    for line in errors:
        print(f'ERROR {line}')
    for number, line in enumerate(sum(parts, [])):
        if number < ktap.SHOWN:
            print(f'LOG {line}')
    if parts or errors or failed:
        print(f'the whole log: {options.log}')
    return finish(len(results.names('passed')),
                  len(failed) + bool(errors) + bool(parts),
                  len(results.names('skipped')))


def finish(passed, failed, skipped=0):
    """The last line, and the exit status."""
    more = f', {skipped} skipped' if skipped else ''
    print(f'\n{passed} passed, {failed} failed{more}', flush=True)
    return 0 if passed and not failed else 1


def run_and_report(options, env):
    """Run the tests; the exit status."""
    with tempfile.TemporaryDirectory(prefix='kunit-') as tmp:
        results, lines = run(options, env, pathlib.Path(tmp))
    if options.kernel == 'debug' and not options.mutant:
        try_again(results, lines, options, env)
    return report(results, lines, options)


def main():
    """What the options say; the exit status."""
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        env = kernels.prepare(options.kernel)
        if options.kunit_py:
            return finish(*run_in_tree(options, env))
        return run_and_report(options, env)
    except (kernels.CannotRun, mutants.DoesNotFit) as error:
        print(f'kunit: {error}', file=sys.stderr)
        return finish(0, 1)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
