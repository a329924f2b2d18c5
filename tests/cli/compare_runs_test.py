#!/usr/bin/env python3
"""scripts/compare_runs.py finds what differs, and only that."""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.argv.pop(1)  # the program: not needed here
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/compare_runs.py"


def write_run(folder, weight=1.0, loss=2.5, rate=0.9, seconds=3.0, key="success"):
    (folder / "step-000001").mkdir(parents=True)
    (folder / "eval").mkdir()
    data = struct.pack("<2f", weight, 2.0)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "step-000001/projector.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": loss}) + "\n")
    (folder / "eval/report.json").write_text(json.dumps({"conditions": {"mlp": {key: {"rate": rate}}}, "run": {"total_seconds": seconds}}))


class CompareRuns(unittest.TestCase):
    def compare(self, *words, **changes):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_run(folder / "a")
            write_run(folder / "b", **changes)
            return subprocess.run([sys.executable, SCRIPT, folder / "a", folder / "b", *words], capture_output=True, text=True, timeout=60)

    def test_equal_but_for_times(self):
        result = self.compare(seconds=99.0)
        self.assertEqual((result.returncode, result.stdout), (0, "3 files compared, 0 differ\n"), result.stderr)

    def test_each_difference_is_named(self):
        for changes, line in [({"weight": 1.0000001}, "tensor w: other bytes"), ({"loss": 2.5000001}, "line 1.loss: 2.5, 2.5000001 after"),
                              ({"rate": 0.91}, ".conditions.mlp.success.rate: 0.9, 0.91 after")]:
            result = self.compare(**changes)
            self.assertEqual(result.returncode, 1, changes)
            self.assertIn(line, result.stdout)
            self.assertIn("1 differ", result.stdout)

    def test_renamed_keys(self):
        self.assertEqual(self.compare(key="exact").returncode, 1)
        self.assertEqual(self.compare("--renamed", "success=exact", key="exact").returncode, 0)

    def test_nothing_there(self):
        with tempfile.TemporaryDirectory() as name:
            result = subprocess.run([sys.executable, SCRIPT, name, name], capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 2, result.stdout)


if __name__ == "__main__":
    unittest.main()
