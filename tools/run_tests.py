#!/usr/bin/python3
"""Runs test programs, shows the output of those that failed, what tells most first, and
ends with one line: N passed, N failed, N skipped.

  --build CMD  must succeed before anything is run; counted only when it fails
  --check CMD  one test: passed when its status is 0
  --test CMD   a test program
  --alone CMD  a test program that wants the machine to itself

Checks and test programs run side by side in the given order, so the longest should come
first: --jobs at once, or else one for each processor and a few more while those that run
leave a processor idle (many wait for a clock, a disk or a server). With each stands how
long it took and what it took of the processors.

A test program is a cmocka binary, pytest, or one whose last line is
"N passed, N failed[, N skipped]"; its lines "NOT RUN: ..." and pytest's "SKIPPED ..."
(-rs) are repeated above the totals.
One that crashes, is killed after --timeout seconds, or
ends with a status that its own count does not explain counts as one more failure."""

import argparse
import concurrent.futures
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

CMOCKA = re.compile(r"^\[  (PASSED|FAILED|SKIPPED) *\] (\d+) test\(s\)", re.M)
CMOCKA_GROUP = re.compile(r"^\[==========\] Running \d+ test\(s\)", re.M)
COUNTED = re.compile(
    r"(\d+) (passed|failed|skipped|deselected|errors?|xfailed|xpassed|warnings?)")
TELLING = re.compile(
    r"^(\[  (FAILED|ERROR) |FAILED |ERROR |E   |SUMMARY: |WARNING: ThreadSanitizer|seed )|"
    r": (Failure|error|runtime error)")
PASSED = re.compile(r"^\[ (RUN     |      OK) \]")
SHOWN_FIRST = 20
BUILD_TIMEOUT = 3600
EXTRA_JOBS = 2      # beyond one for each processor …
IDLE_ENOUGH = 0.4   # … while so much of one was idle …
LOOK_SECONDS = 1.0  # … for so long
AS_WHAT = {"passed": 0, "xpassed": 0, "failed": 1, "error": 1, "errors": 1,
           "skipped": 2, "xfailed": 2}


class Result:
    def __init__(self, kind, command, status, output, seconds=0.0, cpu_seconds=0.0):
        self.command = command
        self.output = output
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds
        self.status = status
        self.counts = self.count(kind)

    def count(self, kind):
        if kind in ("build", "check"):
            good = int(self.status == 0)
            return [good if kind == "check" else 0, 1 - good, 0]
        counts = parse(self.output)
        if counts is None:
            return [0, 1, 0]
        crashed = self.status is None or self.status < 0
        if crashed or (self.status != 0 and counts[1] == 0):
            counts[1] += 1
        return counts

    def not_run(self):
        """What the program says that it left out."""
        return [line for line in self.output.splitlines()
                if line.startswith(("NOT RUN: ", "SKIPPED ["))]

    def print(self):
        passed, failed, skipped = self.counts
        print(f"{'FAIL' if failed else 'ok':4}  {self.command}  "
              f"({passed} passed, {failed} failed, {skipped} skipped, "
              f"{self.seconds:.1f} s, {self.cpu_seconds:.1f} s of CPU)", flush=True)
        for line in self.not_run():
            print(f"      {line}", flush=True)
        if failed:
            why = f"status {self.status}"
            if self.status is None:
                why = "killed: took too long"
            elif self.status < 0:
                why = f"killed by {signal.Signals(-self.status).name}"
            lines = [line for line in self.output.splitlines() if not PASSED.match(line)]
            print("\n".join([line for line in lines if TELLING.search(line)][:SHOWN_FIRST]))
            print(f"---- {self.command}: {why}; all that it printed:")
            print("\n".join(lines) + f"\n---- end of {self.command}", flush=True)


def parse(output):
    """[passed, failed, skipped], or None if this is no test program's output."""
    if CMOCKA_GROUP.search(output):
        counts = [0, 0, 0]
        for what, number in CMOCKA.findall(output):
            counts[AS_WHAT[what.lower()]] += int(number)
        return counts if any(counts) else None
    lines = [line for line in output.splitlines() if line.strip()]
    found = COUNTED.findall(lines[-1]) if lines else []
    if not found:
        return None
    counts = [0, 0, 0]
    for number, what in found:
        if what in AS_WHAT:
            counts[AS_WHAT[what]] += int(number)
    return counts


def run(kind, command, timeout):
    start = time.monotonic()
    # its own session, so that whatever it started can be ended with it
    try:
        process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        return Result(kind, command, 127, str(error))
    late = threading.Event()

    def end():
        late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(timeout, end)
    timer.start()
    output = process.stdout.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Result(kind, command, None if late.is_set() else process.returncode, output,
                  time.monotonic() - start, usage.ru_utime + usage.ru_stime)


class Idleness:
    """How many processors had nothing to do since the last look, by the kernel's count."""

    def __init__(self):
        self.seen, self.when = self.ticks(), time.monotonic()

    @staticmethod
    def ticks():
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    def look(self):
        """0 where the last look is so close that chance would answer."""
        if time.monotonic() - self.when < LOOK_SECONDS:
            return 0.0
        (total, idle), now = self.seen, self.ticks()
        self.seen, self.when = now, time.monotonic()
        return os.cpu_count() * (now[1] - idle) / max(now[0] - total, 1)


def side_by_side(work, jobs, most, timeout):
    """The results of all pairs (kind, command), as they come: jobs at once, up to most
    while processors are idle."""
    waiting, running, idleness = list(work), set(), Idleness()
    with concurrent.futures.ThreadPoolExecutor(most) as pool:
        while waiting or running:
            idle = idleness.look()
            while waiting and len(running) < (jobs if idle < IDLE_ENOUGH else most):
                running.add(pool.submit(run, *waiting.pop(0), timeout))
                idle = 0.0  # what the new one takes is seen at the next look
            done, running = concurrent.futures.wait(
                running, LOOK_SECONDS, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("build", "check", "test", "alone"):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="CMD")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--timeout", type=float, default=1200)
    return parser.parse_args()


def results(args):
    """All results, as they come; stops behind a build that failed."""
    for command in args.build:
        result = run("build", command, BUILD_TIMEOUT)
        yield result
        if result.status != 0:
            return
    work = [("check", command) for command in args.check]
    work += [("test", command) for command in args.test]
    jobs = args.jobs or os.cpu_count()
    most = args.jobs or jobs + EXTRA_JOBS
    yield from side_by_side(work, jobs, most, args.timeout)
    for command in args.alone:
        yield run("test", command, args.timeout)


def main():
    total, not_run, failed = [0, 0, 0], [], []
    for result in results(arguments()):
        result.print()
        not_run += result.not_run()
        if result.counts[1]:
            failed.append(f"failed: {result.command}")
        total = [a + b for a, b in zip(total, result.counts)]
    for line in not_run + failed:
        print(line)
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped", flush=True)
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
