#!/usr/bin/env python3
"""scripts/phase2b_quickstart.sh: what it refuses before it installs or builds anything."""
import pathlib
import subprocess
import sys
import unittest

sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "phase2b_quickstart.sh"


def run(*words):
    return subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=60)


class Script(unittest.TestCase):
    def refused(self, words, code, text):
        result = run(*words)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn(text, result.stderr)

    def test_refusals_are_one_line(self):
        self.refused(["--swep"], 2, "unknown option --swep")
        self.refused(["--recipe"], 2, "--recipe needs a value")
        self.refused(["--recipe", "no/such.yaml"], 2, "no such recipe")
        self.refused(["--jobs", "0"], 2, "positive number")

    def test_help(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("[--preflight] [--train] [--validate] [--sweep] [--identity] [--recipe FILE] [--jobs N]", result.stdout)


if __name__ == "__main__":
    unittest.main()
