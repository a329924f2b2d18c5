#!/usr/bin/env python3
"""Compares two runs of one recipe, to show that a refactor changed no number.

    scripts/compare_runs.py BEFORE AFTER [--renamed old=new ...]

BEFORE and AFTER are run folders (checkpoints/<run>) or folders that hold datasets/ and checkpoints/ (--out of both runs). Compared:

  losses    metrics.jsonl, line by line
  weights   projector.safetensors of every checkpoint: each tensor's bytes by name; optimizer and averages too
  report    eval/report.json, but for what no run repeats (times, memory, paths, versions, processes)

--renamed gives keys of JSON that have other names after. Exit code 0: equal; 1: not, with the first differences of each file; 2: usage,
or nothing to compare. Needs no package."""
import argparse
import json
import pathlib
import struct
import sys

# What two runs of one program differ in as well.
CHANGING = {"seconds", "total_seconds", "tokens_per_second", "prefill_seconds", "write_wait_seconds", "milliseconds", "latency", "cost", "phases",
            "start_memory_bytes", "peak_memory_bytes", "memory_bytes", "checkpoint", "checkpoints", "folder", "versions", "run", "rehearsal",
            "date", "time", "created", "recipe_sha256"}
MOST = 5  # differences shown of one file


def tensors(path):
    """name -> (dtype, shape, bytes) of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]) for name, t in header.items()}


def renamed(value, names):
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list) else value


def json_differences(a, b, where=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key in CHANGING or key.endswith("_seconds") or key.endswith("_ms"):
                continue
            if key not in a or key not in b:
                yield f"{where}.{key}: only {'after' if key not in a else 'before'}"
            else:
                yield from json_differences(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{where}: {len(a)} entries, {len(b)} after"
        for i, (x, y) in enumerate(zip(a, b)):
            yield from json_differences(x, y, f"{where}[{i}]")
    elif a != b or type(a) is not type(b):
        yield f"{where}: {a!r}, {b!r} after"


def compare_json(before, after, names):
    yield from json_differences(renamed(json.loads(before.read_text()), names), json.loads(after.read_text()))


def compare_lines(before, after, names):
    a, b = before.read_text().splitlines(), after.read_text().splitlines()
    if len(a) != len(b):
        yield f"{len(a)} lines, {len(b)} after"
    for number, (x, y) in enumerate(zip(a, b), 1):
        if x != y:
            yield from json_differences(renamed(json.loads(x), names), json.loads(y), f"line {number}")


def compare_tensors(before, after, _):
    a, b = tensors(before), tensors(after)
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            yield f"tensor {name}: only {'after' if name not in a else 'before'}"
        elif a[name][:2] != b[name][:2]:
            yield f"tensor {name}: {a[name][:2]}, {b[name][:2]} after"
        elif a[name][2] != b[name][2]:
            yield f"tensor {name}: other bytes"


KINDS = {"metrics.jsonl": compare_lines, "report.json": compare_json}


def files(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.is_symlink() for part in [path, *path.parents] if part != folder and folder in part.parents):
            if path.name in KINDS or path.suffix == ".safetensors":
                found[path.relative_to(folder)] = path
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--renamed", nargs="*", default=[], metavar="old=new")
    options = parser.parse_args()
    names = dict(pair.split("=", 1) for pair in options.renamed)
    before, after = files(options.before), files(options.after)
    if not before or not after:
        print(f"{options.after if before else options.before}: no metrics.jsonl, report.json or safetensors", file=sys.stderr)
        return 2
    bad = 0
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name}: only {'after' if name not in before else 'before'}")
            bad += 1
            continue
        found = list(KINDS.get(name.name, compare_tensors)(before[name], after[name], names))
        for line in found[:MOST]:
            print(f"{name}: {line}")
        if len(found) > MOST:
            print(f"{name}: and {len(found) - MOST} more")
        bad += bool(found)
    print(f"{len(before.keys() & after.keys())} files compared, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
