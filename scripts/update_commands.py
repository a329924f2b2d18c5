#!/usr/bin/env python3
"""Puts what the program declares of its verbs into docs/commands.md. usage: update_commands.py [PROGRAM] (build/bin/kvlingua)"""
import pathlib
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[1]
program = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else root / "build/bin/kvlingua").resolve()
declared = subprocess.run([program, "--help-markdown"], stdout=subprocess.PIPE, text=True, check=True).stdout
page = root / "docs/commands.md"
begin, end = "<!-- generated: kvlingua --help-markdown -->\n", "<!-- end -->"
before, rest = page.read_text().split(begin)
page.write_text(before + begin + declared + end + rest.split(end, 1)[1])
