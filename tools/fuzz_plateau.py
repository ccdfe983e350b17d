#!/usr/bin/python3
"""Runs libFuzzer on one reader of untrusted bytes after the other, each in slices until a
few slices in a row reached no new edge of the code, and prints a line for each:

    target  executions  seconds  edges  features  slices without a new edge  edges that
    were new in the last three slices  findings

  fuzz_plateau.py FOLDER TARGET...    FOLDER holds tests/run_fuzz and corpus/TARGET
  --slice SECONDS   one slice (60)
  --quiet N         slices without a new edge that make a plateau (3)
  --most N          slices at most (30)
  --keep RUN_FUZZ   then tests/fuzz/corpus/TARGET becomes the fewest inputs that reach every
                    edge which the corpus does, packed by this program (another flavour's)

What libFuzzer keeps stays in the corpus, so a second call goes on where the first ended.
Inputs that are made of words have these in tests/fuzz/words/TARGET; JSON and all bodies
of requests, in tests/fuzz/words/body.
The status is 1 if anything was found; the input is named above the target's line."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

STATE = re.compile(r"cov: (\d+) ft: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
FOUND = re.compile(r"^SUMMARY: .*|^.*Test unit written to .*", re.M)
FUZZ = pathlib.Path(__file__).resolve().parent.parent / "tests/fuzz"
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--slice", type=int, default=60)
    parser.add_argument("--quiet", type=int, default=3)
    parser.add_argument("--most", type=int, default=30)
    parser.add_argument("--keep", type=pathlib.Path)
    return parser.parse_args()


def words_of(target):
    of_bodies = target == "json" or target.endswith("_body")
    words = FUZZ / "words" / ("body" if of_bodies else target)
    return [f"-dict={words}"] if words.exists() else []


def run_slice(folder, target, seconds):
    """(edges, features, executions, what was found)"""
    done = subprocess.run(
        ["tests/run_fuzz", f"-max_total_time={seconds}", *LIMITS, *words_of(target),
         f"corpus/{target}"],
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
    found, seen = [], []
    while slices < args.most and quiet < args.quiet and not found:
        now, features, runs, found = run_slice(args.folder, target, args.slice)
        slices += 1
        executed += runs
        quiet = 0 if now > edges else quiet + 1
        edges = max(edges, now)
        seen.append(edges)
    for line in found:
        print(f"  {line}")
    late = edges - seen[max(0, slices - 4)] if seen else 0
    print(f"{target:16} {executed:10} {slices * args.slice:6} {edges:6} {features:7} "
          f"{quiet:5} {late:4} {len(found) > 0:5d}", flush=True)
    return bool(found)


def keep(folder, target, program):
    """What reaches every edge, as the target's corpus in the repository."""
    with tempfile.TemporaryDirectory() as few:
        subprocess.run(
            ["tests/run_fuzz", "-merge=1", "-set_cover_merge=1", "-use_counters=0",
             "-max_len=65536", few, f"corpus/{target}"],
            cwd=folder, env={**os.environ, "FUZZ_TARGET": target},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        inputs = sorted(pathlib.Path(few).iterdir())
        subprocess.run([program.resolve(), "--pack", FUZZ / "corpus" / target, *inputs],
                       check=True)


def main():
    args = arguments()
    print(f"{'target':16} {'executions':>10} {'s':>6} {'edges':>6} {'features':>7} "
          f"{'quiet':>5} {'late':>4} {'found':>5}", flush=True)
    found = any([run_target(args, target) for target in args.targets])
    for target in args.targets if args.keep else []:
        keep(args.folder, target, args.keep)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
