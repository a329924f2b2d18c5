#!/usr/bin/env python3
"""same_items_test.py KVLINGUA: families and the built-in corpus are the same items with every compiler here.

C++ leaves the order of operands and arguments open, and g++ and clang++ choose differently: two draws in one expression
would give two sets of items. The hashes are those of the items that published numbers stand on.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HASHES = """
            a07c4ea55de03098 bb8698df1d5ef2b4 75e0e19edab31c72 a56d4624574f384b
            4388bb2590de022d 4a11cc9727755f7a f84c74fc754970a7 288eb9c47181f2ee
            dd24f2cd66841b99 72e8ed94a2b51320 7b525e8d786e90bf 60703a19ebfbccee
            2d951034a660a88f d22292b6d0c4d174 3117fcff49a0f92e 631b496819c9c6dc
            653aa52970bd860c f63db60d30d3eb5f 075019159db39451 13ae77fa1cf53c04
            6f892d2fc99e93a4 fbe39db52fab3530 13fe7b6a7776c23e 32dcc4e2b795c617
            91c7b942b899ae40
""".split()
SOURCES = [ROOT / "tests/support/same_items/same_items.cpp", ROOT / "src/base/error.cpp", ROOT / "src/base/utf8.cpp"] + [
    ROOT / f"datasets/corpus/{name}.cpp" for name in ("families", "families_english", "synthetic_language", "synthetic_corpus")]

compilers = [name for name in ("g++", "clang++") if shutil.which(name)]
assert compilers, "no compiler"
for name in ("g++", "clang++"):
    if name not in compilers:
        print(f"SKIPPED: no {name} here")
with tempfile.TemporaryDirectory() as folder:
    for name in compilers:
        program = pathlib.Path(folder) / name
        subprocess.run([name, "-std=c++20", "-O1", "-I", ROOT, "-I", ROOT / "include", *SOURCES, "-o", program], check=True)
        got = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
        assert got == HASHES, f"{name}: {[i for i, pair in enumerate(zip(got, HASHES)) if pair[0] != pair[1]]} differ"
        print(f"{name}: {len(got)} hashes equal")
