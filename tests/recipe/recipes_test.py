#!/usr/bin/env python3
"""Every recipe in the tree: it checks, opens with its head comment, and its commands and overrides are real."""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipe").rglob("*.yaml")) + sorted((ROOT / "recipe").rglob("*.json"))


def run(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, cwd=ROOT)


class Recipes(unittest.TestCase):
    def test_there_are_the_shipped_ones(self):
        names = {str(p.relative_to(ROOT / "recipe")) for p in RECIPES}
        pairs = [("qwen3-0.6b", "qwen2.5-0.5b"), ("qwen3-4b", "qwen2.5-3b"), ("qwen3-32b", "qwen2.5-7b")]
        expected = {"nano.yaml", "smollm2_self.yaml"}
        expected |= {f"phase2b/{a}_{b}.yaml" for pair in pairs for a, b in (pair, pair[::-1])}
        self.assertLessEqual(expected, names)

    def test_each_checks(self):
        result = run("recipe", "check", *map(str, RECIPES))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), len(RECIPES))

    def test_each_resolves_to_itself(self):
        for path in RECIPES:
            shown = run("recipe", "show", str(path))
            self.assertEqual(shown.returncode, 0, shown.stderr)
            with tempfile.TemporaryDirectory() as folder:
                again = pathlib.Path(folder) / "resolved.yaml"
                again.write_text(shown.stdout)
                self.assertEqual(run("recipe", "show", str(again)).stdout, shown.stdout, path)

    def test_each_opens_with_its_head_comment(self):
        for path in RECIPES:
            if path.suffix != ".yaml":
                continue
            head = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
            for word in ("Reproduces:", "Download:", "Command:", "Override:", "Memory:", "Time:"):
                self.assertIn(word, head, path)
            # Overrides named there must be keys that exist.
            words = shlex.split(" ".join(re.findall(r"--set \S+", head)))
            sets = [w for w in words if w != "--set"]
            arguments = [w for s in sets for w in ("--set", s)]
            result = run("recipe", "check", str(path), *arguments)
            self.assertEqual(result.returncode, 0, f"{path}: {result.stderr}")
            # Files named there must exist.
            for named in re.findall(r"(?:recipe|scripts)/[\w./-]+\.(?:yaml|sh)", head):
                self.assertTrue((ROOT / named).exists(), f"{path} names {named}")

    # What fits 6, 24 and 40 GB is what preflight says.
    def test_heads_say_what_fits(self):
        done = subprocess.run([sys.executable, str(ROOT / "scripts" / "update_fits.py"), PROGRAM, "--check"], capture_output=True,
                              text=True, timeout=600)
        self.assertEqual(done.returncode, 0, f"run scripts/update_fits.py {PROGRAM}\n{done.stdout}{done.stderr}")

    def test_listed_with_a_description(self):
        listed = json.loads(run("recipe", "ls", "--json", "-").stdout)
        self.assertEqual(len(listed), len(RECIPES))
        for entry in listed:
            self.assertTrue(entry["description"], entry)
            self.assertNotIn("does not load", entry["description"])


if __name__ == "__main__":
    unittest.main()
