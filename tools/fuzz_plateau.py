#!/usr/bin/python3
"""Runs libFuzzer on one reader of untrusted bytes after the other, each in slices until a
few slices in a row reached no new edge of the code, and prints a line for each:

    target  executions  seconds  edges  features  slices without a new edge  findings

  fuzz_plateau.py FOLDER TARGET...    FOLDER holds tests/run_fuzz and corpus/TARGET
  --slice SECONDS   one slice (60)
  --quiet N         slices without a new edge that make a plateau (3)
  --most N          slices at most (30)

What libFuzzer keeps stays in the corpus, so a second call goes on where the first ended.
The status is 1 if anything was found; the input is named above the target's line."""

import argparse
import os
import re
import subprocess
import sys

STATE = re.compile(r"cov: (\d+) ft: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
FOUND = re.compile(r"^SUMMARY: .*|^.*Test unit written to .*", re.M)
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--slice", type=int, default=60)
    parser.add_argument("--quiet", type=int, default=3)
    parser.add_argument("--most", type=int, default=30)
    return parser.parse_args()


def run_slice(folder, target, seconds):
    """(edges, features, executions, what was found)"""
    done = subprocess.run(
        ["tests/run_fuzz", f"-max_total_time={seconds}", *LIMITS, f"corpus/{target}"],
        cwd=folder, env={**os.environ, "FUZZ_TARGET": target},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode("utf-8", "replace")
    states, executed = STATE.findall(output), EXECUTED.findall(output)
    found = FOUND.findall(output) if done.returncode else []
    if done.returncode and not found:
        found = [f"status {done.returncode}: {output[-300:]}"]
    edges, features = map(int, states[-1]) if states else (0, 0)
    return edges, features, int(executed[-1]) if executed else 0, found


def run_target(args, target):
    edges = features = executed = slices = quiet = 0
    found = []
    while slices < args.most and quiet < args.quiet and not found:
        now, features, runs, found = run_slice(args.folder, target, args.slice)
        slices += 1
        executed += runs
        quiet = 0 if now > edges else quiet + 1
        edges = max(edges, now)
    for line in found:
        print(f"  {line}")
    print(f"{target:16} {executed:10} {slices * args.slice:6} {edges:6} {features:7} "
          f"{quiet:3} {len(found) > 0:3d}", flush=True)
    return bool(found)


def main():
    args = arguments()
    print(f"{'target':16} {'executions':>10} {'s':>6} {'edges':>6} {'features':>7} "
          f"{'quiet':>3} {'found':>3}", flush=True)
    return 1 if any([run_target(args, target) for target in args.targets]) else 0


if __name__ == "__main__":
    sys.exit(main())
