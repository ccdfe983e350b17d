"""Commands of a Markdown page, and what the page says that they answer.

They are the ```sh block that begins with API=http://127.0.0.1:3000...; a command begins at the left margin and may go on over several lines; a line
that begins with #: is (the beginning of) the answer of the command above it, as JSON.
"""
import json
import re
import subprocess

import pytest

from elacsym import REPOSITORY

ADDRESS = "http://127.0.0.1:3000"


def commands(name):
    """Pairs of a command, with the page's variables set before it, and its answer or None."""
    page = (REPOSITORY / name).read_text()
    (block,) = re.findall(rf"```sh\n(API={ADDRESS}.*?)```", page, re.S)
    setting, _, rest = block.partition("\n")
    found = []
    for line in rest.splitlines():
        if line.startswith("#: "):
            found[-1][1] = json.loads(line[3:])
        elif line.startswith("#") or not line:
            continue
        elif line.startswith(" "):
            found[-1][0] += "\n" + line
        else:
            found.append([setting + "\n" + line, None])
    return found


def check_begins(got, wanted, place):
    """Everything in wanted is in got; got may say more in objects."""
    if isinstance(wanted, dict):
        for name in wanted:
            check_begins(got[name], wanted[name], f"{place}: {name}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), place
        for item, wanted_item in zip(got, wanted):
            check_begins(item, wanted_item, place)
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-4), place
    else:
        assert got == wanted, place


def check_page(name, port):
    """Runs all commands of the page against the node at the port; returns how many."""
    found = commands(name)
    for command, wanted in found:
        here = command.replace(ADDRESS, f"http://127.0.0.1:{port}")
        run = subprocess.run(["bash", "-euo", "pipefail", "-c", here], capture_output=True, text=True, check=True)
        answer = json.loads(run.stdout)
        assert "error" not in answer, (command, answer)
        if wanted:
            check_begins(answer, wanted, command)
    return len(found)
