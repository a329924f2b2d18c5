#!/usr/bin/env python3
"""Preflight against what the run then uses: peak memory within 15 %, time within 30 %.

`preflight --json` says what every stage will take, `quickstart --json` its total_seconds and peak_memory_bytes. Three runs,
cut down by --set: the embedded pair, SmolLM2-135M into itself (KVLINGUA_MODELS), and random weights of the shapes of
Qwen3-0.6B and Qwen2.5-0.5B. Time is this process's processor time (KVLINGUA_BENCH_CLOCK=cpu), so that neighbours on the
machine do not count; KVLINGUA_BENCH_CLOCK=wall compares wall time, on a quiet machine.

  tests/slow/preflight_test.py build/bin/kvlingua [nano|smollm2|qwen|kept ...]
"""
import array
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1)
MEMORY, TIME = 0.15, 0.30
SHARE = 0.10  # of the run's time that a stage must take for its own time to be judged
SMOLLM2 = pathlib.Path(os.environ.get("KVLINGUA_MODELS", "/nonexistent")) / "smollm2-135m-instruct"


def used_by(result):
    stages = {"generate": result["generate"], "evaluate": result["evaluate"]["run"]}
    stages.update({stage["stage"]: stage for stage in result["train"]["stages"]})
    return {name: (stage["total_seconds"], stage["peak_memory_bytes"]) for name, stage in stages.items()}


def random_model(folder, config, tensors, tokenizer):
    """A Hugging Face directory of these shapes: bfloat16 weights drawn once and repeated."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config))
    draw = random.Random(1)
    floats = array.array("f", (draw.gauss(0, 0.02) for _ in range(1 << 16)))
    block = array.array("H", (bits >> 16 for bits in array.array("I", floats.tobytes()))).tobytes()
    header, at = {}, 0
    for name, shape in tensors:
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            out.write(block[:at])
            at -= min(at, len(block))


def qwen(folder, kind, layers, hidden, heads, kv_heads, head_dim, intermediate, tokenizer):
    third = kind == "qwen3"
    config = {"architectures": ["Qwen3ForCausalLM" if third else "Qwen2ForCausalLM"], "model_type": kind, "hidden_size": hidden,
              "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
              "intermediate_size": intermediate, "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
              "rope_theta": 1000000.0, "tie_word_embeddings": True, "hidden_act": "silu", "torch_dtype": "bfloat16",
              "eos_token_id": 151645, "bos_token_id": 151643}
    if third:
        config.update(head_dim=head_dim, attention_bias=False)
    tensors = [("model.embed_tokens.weight", [151936, hidden]), ("model.norm.weight", [hidden])]
    for layer in range(layers):
        p = f"model.layers.{layer}."
        for name, rows in (("q", heads * head_dim), ("k", kv_heads * head_dim), ("v", kv_heads * head_dim)):
            tensors.append((p + f"self_attn.{name}_proj.weight", [rows, hidden]))
            if not third:
                tensors.append((p + f"self_attn.{name}_proj.bias", [rows]))
        tensors.append((p + "self_attn.o_proj.weight", [hidden, heads * head_dim]))
        if third:
            tensors += [(p + "self_attn.q_norm.weight", [head_dim]), (p + "self_attn.k_norm.weight", [head_dim])]
        tensors += [(p + "mlp.gate_proj.weight", [intermediate, hidden]), (p + "mlp.up_proj.weight", [intermediate, hidden]),
                    (p + "mlp.down_proj.weight", [hidden, intermediate]), (p + "input_layernorm.weight", [hidden]),
                    (p + "post_attention_layernorm.weight", [hidden])]
    random_model(folder, config, tensors, tokenizer)


class Preflight(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kvlingua-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def compare(self, recipe, *overrides):
        words = [str(ROOT / "recipe" / recipe), "--device", "cpu", "--out", str(self.folder / "out"), "-q"]
        for override in overrides:
            words += ["--set", override]
        environment = {"KVLINGUA_BENCH_CLOCK": "cpu", "OMP_NUM_THREADS": "1", **os.environ}
        result_file = self.folder / "result.json"

        def run(verb):
            done = subprocess.run([PROGRAM, verb, *words, "--json", str(result_file)], capture_output=True, text=True, cwd=ROOT,
                                  env=environment)
            self.assertIn(done.returncode, (0, 3), done.stderr[-2000:])
            return json.loads(result_file.read_text())

        preflight = run("preflight")
        self.assertEqual(preflight["rehearsal"]["problem"], "")
        result = {**run("quickstart"), "preflight": preflight}
        used = used_by(result)
        whole = sum(seconds for seconds, _ in used.values())
        predicted_whole = sum(stage["seconds"] for stage in result["preflight"]["stages"] if stage["stage"] in used)
        lines, wrong = [], []

        def judge(name, what, predicted, took, bar, unit, scale, judged=True):
            off = predicted / took - 1
            line = f"{name:13} {what:7} predicted {predicted / scale:9.1f}, used {took / scale:9.1f} {unit}: {100 * off:+5.0f} %"
            lines.append(line if judged else line + "  (too short to judge)")
            if judged and abs(off) > bar:
                wrong.append(line)

        for stage in result["preflight"]["stages"]:
            name = stage["stage"]
            if name not in used:  # sweep and identity are planned from shapes, and compared by themselves
                continue
            seconds, memory = used[name]
            judge(name, "memory", stage["peak_memory_bytes"], memory, MEMORY, "MiB", 1 << 20)
            judge(name, "time", stage["seconds"], seconds, TIME, "s", 1, seconds >= SHARE * whole)
        judge("all", "time", predicted_whole, whole, TIME, "s", 1)
        print(f"\n{recipe}, rehearsal {result['preflight']['rehearsal']['seconds']:.0f} s", *lines, sep="\n", flush=True)
        if os.environ.get("KVLINGUA_KEEP"):
            pathlib.Path(os.environ["KVLINGUA_KEEP"] + "-" + pathlib.Path(recipe).stem + ".json").write_text(json.dumps(result))
        self.assertFalse(wrong, "\n".join(wrong))

    # A rehearsal is kept in the run's folder: the same recipe takes it from there, another one makes its own, once.
    def test_kept(self):
        run = self.folder / "out" / "checkpoints" / "nano"
        kept = run / "rehearsal.json"

        def started(*overrides):
            """What is kept when the first stage begins."""
            words = [PROGRAM, "quickstart", str(ROOT / "recipe" / "nano.yaml"), "--device", "cpu", "--out", str(self.folder / "out"), "-q"]
            for override in overrides:
                words += ["--set", override]
            shutil.rmtree(self.folder / "out" / "datasets", ignore_errors=True)
            child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                deadline = time.monotonic() + 300
                while not (self.folder / "out" / "datasets").exists():
                    self.assertIsNone(child.poll(), "ended before its first stage")
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.05)
                return kept.stat().st_mtime_ns, json.loads(kept.read_text())
            finally:
                child.send_signal(signal.SIGTERM)
                child.wait()

        first = started()
        self.assertEqual({stage["stage"] for stage in first[1]["result"]["train"]["stages"]}, {"ridge", "regression", "distillation"})
        self.assertEqual(started(), first)
        other = started("train.distillation.batch.steps=400")
        self.assertNotEqual(other[1]["key"], first[1]["key"])
        self.assertEqual(started("train.distillation.batch.steps=400"), other)

    def test_nano(self):
        self.compare("nano.yaml", "data.synthetic.documents=1000", "train.distillation.batch.steps=120",
                     "train.distillation.items=1500", "eval.items=96")

    def test_smollm2(self):
        if not SMOLLM2.exists():
            self.skipTest("KVLINGUA_MODELS does not hold smollm2-135m-instruct")
        self.compare("smollm2_self.yaml", "data.synthetic.documents=60", "data.batch_tokens=1024",
                     "train.regression.batch.size=256", "eval.items=16", "eval.shifts=[40]", "projector.ridge.lambda=[1e-5]",
                     "eval.conditions=[full_text,same_cache,raw_shifted,ridge,mlp]", "eval.gated=mlp")

    def test_qwen(self):
        tokenizer = SMOLLM2 if SMOLLM2.exists() else ROOT / "checkpoints" / "nano" / "target"
        source, target = self.folder / "source", self.folder / "target"
        qwen(source, "qwen3", 28, 1024, 16, 8, 128, 3072, tokenizer)
        qwen(target, "qwen2", 24, 896, 14, 2, 64, 4864, tokenizer)
        self.compare("phase2b/qwen3-0.6b_qwen2.5-0.5b.yaml", f"pair.source.name={source}", f"pair.target.name={target}",
                     "data.synthetic.documents=30", "data.batch_tokens=1024", "projector.ridge.candidate_layers=2",
                     "projector.ridge.lambda=[1e-5]", "train.regression.batch.size=256", "train.regression.batch.epochs=2",
                     "train.distillation.batch.size=2", "train.distillation.batch.steps=6", "train.distillation.items=36",
                     "eval.families=[identity]", "eval.items=8", "eval.batch_size=8", "eval.max_new_tokens=8",
                     "eval.conditions=[full_text,same_cache,distilled]")


if __name__ == "__main__":
    names = [f"Preflight.test_{word}" for word in sys.argv[1:]]
    unittest.main(argv=[sys.argv[0], "-v", *names])
