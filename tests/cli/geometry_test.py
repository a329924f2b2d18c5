#!/usr/bin/env python3
"""geometry_test.py KVLINGUA: sweep and identity as a user runs them, alone and as parts of quickstart: what they leave, what
they refuse, and what happens when a model fails."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE, TARGET = "checkpoints/nano/source", "checkpoints/nano/target"
QUICK_MODES = ["--set", "sweep.prompts_per_category=3", "--set", "sweep.new_tokens=2", "--set", "sweep.bootstrap=100", "--set",
               "sweep.permutations=99"]
QUICK_IDENTITY = ["--set", "identity.wordings=2", "--set", "identity.prompts_per_group=1", "--set", "identity.new_tokens=2",
                  "--set", "identity.bootstrap=100", "--set", "identity.permutations=99"]


def run(*words, timeout=300):
    result = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=timeout,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})
    return result.returncode, result.stdout, result.stderr


class Geometry(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def ok(self, *words, code=0):
        got, out, err = run(*words, "--out", self.out)
        self.assertEqual(got, code, err)
        return out, err

    def refused(self, *words, code, parts):
        out, err = self.ok(*words, "-q", code=code)
        self.assertEqual(out, "")
        lines = [line for line in err.splitlines() if line.startswith("kvlingua: ")]
        self.assertEqual(len(lines), 1, err)
        for part in parts:
            self.assertIn(part, lines[0])

    def file(self, name, text):
        path = self.out / name
        path.write_text(text)
        return path

    def test_quickstart_runs_them_as_parts(self):
        out, _ = self.ok("quickstart", "recipe/nano.yaml", "--sweep", "--identity", "--json", "-", *QUICK_MODES, *QUICK_IDENTITY)
        results = json.loads(out)
        self.assertNotIn("train", results)
        self.assertEqual(set(results["sweep"]["scales"]), {"nano-source", "nano-target"})
        self.assertIn(results["identity"]["verdict"]["identity"], ("identity", "none", "undecided"))
        self.assertTrue((self.out / "results/scale_sweep_all_report.html").exists())
        self.assertTrue((self.out / "results/identity_signatures_nano-target_report.html").exists())


if __name__ == "__main__":
    unittest.main()
