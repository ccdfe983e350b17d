#!/usr/bin/python3
"""Runs what there is to run on real S3 servers, one after the other, each started by
tools/s3_server.sh and ended behind its tests: the store's contract, kills and pauses of
real nodes, the end-to-end tests with their objects in buckets.

  s3_test.py [--kills N] [--pauses N] [--only contract|crash|e2e] SERVER...

s3rver ignores If-None-Match: there a node must refuse to start, and nothing else is run.
The last line is "N passed, N failed, N skipped"; a server that cannot be had here counts
as one skipped, behind a line "NOT RUN: ..." with the reason."""

import argparse
import os
import pathlib
import shlex
import subprocess
import sys

import run_tests

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVER = [str(ROOT / "tools/s3_server.sh")]
PYTHON = "build/venv/bin/python"
E2E = [f"tests/e2e/test_{name}.py" for name in
       ("s3", "write", "query", "filters", "namespaces", "durability", "node",
        "disk_cache", "cold")]
CANNOT_BE_HAD = 3
TIMEOUT_S, ROUND_MAX_S = 900, 15


def start(server):
    """Its environment, or None and why it cannot be had."""
    done = subprocess.run([*SERVER, server], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode == CANNOT_BE_HAD:
        return None, done.stderr.strip().splitlines()[-1]
    if done.returncode:
        raise SystemExit(f"{server} did not start:\n{done.stderr}")
    words = [w for line in done.stdout.splitlines() for w in shlex.split(line)]
    return dict(w.split("=", 1) for w in words if "=" in w), None


def commands(server, args):
    if server == "s3rver":
        return [f"{PYTHON} -m pytest -q -rs tests/e2e/test_s3_refused.py"]
    programs = {
        "contract": "build/release/tests/test_store_s3",
        "crash": f"{PYTHON} tests/crash/crash_kill.py --s3 --kills {args.kills} "
                 f"--pauses {args.pauses}",
        "e2e": f"{PYTHON} -m pytest -q -rs -m 'not folder' {' '.join(E2E)}",
    }
    return [command for name, command in programs.items() if args.only in (None, name)]


def run(server, args):
    """The sum of its tests' counts."""
    total = [0, 0, 0]
    environment, why = start(server)
    if environment is None:
        print(f"NOT RUN: everything on {server}: {why}", flush=True)
        return [0, 0, 1]
    os.environ.update(environment)
    try:
        for command in commands(server, args):
            rounds = args.kills + args.pauses
            result = run_tests.run("test", command, TIMEOUT_S + rounds * ROUND_MAX_S)
            result.command = f"{server}: {command}"
            result.print()
            total = [a + b for a, b in zip(total, result.counts)]
    finally:
        subprocess.run([*SERVER, "stop"], check=True)
        for name in environment:
            del os.environ[name]
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--pauses", type=int, default=2)
    parser.add_argument("--only", choices=("contract", "crash", "e2e"))
    parser.add_argument("servers", nargs="+", metavar="SERVER")
    args = parser.parse_args()
    os.chdir(ROOT)
    total = [0, 0, 0]
    for server in args.servers:
        total = [a + b for a, b in zip(total, run(server, args))]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped", flush=True)
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
