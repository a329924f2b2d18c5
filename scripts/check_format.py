#!/usr/bin/env python3
"""Checks that every C++ and CUDA file is as clang-format leaves it. usage: check_format.py [ROOT]; exit 77 (skipped) without clang-format."""
import pathlib
import shutil
import subprocess
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
program = shutil.which("clang-format")
if program is None:
    print("skipped: no clang-format here")
    sys.exit(77)
files = [str(path) for folder in ("include", "src", "datasets", "trainers", "checkpoints", "eval", "examples", "tests")
         for path in sorted((root / folder).rglob("*")) if path.suffix in {".h", ".cpp", ".cu"}]
said = subprocess.run([program, "--dry-run", *files], stderr=subprocess.PIPE, text=True, check=True).stderr
bad = sorted({line.split(":", 1)[0] for line in said.splitlines() if "[-Wclang-format-violations]" in line})
for path in bad:
    print(f"{pathlib.Path(path).relative_to(root)}: not formatted; run clang-format -i on it")
print(f"{len(files)} files, {len(bad)} not formatted")
sys.exit(1 if bad or not files else 0)
