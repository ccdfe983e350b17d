#!/usr/bin/python3
"""Runs test programs, shows the output of those that failed, what tells most first, and
ends with one line: N passed, N failed, N skipped.

  --build CMD  must succeed before anything is run; counted only when it fails
  --check CMD  one test: passed when its status is 0
  --test CMD   a test program; several run at once
  --alone CMD  a test program that wants the machine to itself

A test program is a cmocka binary, pytest, or one whose last line is
"N passed, N failed[, N skipped]"; its lines "NOT RUN: ..." are repeated above the totals.
One that crashes, is killed after --timeout seconds, or
ends with a status that its own count does not explain counts as one more failure."""

import argparse
import concurrent.futures
import os
import re
import shlex
import signal
import subprocess
import sys
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
AS_WHAT = {"passed": 0, "xpassed": 0, "failed": 1, "error": 1, "errors": 1,
           "skipped": 2, "xfailed": 2}


class Result:
    def __init__(self, kind, command, status, output, seconds):
        self.command = command
        self.output = output
        self.seconds = seconds
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
        return [line for line in self.output.splitlines() if line.startswith("NOT RUN: ")]

    def print(self):
        passed, failed, skipped = self.counts
        print(f"{'FAIL' if failed else 'ok':4}  {self.command}  "
              f"({passed} passed, {failed} failed, {skipped} skipped, "
              f"{self.seconds:.1f} s)", flush=True)
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
        return Result(kind, command, 127, str(error), 0)
    try:
        output, _ = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = None
    return Result(kind, command, status, output.decode("utf-8", "replace"),
                  time.monotonic() - start)


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("build", "check", "test", "alone"):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="CMD")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=1200)
    return parser.parse_args()


def results(args):
    """All results, as they come; stops behind a build that failed."""
    for command in args.build:
        result = run("build", command, None)
        yield result
        if result.status != 0:
            return
    for command in args.check:
        yield run("check", command, args.timeout)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        yield from pool.map(lambda command: run("test", command, args.timeout), args.test)
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
