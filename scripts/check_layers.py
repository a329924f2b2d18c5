#!/usr/bin/env python3
"""Checks that no file includes a layer it must not know (DESIGN.md, "Layers"). usage: check_layers.py [ROOT]"""
import pathlib
import re
import sys

# layer -> the layers it may include besides itself
ALLOWED = {
    "base": set(),
    "config": {"base", "io"},  # io: the hash that names a recipe
    "io": {"base"},
    "text": {"base", "io"},
    "kernels": {"base"},
    "cache": {"base", "config", "io", "text", "kernels"},
    "model": {"base", "config", "io", "text", "kernels", "cache"},
    "projector": {"base", "config", "io", "text", "kernels", "cache"},
}
# where models and projectors meet
ALLOWED["bridge"] = set(ALLOWED)
# in what stages state their cost
ALLOWED["cost"] = set(ALLOWED)
LIBRARY = set(ALLOWED)
ALLOWED["datasets"] = set(LIBRARY)
ALLOWED["checkpoints"] = set(LIBRARY)
ALLOWED["trainers"] = LIBRARY | {"datasets", "checkpoints"}
ALLOWED["eval"] = LIBRARY | {"datasets", "checkpoints"}
STAGES = {"datasets", "checkpoints", "trainers", "eval"}
ALLOWED["preflight"] = LIBRARY | STAGES  # adds up what each stage says of itself
ALLOWED["verbs"] = LIBRARY | STAGES | {"preflight"}  # with main.cpp: sees everything
TORCH_FREE = {"base", "config", "io", "text"}
# functions that one place calls for all -> the layers that may name them
CALLED_BY = {"resolve_model": {"io", "bridge"}}  # bridge/open_model: the one way from a name to a directory

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
problems = []
count = 0


def layer_of(path):
    parts = path.relative_to(root).parts
    if parts[0] == "include" and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] in STAGES:
        return parts[0]
    return None


for folder in ("include", "src", *sorted(STAGES)):
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        layer = layer_of(path)
        if layer is None:
            continue  # main.cpp
        count += 1
        if layer not in ALLOWED:
            problems.append(f"{path.relative_to(root)}: no such layer: {layer}")
            continue
        for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
            for function, callers in CALLED_BY.items():
                if layer not in callers and re.search(rf"\b{function}\(\w", line.split("//")[0]):
                    problems.append(f"{path.relative_to(root)}:{number}: {layer} must not call {function}")
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not match:
                continue
            name = match.group(2)
            where = f"{path.relative_to(root)}:{number}"
            first = name.split("/")[0]
            if first == "kvlingua":
                other = name.split("/")[1]
                if other != layer and other not in ALLOWED[layer]:
                    problems.append(f"{where}: {layer} must not know {other}")
            elif first in STAGES:
                if layer in LIBRARY:
                    problems.append(f"{where}: the library must not include the stage file {name}")
                elif first != layer and first not in ALLOWED[layer]:
                    problems.append(f"{where}: {layer} must not know {first}")
            elif first in {"torch", "ATen", "c10"} and layer in TORCH_FREE:
                problems.append(f"{where}: {layer} must not know torch")

for problem in problems:
    print(problem)
print(f"{count} files, {len(problems)} problems")
sys.exit(1 if problems or count == 0 else 0)
