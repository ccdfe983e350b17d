"""The checker of histories: against one that tries every order, and on histories that were broken on purpose."""
import itertools
import math
import random

import pytest

from history import Op, Recorder, check, linearizable, load


def explained(ops):
    """Tries every order of every choice of the operations that may not have happened."""
    certain = [op for op in ops if op.answer != math.inf]
    unsure = [op for op in ops if op.answer == math.inf]
    for count in range(len(unsure) + 1):
        for chosen in itertools.combinations(unsure, count):
            for order in itertools.permutations(certain + list(chosen)):
                if fits(order):
                    return True
    return False


def fits(order):
    state = None
    for i, op in enumerate(order):
        if any(later.answer < op.call for later in order[i + 1 :]):
            return False
        if op.kind == "write":
            state = op.value
        elif op.value != state:
            return False
    return True


def w(value, call, answer, client="a"):
    return Op(client, "write", 1, value, call, answer)


def r(value, call, answer, client="b"):
    return Op(client, "read", 1, value, call, answer)


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [r(None, 0, 1)],
        [w(1, 0, 1), r(1, 2, 3)],
        [w(1, 0, 3), r(None, 1, 2)],
        [w(1, 0, 3), r(1, 1, 2)],
        [w(1, 0, 1), w(None, 2, 3), r(None, 4, 5)],
        [w(1, 0, math.inf), r(None, 1, 2), r(1, 3, 4)],
        [w(1, 0, math.inf), r(None, 1, 2)],
        [w(1, 0, 1), w(2, 2, 5), w(3, 2, 5), r(3, 3, 4), r(2, 6, 7)],
        [w(1, 0, 5), w(2, 0, 5), r(2, 1, 2), r(1, 3, 4)],
    ],
)
def test_what_can_be_explained_is(ops):
    assert linearizable(ops) and explained(ops)


@pytest.mark.parametrize(
    "name, ops",
    [
        ("lost write", [w(1, 0, 1), r(None, 2, 3)]),
        ("lost write, seen before", [w(1, 0, 1), w(2, 2, 3), r(2, 4, 5), r(1, 6, 7)]),
        ("stale read", [w(1, 0, 1), w(2, 2, 3), r(1, 4, 5)]),
        ("stale read beside a fresh one", [w(1, 0, 1), w(2, 2, 9), r(2, 3, 4), r(1, 5, 6)]),
        ("reordered", [w(1, 0, 1), w(2, 2, 3), w(3, 2, 3), r(2, 4, 5), r(3, 6, 7)]),
        ("applied twice", [w(1, 0, math.inf), r(1, 1, 2), w(2, 3, 4), r(2, 5, 6), r(1, 7, 8)]),
        ("not applied, as it was said, and yet there", [r(7, 4, 5)]),
        ("seen before it was sent", [r(1, 0, 1), w(1, 2, 3)]),
        ("deleted and back", [w(1, 0, 1), w(None, 2, 3), r(1, 4, 5)]),
        ("unknown that vanishes again", [w(1, 0, 1), w(2, 2, math.inf), r(2, 3, 4), r(1, 5, 6)]),
    ],
)
def test_what_cannot_be_explained_is_not(name, ops):
    assert not linearizable(ops) and not explained(ops), name
    (sentence,) = check(ops)
    assert sentence.startswith("key 1: no order explains")


def small(chance):
    """Any few operations, most of which make no sense together."""
    ops = []
    for i in range(chance.randint(1, 6)):
        call = chance.randint(0, 9)
        answer = call + chance.randint(0, 6)
        value = chance.choice([None, 1, 2, 3])
        if chance.random() < 0.5:
            ops.append(w(value, call, math.inf if chance.random() < 0.2 else answer))
        else:
            ops.append(r(value, call, answer))
    return ops


def test_it_agrees_with_whoever_tries_every_order():
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    answers = set()
    for _ in range(400):
        ops = small(chance)
        assert linearizable(ops) == explained(ops), (seed, ops)
        answers.add(linearizable(ops))
    assert answers == {True, False}


def true_history(chance, length):
    """Operations of six clients that took effect at a moment between call and answer."""
    now, state, ops, number = {c: 0.0 for c in range(6)}, None, [], 0
    moments = []
    for _ in range(length):
        client = chance.randrange(6)
        call = now[client] + chance.random()
        effect = call + chance.random() * 3
        answer = effect + chance.random() * 3
        now[client] = answer
        moments.append((effect, client, call, answer))
    for _, client, call, answer in sorted(moments):
        if chance.random() < 0.5:
            number += 1
            state = None if chance.random() < 0.1 else number
            lost = chance.random() < 0.05
            ops.append(Op(client, "write", 1, state, call, math.inf if lost else answer))
        else:
            ops.append(Op(client, "read", 1, state, call, answer))
    return ops


def overwritten(ops, read):
    """Values that had surely been replaced before the read began."""
    writes = [op for op in ops if op.kind == "write" and op.answer < read.call]
    return [w.value for w in writes if w.value is not None and any(w.answer < later.call for later in writes)]


def test_true_histories_pass_and_one_wrong_answer_in_them_is_caught():
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    caught = 0
    for _ in range(60):
        ops = true_history(chance, 200)
        assert linearizable(ops), seed
        i = chance.choice([i for i, op in enumerate(ops) if op.kind == "read"])
        for value in overwritten(ops, ops[i])[-3:]:
            changed = ops[:i] + [ops[i]._replace(value=value)] + ops[i + 1 :]
            assert not linearizable(changed), (seed, ops[i], value)
            caught += 1
    assert caught > 60


def test_a_file_holds_what_was_recorded(tmp_path):
    recorder = Recorder()
    recorder.write("a", [("ns", 1), ("ns", 2)], 5, 0.5, 1.5)
    recorder.write("a", [("ns", 1)], None, 2.5)
    recorder.read("b", ("ns", 1), 5, 3.5)
    recorder.save(tmp_path / "h")
    assert load(tmp_path / "h") == recorder.ops
