"""What clients did and were told, and whether one register per document explains it.

Recorder   every operation with the times of its call and its answer. A write whose outcome is
           not known has no answer: it may have happened at any time since its call, or never.
           What is repeated under one Idempotency-Key is one operation, from the first call to
           the answer that settled it.
check      is there, for each key, an order of its operations that respects real time and in
           which every read returns what was written last? (linearizability; Wing and Gong's
           search with Lowe's memory of visited states: Testing for linearizability, 2017)

The checker knows nothing of logs, slots or nodes. Files hold one operation a line.
"""
import collections
import json
import math
import sys
import threading
import time

Op = collections.namedtuple("Op", "client kind key value call answer")  # answer: inf when unknown


class Recorder:
    """Threads may use it together."""

    def __init__(self):
        self.ops, self.lock = [], threading.Lock()

    def write(self, client, keys, value, call, answer=math.inf):
        """value None: a deletion. Give it once, when the outcome is known or will not be."""
        with self.lock:
            self.ops += [Op(client, "write", key, value, call, answer) for key in keys]

    def read(self, client, key, value, call, answer=None):
        with self.lock:
            self.ops.append(Op(client, "read", key, value, call, time.monotonic() if answer is None else answer))

    def save(self, path):
        with open(path, "w") as file:
            for op in self.ops:
                file.write(json.dumps([*op[:5], None if op.answer == math.inf else op.answer]) + "\n")


def load(path):
    ops = []
    for line in open(path):
        *rest, answer = json.loads(line)
        op = Op(*rest, math.inf if answer is None else answer)
        ops.append(op._replace(key=tuple(op.key) if isinstance(op.key, list) else op.key))
    return ops


def linearizable(ops):
    """Of one key, which is absent (None) at first."""
    seen = {op.value for op in ops if op.kind == "read"}
    # A write without an answer that no read returned explains nothing and forbids nothing.
    ops = [op for op in ops if op.answer != math.inf or op.value in seen]
    events = sorted([(op.call, 0, i) for i, op in enumerate(ops)] + [(op.answer, 1, i) for i, op in enumerate(ops)])
    # At equal times a call comes before an answer, which forbids less.
    count = len(events)
    after = list(range(1, count + 1)) + [0]  # of event e; index count is the head
    before = [count, *range(count)]
    after[count - 1], before[count] = count, count - 1
    if not count:
        return True
    answer_of = {i: e for e, (_, kind, i) in enumerate(events) if kind == 1}

    def unlink(e):
        after[before[e]], before[after[e]] = after[e], before[e]

    def relink(e):
        after[before[e]] = before[after[e]] = e

    state, done, stack, visited = None, 0, [], set()
    at = after[count]
    while after[count] != count:
        _, kind, i = events[at]
        if kind == 0:
            op = ops[i]
            if op.kind == "write" or op.value == state:
                step = (done | 1 << i, op.value)
                if step not in visited:
                    visited.add(step)
                    stack.append((at, state))
                    done, state = step
                    unlink(at)
                    unlink(answer_of[i])
                    at = after[count]
                    continue
            at = after[at]
            continue
        # An answer whose call was not placed: what was placed last must go elsewhere.
        if not stack:
            return False
        at, state = stack.pop()
        i = events[at][2]
        done &= ~(1 << i)
        relink(answer_of[i])
        relink(at)
        at = after[at]
    return True


def by_key(ops):
    keys = collections.defaultdict(list)
    for op in ops:
        keys[op.key].append(op)
    return keys


def check(ops):
    """What cannot be explained, a sentence for each key."""
    wrong = []
    for key, mine in by_key(ops).items():
        if linearizable(mine):
            continue
        mine.sort(key=lambda op: op.call)
        first = next(n for n in range(1, len(mine) + 1) if not linearizable(mine[:n]))
        begin = mine[0].call
        told = "; ".join(
            f"{op.client} {op.kind}s {op.value} in [{op.call - begin:.4f}, {op.answer - begin:.4f}]" for op in mine[max(0, first - 6) : first]
        )
        wrong.append(f"key {key}: no order explains its first {first} operations, of which the last are: {told}")
    return wrong


def main(paths):
    passed = failed = 0
    for path in paths:
        ops = load(path)
        wrong = check(ops)
        for sentence in wrong[:10]:
            print(f"{path}: {sentence}")
        unknown = sum(op.answer == math.inf for op in ops)
        keys = len(by_key(ops))
        print(f"{path}: {len(ops)} operations on {keys} documents, {unknown} of unknown outcome: {len(wrong)} anomalies")
        passed, failed = passed + (not wrong and bool(ops)), failed + bool(wrong or not ops)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
