#!/usr/bin/env python3
"""kvlingua nano-lm: trains, goes on after SIGTERM, validates with an exit code, refuses typos. usage: nano_lm_test.py KVLINGUA"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

program = sys.argv[1]
root = pathlib.Path(__file__).resolve().parents[2]
small = ["model.hidden_size=32", "model.layers=1", "model.intermediate_size=32", "tokenizer.documents=200",
         "tokenizer.syllable_count=50", "tokenizer.vocab_size=500", "train.batch=4", "train.validate_every=0"]


def arguments(out, *more):
    words = [program, "nano-lm", str(root / "checkpoints/nano/target.yaml"), "--out", str(out), *more]
    for assignment in small:
        words += ["--set", assignment]
    return words


def run(out, *more):
    return subprocess.run(arguments(out, *more), capture_output=True, text=True, cwd=root)


with tempfile.TemporaryDirectory() as out:
    done = run(out, "--set", "train.steps=20", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 20, done.stdout
    assert (pathlib.Path(out) / "checkpoints/nano/target/model.safetensors").exists()
    score = run(out, "--validate", "--limit", "5", "--json", "-")
    assert score.returncode == 3, score.stderr  # an untrained model cannot read
    assert json.loads(score.stdout)["pass"] is False

with tempfile.TemporaryDirectory() as out:
    child = subprocess.Popen(arguments(out, "--set", "train.steps=100000", "--set", "train.log_every=1"),
                             stderr=subprocess.PIPE, text=True, cwd=root)
    while "step 3/" not in child.stderr.readline():
        assert child.poll() is None, "ended before step 3"
    child.send_signal(signal.SIGTERM)
    rest = child.stderr.read()
    assert child.wait() == 75, rest
    assert (pathlib.Path(out) / "checkpoints/nano_lm/target/state.pt").exists()

    typo = run(out, "--set", "train.stepz=5")
    assert typo.returncode == 2 and "did you mean steps" in typo.stderr, typo.stderr
    absent = subprocess.run([program, "nano-lm", "nowhere.yaml"], capture_output=True, text=True)
    assert absent.returncode in (2, 4) and "nowhere.yaml" in absent.stderr, absent.stderr
print("ok")
