#!/usr/bin/env python3
"""A Cache-to-Cache recipe JSON as it is: trains on the nano pair, is stopped and goes on to the same bits, goes out as that project's
folder, comes in again, and starts another run. usage: c2c_train_test.py KVLINGUA"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

program = sys.argv[1]
root = pathlib.Path(__file__).resolve().parents[2]


def recipe(folder):
    chats = [{"conversations": [{"from": "system", "value": "ignored"},
                                {"from": "human", "value": f"  {'ka' * (i % 5 + 1)} tu {i % 9} ?"},
                                {"from": "gpt", "value": f"tu {i % 9} ."}]} for i in range(70)]
    (folder / "chats.json").write_text(json.dumps(chats))
    text = {
        "model": {"base_model": str(root / "checkpoints/nano/target"), "teacher_model": str(root / "checkpoints/nano/source"),
                  "is_do_alignment": True, "alignment_strategy": "first", "include_response": False,
                  "multi_source_fusion_mode": "sequential", "mapping": "last_aligned",
                  "projector": {"type": "C2CProjector", "params": {
                      "hidden_dim": 32, "intermediate_dim": 32, "num_layers": 3, "dropout": 0.1, "initial_temperature": 1.0,
                      "final_temperature": 0.001, "anneal_steps": 10}}},
        "training": {"learning_rate": 1e-3, "weight_decay": 0.01, "num_epochs": 1, "max_length": 256, "device": "cuda",
                     "scheduler_type": "linear", "warmup_ratio": 0.1, "max_grad_norm": 1.0, "gradient_accumulation_steps": 2,
                     "per_device_train_batch_size": 3, "num_processes": 8, "freeze": ["teacher", "base"], "seed": 42},
        "output": {"output_dir": "local/checkpoints/fuser", "save_steps": 4, "eval_steps": 100,
                   "wandb_config": {"project": "p", "mode": "offline", "entity": "e", "run_name": "r"}},
        "data": {"type": "OpenHermesChatDataset", "kwargs": {"split": "train", "num_samples": 66, "max_word_count": 256,
                                                             "dataset_path": str(folder / "chats.json")}, "train_ratio": 0.9},
    }
    (folder / "c2c.json").write_text(json.dumps(text))
    return str(folder / "c2c.json")


def run(*words):
    return subprocess.run([program, *words], capture_output=True, text=True, cwd=root)


def stop_and_go_on(line, whole, cut):
    """The run of `whole` once more, stopped after step 5 and gone on with: the same bits."""
    child = subprocess.Popen([program, *line, str(cut)], stderr=subprocess.PIPE, text=True, cwd=root)
    while "step 5/" not in child.stderr.readline():
        assert child.poll() is None, "ended before step 5"
    child.send_signal(signal.SIGTERM)
    rest = child.stderr.read()
    assert child.wait() in (0, 75), rest
    again = run(*line, str(cut))
    assert again.returncode == 0, again.stderr
    for file in ("c2c/projector.safetensors", "c2c/optimizer.safetensors", "metrics.jsonl"):
        a, b = ((out / "checkpoints/fuser" / file).read_bytes() for out in (whole, cut))
        assert a == b, file


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    path = recipe(folder)
    line = ["train", path, "--device", "cpu", "--set", "train.log_every=1", "--out"]
    whole = run(*line, str(folder / "whole"), "--json", "-")
    assert whole.returncode == 0, whole.stderr
    stage = json.loads(whole.stdout)["stages"][0]
    assert stage["stage"] == "c2c" and stage["steps"] == 10, stage  # 59 conversations: 20 batches, two a step
    assert stage["validation"]["cross_entropy"] > 0, stage

    stop_and_go_on(line, folder / "whole", folder / "cut")

    # Cards without bfloat16 train in float16, with a scaled loss: the losses of float32, and the scale survives a stop.
    half = [*line[:-1], "--set", "pair.source.dtype=float16", "--set", "pair.target.dtype=float16", "--out"]
    got = run(*half, str(folder / "half"), "--json", "-")
    assert got.returncode == 0, got.stderr
    narrow = json.loads(got.stdout)["stages"][0]
    for key in ("first_loss", "last_loss"):
        assert abs(narrow[key] - stage[key]) < 0.003 * stage[key], (key, narrow[key], stage[key])
    steps = [json.loads(text) for text in (folder / "half/checkpoints/fuser/metrics.jsonl").read_text().splitlines()]
    assert any(step.get("loss_scale", 0) > 1 for step in steps), steps[0]
    stop_and_go_on(half, folder / "half", folder / "half-cut")

    out = run("export", "c2c", str(folder / "whole/checkpoints/fuser"), str(folder / "theirs"))
    assert out.returncode == 0, out.stderr
    assert len(list((folder / "theirs").glob("projector_*.pt"))) == 4
    back = run("import", "c2c", str(folder / "theirs"), str(folder / "back"))
    assert back.returncode == 0, back.stderr
    more = run(*line, str(folder / "more"), "--set", f"train.start_from={folder / 'theirs'}")
    assert more.returncode == 0 and "no training_state.pt" in more.stderr, more.stderr
    wrong = run("export", "vllm", str(folder / "whole/checkpoints/fuser"), str(folder / "mapper"))
    assert wrong.returncode == 2 and "kind ridge" in wrong.stderr and wrong.stderr.count("\n") == 1, wrong.stderr
print("ok")
