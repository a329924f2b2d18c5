#!/usr/bin/env python3
"""All figures of one card in one table, within eight minutes, building nothing.

usage: gpu.py BUILD_BIN [--device cuda|cuda:N|cpu] [--models DIR] [--source NAME --target NAME] [--minutes M] [--only WHAT,...]

  tests      the tests of tests/gpu that were built
  nano       the embedded pair: generate, train, evaluate; answers a second and the verdicts
  pair       the same for two models of --models (default SmolLM2-135M-Instruct into Qwen2.5-Coder-0.5B-Instruct), a short run
  c2c        Cache-to-Cache's step at 4 x 512 and 4 x 2048, 8 micro-batches (bench_c2c; beside its own code: bench.sh c2c-step)
  prefill, decode   beside transformers (scripts/bench/model.py)

Each row says what was measured, the figure and its unit; rows that ran out of time or failed say so. The card, its driver and
torch stand on top. --device cpu runs the same programs small, to try the script where there is no card.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = []


def row(what, figure, unit=""):
    ROWS.append((what, f"{figure:.4g}" if isinstance(figure, float) else str(figure), unit))
    print("  ".join(ROWS[-1]), file=sys.stderr, flush=True)


class Budget:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self, most):
        return max(1.0, min(most, self.end - time.monotonic()))


def run(command, limit):
    """(exit code or None when out of time, stdout, seconds)"""
    began = time.monotonic()
    try:
        done = subprocess.run([str(c) for c in command], cwd=ROOT, timeout=limit, text=True, capture_output=True)
        if done.returncode not in (0, 3):
            print(done.stderr[-500:], file=sys.stderr)
        return done.returncode, done.stdout, time.monotonic() - began
    except subprocess.TimeoutExpired:
        return None, "", time.monotonic() - began


def gpu_tests(a, budget):
    for test in sorted(a.bin.glob("gpu_*")):
        code, out, seconds = run([test], budget.left(60))
        last = [line for line in out.splitlines() if "PASSED" in line or "FAILED" in line or "SKIPPED" in line]
        row(test.name, "out of time" if code is None else f"exit {code}", last[-1].strip() if last else f"{seconds:.1f} s")


def stages(a, budget, name, recipe, settings):
    with tempfile.TemporaryDirectory(prefix="kvlingua-bench") as out:
        common = [recipe, "--device", a.device, "--out", out, "-q"] + [x for s in settings for x in ("--set", s)]
        for verb in ("generate", "train", "evaluate"):
            report = pathlib.Path(out) / f"{verb}.json"
            code, _, seconds = run([a.bin / "kvlingua", verb, *common, "--json", report], budget.left(240))
            if code is None or not report.exists():
                row(f"{name}: {verb}", "out of time" if code is None else f"exit {code}", f"{seconds:.1f} s")
                return
            found = json.loads(report.read_text())
            if verb == "generate":
                row(f"{name}: generate", float(found["tokens_per_second"]), "tokens/s")
                row(f"{name}: generate, prefill alone", float(found["prefill_seconds"]), f"s of {found['seconds']:.4g}")
            elif verb == "train":
                for stage in found.get("stages", []):
                    per = stage["seconds"] / max(1, stage["steps"])
                    row(f"{name}: {stage['stage']}", float(stage["tokens_per_second"]), f"tokens/s, {1000 * per:.4g} ms a step")
            else:
                answers = found["run"]["generated"]
                row(f"{name}: evaluate", answers / seconds, f"answers/s with loading ({answers} in {seconds:.1f} s)")
                for criterion, judged in found.get("criteria", {}).items():
                    row(f"{name}: {criterion}", judged.get("verdict", "?"))
                for control in found.get("controls", []):
                    row(f"{name}: {control['control']} = {control['equals']}", f"{control['equal']} of {control['n']}")


def c2c(a, budget):
    bench = a.bin / "bench_c2c"
    lengths = (512, 2048) if a.device != "cpu" else (64,)
    for seq in lengths:
        dtype = "bfloat16" if a.device != "cpu" else "float32"
        preset = "real" if a.device != "cpu" else "nano"
        code, out, _ = run([bench, preset, 4, seq, 8 if a.device != "cpu" else 1, 5,
                            a.device, dtype], budget.left(90))
        row(f"c2c step, 4 x {seq}", "out of time" if code is None else f"exit {code}", " ".join(out.split())[:300])


def beside_transformers(a, budget, what):
    code, out, _ = run([sys.executable, ROOT / "scripts/bench/model.py", what, a.bin / "bench_model", "--models", "qwen2,qwen3",
                        "--batch", "1,32", "--tokens", "256,2048", "--repeat", "3", "--budget", "5",
                        "--device", a.device, "--dtype", "bfloat16"], budget.left(120))
    row(what, "out of time" if code is None else f"exit {code}", out[-600:])


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("bin", type=pathlib.Path)
    p.add_argument("--device", default="cuda")
    p.add_argument("--models", default=os.environ.get("KVLINGUA_MODELS", ""))
    p.add_argument("--source", default="smollm2-135m-instruct")
    p.add_argument("--target", default="qwen2.5-coder-0.5b-instruct")
    p.add_argument("--minutes", type=float, default=8)
    p.add_argument("--only", default="tests,nano,pair,c2c,prefill,decode")
    a = p.parse_args()
    budget = Budget(a.minutes)
    small = ["data.synthetic.documents=60", "train.distillation.batch.steps=4", "eval.items=4"] if a.device == "cpu" else []
    try:
        print(subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                             text=True, capture_output=True).stdout.strip() or "no card")
    except OSError:
        print("no card")
    wanted = a.only.split(",")
    if "tests" in wanted and a.device != "cpu":
        gpu_tests(a, budget)
    if "nano" in wanted:
        stages(a, budget, "nano", "recipe/nano.yaml", small)
    if "c2c" in wanted:
        c2c(a, budget)
    if "pair" in wanted and a.models and all((pathlib.Path(a.models) / n).is_dir() for n in (a.source, a.target)):
        recipe = ROOT / "recipe/real/smollm2_qwen-coder-0.5b.yaml"
        stages(a, budget, "pair", recipe, [f"pair.source.name={pathlib.Path(a.models) / a.source}",
                                           f"pair.target.name={pathlib.Path(a.models) / a.target}"] + small)
    for what in ("prefill", "decode"):
        if what in wanted and a.device != "cpu":
            beside_transformers(a, budget, what)
    width = max((len(r[0]) for r in ROWS), default=0)
    for what, figure, unit in ROWS:
        print(f"{what:<{width}}  {figure:>12}  {unit}")


main()
