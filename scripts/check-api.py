#!/usr/bin/env python3
"""Holds the public API against docs/api.txt, and counts public names without documentation.

    scripts/check-api.py GRAPH              compare; GRAPH is the folder of scripts/symbol-graph.sh
    scripts/check-api.py GRAPH --write      store the API as it is now
    scripts/check-api.py GRAPH --undocumented
                                            only list what has no documentation

Ends with 1 where the API is another one than stored, or something has no documentation. A line that is
gone or changed breaks programs; a line that is new does not, and is stored in the same commit.
"""

import argparse
import difflib
import json
import pathlib
import sys

STORED = pathlib.Path(__file__).resolve().parent.parent / "docs" / "api.txt"
# Enums that only hold Python's names, whose documentation is their fix-it (Renamed+Modules.swift).
PYTHON_MODULES = {"mori", "torch"}


def read(folder):
    """All symbols and relationships of a folder of symbol graphs."""
    symbols, relationships = {}, []
    files = sorted(pathlib.Path(folder).glob("*.symbols.json"))
    if not files:
        sys.exit(f"check-api: no symbol graph in {folder}; scripts/symbol-graph.sh writes it")
    for file in files:
        graph = json.loads(file.read_text())
        for symbol in graph["symbols"]:
            symbols[symbol["identifier"]["precise"]] = symbol
        relationships += graph["relationships"]
    return symbols, relationships


def path(symbol):
    return symbol["pathComponents"]


def declaration(symbol):
    text = "".join(fragment["spelling"] for fragment in symbol["declarationFragments"])
    return " ".join(text.split())


def conformances(symbols, relationships):
    """The protocols of each type, by the type's identifier."""
    found = {}
    for relationship in relationships:
        if relationship["kind"] not in ("conformsTo", "inheritsFrom"):
            continue
        target = symbols.get(relationship["target"])
        name = ".".join(path(target)) if target else relationship.get("targetFallback", "")
        # What every type conforms to, unless it says otherwise.
        name = name.removeprefix("Swift.").removeprefix("_Concurrency.")
        if name not in ("", "Copyable", "Escapable", "SendableMetatype"):
            found.setdefault(relationship["source"], set()).add(name)
    return found


def describe(symbols, relationships):
    """The API in lines, in an order that depends on names only."""
    protocols = conformances(symbols, relationships)
    lines = []
    for symbol in symbols.values():
        if path(symbol)[0] in PYTHON_MODULES:
            continue
        text = declaration(symbol)
        names = protocols.get(symbol["identifier"]["precise"])
        if names:
            text += " : " + ", ".join(sorted(names))
        lines.append((path(symbol), text))
    return ["    " * (len(names) - 1) + text for names, text in sorted(lines)]


def undocumented(symbols):
    return sorted(
        ".".join(path(symbol))
        for symbol in symbols.values()
        if path(symbol)[0] not in PYTHON_MODULES
        and not any(line["text"].strip() for line in symbol.get("docComment", {}).get("lines", []))
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--undocumented", action="store_true")
    arguments = parser.parse_args()
    symbols, relationships = read(arguments.graph)

    missing = undocumented(symbols)
    for name in missing:
        print(f"check-api: {name} has no documentation")
    if arguments.undocumented:
        print(f"check-api: {len(symbols)} public names, {len(missing)} without documentation")
        sys.exit(1 if missing else 0)

    now = describe(symbols, relationships)
    if arguments.write:
        STORED.write_text("\n".join(now) + "\n")
        print(f"check-api: {len(now)} names stored in {STORED}")
        sys.exit(1 if missing else 0)
    if not STORED.exists():
        sys.exit(f"check-api: {STORED} is not there; make test-api API_ARGS=--write stores it")
    before = STORED.read_text().splitlines()
    difference = list(difflib.unified_diff(before, now, "stored", "now", n=1, lineterm=""))
    if difference:
        print("\n".join(difference))
        # The first two lines name the sides.
        gone = sum(line.startswith("-") for line in difference[2:])
        new = sum(line.startswith("+") for line in difference[2:])
        print(
            f"check-api: {gone} lines of docs/api.txt are gone or changed, which breaks programs, and"
            f" {new} are new. If it is meant: make test-api API_ARGS=--write, and a line in CHANGELOG.md"
        )
    else:
        print(f"check-api: {len(now)} public names, as stored")
    sys.exit(1 if difference or missing else 0)


main()
