#!/usr/bin/env python3
"""recipe/smollm2_self.yaml from pairs to report on SmolLM2-135M: the same-model control with real weights.

Needs KVLINGUA_MODELS (smollm2-135m-instruct); skips aloud without. Reduced in size, unless KVLINGUA_REAL_FULL is set: then the recipe
as it stands. KVLINGUA_REAL_ITEMS: items of each family and form (4); KVLINGUA_REAL_OUT keeps the run there, and goes on with what it finds.

  KVLINGUA_MODELS=DIR tests/real/smollm2_self_test.py build/bin/kvlingua
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1)
MODEL = pathlib.Path(os.environ.get("KVLINGUA_MODELS", "/nonexistent")) / "smollm2-135m-instruct"
FULL = "KVLINGUA_REAL_FULL" in os.environ
ITEMS = os.environ.get("KVLINGUA_REAL_ITEMS", "4")


def retained(report, condition):
    """Exact answers of a condition over full_text's, all families together."""
    count = {name: sum(family["success"]["count"] for key, family in report["conditions"][name]["families"].items() if key != "cases")
             for name in (condition, "full_text")}
    return count[condition] / max(1, count["full_text"]), count["full_text"]


class SmolLM2(unittest.TestCase):
    def test_same_model_control(self):
        if not (MODEL / "config.json").exists():
            self.skipTest("KVLINGUA_MODELS does not hold smollm2-135m-instruct")
        with tempfile.TemporaryDirectory(prefix="kvlingua-") as scratch:
            out = os.environ.get("KVLINGUA_REAL_OUT", scratch)
            words = [PROGRAM, "quickstart", str(ROOT / "recipe" / "smollm2_self.yaml"), "--out", out, "--train", "--validate", "-q",
                     "--json", scratch + "/result.json"]
            for override in () if FULL else ("data.synthetic.documents=120", f"eval.items={ITEMS}", "eval.shifts=[40]", "projector.ridge.lambda=[1e-5]"):
                words += ["--set", override]
            begin = time.monotonic()
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            print(f"{time.monotonic() - begin:.0f} s", flush=True)
            self.assertIn(done.returncode, (0, 3), done.stderr[-2000:])
            report = json.loads(pathlib.Path(scratch, "result.json").read_text())["evaluate"]
        self.check(report)

    def check(self, report):
        controls = {(c["control"], c["equals"]): c for c in report["controls"]}
        for pair in (("same_cache", "full_text"), ("raw", "raw_text"), ("raw_rerotated", "full_text")):
            self.assertIn(pair, controls)
            self.assertEqual(controls[pair]["equal"], controls[pair]["n"], pair)
            self.assertGreater(controls[pair]["n"], 0)
        for condition in ("ridge", "mlp"):
            share, reference = retained(report, condition)
            print(f"{condition}: {100 * share:.1f} % of full_text's {reference} exact answers", flush=True)
            self.assertGreater(reference, 0)
            self.assertGreaterEqual(share, 0.95, condition)
        shifted, _ = retained(report, "raw_shifted")
        kl = {name: report["retention"]["conditions"][name]["kl"] for name in ("raw_shifted", "raw_rerotated")}
        print(f"raw_shifted: {100 * shifted:.1f} % of full_text's answers; KL {kl['raw_shifted']:.4f}, re-rotated {kl['raw_rerotated']:.2e}")
        self.assertGreater(kl["raw_shifted"], 100 * max(kl["raw_rerotated"], 1e-6))
        self.assertEqual(len(report["cases"]), 5)
        for case, cells in report["cases"].items():
            self.assertEqual(set(cells), set(report["conditions"]), case)


if __name__ == "__main__":
    unittest.main()
