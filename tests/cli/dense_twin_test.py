#!/usr/bin/env python3
"""dense_twin_test.py KVLINGUA: what quantising the nano target costs, as evaluate says it in every face of its report."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICK = ["eval.gated=none", "eval.conditions=[full_text]", "eval.families=[identity]", "eval.items=24", "eval.cases=false", "eval.latency=false",
         "eval.fidelity=false", "eval.bootstrap=100"]


class DenseTwin(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name)

    def evaluate(self, *overrides):
        words = [word for override in (*QUICK, *overrides) for word in ("--set", override)]
        done = subprocess.run([PROGRAM, "evaluate", "recipe/nano.yaml", "--device", "cpu", "--out", self.out, "-q", *words], cwd=ROOT,
                              capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertIn(done.returncode, (0, 3), done.stderr)
        folder = self.out / "checkpoints" / "nano" / "eval"
        return json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text(), (folder / "report.html").read_text()

    def test_four_bits_cost_more_than_eight(self):
        cost = {}
        for weights in ("int8", "nf4"):
            report, *faces = self.evaluate(f"pair.target.weights={weights}")
            cost[weights] = report["quantisation"]
            self.assertTrue(cost[weights]["weights"].startswith(weights))
            self.assertEqual(cost[weights]["n"], 48)
            self.assertIn("full_text_dense", report["conditions"])
            for face in faces:
                self.assertIn("What quantising the target costs", face)
            self.assertEqual((self.out / "checkpoints/nano/eval/full_text_dense.jsonl").read_text().count("full_text_dense"), 48)
        # The dense twin is one and the same; eight bits change next to nothing.
        self.assertAlmostEqual(cost["int8"]["nll_dense"], cost["nf4"]["nll_dense"], 9)
        self.assertLess(abs(cost["int8"]["nll_difference"]["mean"]), abs(cost["nf4"]["nll_difference"]["mean"]))
        self.assertGreaterEqual(cost["int8"]["equal_answers"]["rate"], cost["nf4"]["equal_answers"]["rate"])
        self.assertGreater(cost["int8"]["equal_answers"]["rate"], 0.9)
        self.assertNotEqual(cost["nf4"]["nll_difference"]["mean"], 0)

    def test_a_dense_target_has_none_and_it_can_be_left_out(self):
        report, *faces = self.evaluate()
        self.assertNotIn("quantisation", report)
        self.assertNotIn("full_text_dense", report["conditions"])
        for face in faces:
            self.assertNotIn("What quantising the target costs", face)
        report, *_ = self.evaluate("pair.target.weights=nf4", "eval.dense_twin=false")
        self.assertNotIn("quantisation", report)


if __name__ == "__main__":
    unittest.main()
