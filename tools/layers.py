#!/usr/bin/python3
"""Checks that every folder of src includes only from folders below it (ARCHITECTURE),
and that base names are unique, so that "wal.h" can only mean one file."""

import pathlib
import re
import sys

BELOW = {
    "base": "",
    "store": "base",
    "cache": "base store",
    "doc": "base",
    "vec": "base doc",
    "text": "base doc",
    "attr": "base doc",
    "segment": "base store cache doc vec text attr",
    "ns": "base store cache doc vec text attr segment",
    "query": "base doc vec text attr segment ns",
    "http": "base",
    "api": "base doc vec text attr segment ns query http",
    "inspect": "base store cache doc segment ns http api",
    "node": "base store cache doc vec text attr segment ns query http api",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def bad_includes(root, path):
    folder = path.parent.name if path.parent != root else "main"
    allowed = set(BELOW) if folder == "main" else {folder, *BELOW[folder].split()}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1)
        if "/" not in name or not (root / name).is_file():
            yield f"{path}:{number}: no such header: {name} (write folder/file.h)"
        elif name.split("/")[0] not in allowed:
            yield f"{path}:{number}: {folder}/ may not include {name}"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent / "src"
    sources = sorted(p for p in root.rglob("*") if p.suffix in (".c", ".cpp", ".h"))
    complaints = []
    places = {}
    for path in sources:
        folder = path.parent.name
        if path.parent != root and folder not in BELOW:
            complaints.append(f"{path}: folder {folder}/ has no place in tools/layers.py")
            continue
        complaints += bad_includes(root, path)
        places.setdefault(path.stem, set()).add(folder)
    for stem, folders in places.items():
        if len(folders) > 1:
            complaints.append(f"{stem}: the same base name in {', '.join(sorted(folders))}")
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
