#!/usr/bin/env python3
"""sweep and identity killed (SIGKILL) at twenty random moments each and started again: the report of a run that nothing stopped.

On the embedded pair: cognitive modes of both models and a grid of two cells; fingerprints, self-recognition and identity transfer
through a small projector. Moments are drawn from KVLINGUA_KILL_SEED (1) over the whole run, each kill in what is left to do.

  tests/slow/geometry_kills_test.py build/bin/kvlingua [sweep|identity]
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = 20
SOURCE, TARGET = "checkpoints/nano/source", "checkpoints/nano/target"
RECIPE = f"""
name: killed
pair: {{source: {{name: {SOURCE}}}, target: {{name: {TARGET}}}, alignment: last_char}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 120, seed: 1}}, chat: true, max_length: 256, storage_dtype: float32}}
projector: {{kind: mlp, ridge: {{source_layers: 0, lambda: [1e-3]}}}}
train: {{stages: [ridge]}}
eval:
  style: nano
  families: [identity, counterfact]
  forms: [question]
  items: 6
  conditions: [same_cache, noise, shuffled, averaged, wrong_text, ridge]
  gated: ridge
  max_new_tokens: 20
  bootstrap: 100
  cases: false
  latency: false
sweep: {{pairs: ["{SOURCE} -> {TARGET}", "{TARGET} -> {SOURCE}"], geometry_prompts: 12, new_tokens: 8, batch_size: 4, bootstrap: 200,
        permutations: 99, cell: [eval.latency=false]}}
identity: {{personas: eval/probes/nano_identity.yaml, new_tokens: 8, batch_size: 4, permutations: 99, bootstrap: 200, trees: 20}}
"""


def timeless(value):
    """Without what no run repeats: times, and seconds that were measured."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "timestamp" and "seconds" not in k and k not in ("resumed", "checkpoint")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


class Kills(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="kvlingua-")
        self.addCleanup(self.folder.cleanup)
        self.recipe = pathlib.Path(self.folder.name) / "killed.yaml"
        self.recipe.write_text(RECIPE)
        self.random = random.Random(int(os.environ.get("KVLINGUA_KILL_SEED", "1")))

    def start(self, verb, out):
        return subprocess.Popen([PROGRAM, verb, self.recipe, "--device", "cpu", "--out", out, "-q", "--json", out / f"{verb}.json"],
                                cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def whole(self, verb, out):
        out.mkdir(exist_ok=True)
        child = self.start(verb, out)
        _, error = child.communicate()
        self.assertEqual(child.returncode, 0, error.decode()[-2000:])

    def compare(self, verb, before=()):
        calm, killed = (pathlib.Path(self.folder.name) / name for name in ("calm", "killed"))
        for out in (calm, killed):
            for first in before:
                self.whole(first, out)
        began = time.monotonic()
        self.whole(verb, calm)
        took = time.monotonic() - began
        killed.mkdir(exist_ok=True)
        kills = 0
        while kills < KILLS:
            child = self.start(verb, killed)
            # Early and late moments alike; what was finished is not done again, so later runs are shorter.
            try:
                child.communicate(timeout=self.random.uniform(0.02, 1) * took * (1 - 0.7 * kills / KILLS))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.communicate()
                kills += 1
                continue
            # Done before the moment came: from the beginning, with what was kept cut at a random line.
            self.assertEqual(child.returncode, 0)
            for kept in sorted(killed.rglob("results/*.jsonl")):
                text = kept.read_bytes()
                kept.write_bytes(text[: self.random.randrange(len(text) + 1)])
        self.whole(verb, killed)
        a, b = (timeless(json.loads((out / f"{verb}.json").read_text())) for out in (calm, killed))
        self.assertEqual(b, a)
        print(f"{verb}: {kills} kills, {took:.1f} s for a whole run", flush=True)

    def test_sweep(self):
        self.compare("sweep")

    def test_identity(self):
        self.compare("identity", before=("generate", "train"))


if __name__ == "__main__":
    names = [f"Kills.test_{word}" for word in sys.argv[1:]]
    unittest.main(argv=[sys.argv[0], "-v", *names])
