#!/usr/bin/env python3
"""Ridge accumulation and the regression step, the latter in turns with a plain PyTorch loop over layers.

usage: train.py ridge|regression BENCH_TRAIN [--rows N] [--steps N] [--hidden N] [--rounds N]

The peer does the same work at the shapes of Qwen2.5-0.5B -> Qwen3-0.6B: per target layer and K/V a frozen linear map and a
network Linear-GELU-Linear over the RMS-normalised source channels, normalised error, clip_grad_norm_, torch.optim.AdamW.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

SOURCE, TARGET = 24 * 2 * 64, 8 * 128
LAYERS = 28


def peer(rows, steps, hidden):
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = torch.nn.Linear(SOURCE, TARGET)
            self.base.requires_grad_(False)
            self.up = torch.nn.Linear(SOURCE, hidden)
            self.down = torch.nn.Linear(hidden, TARGET, bias=False)
            torch.nn.init.zeros_(self.down.weight)

        def forward(self, x):
            normed = torch.nn.functional.rms_norm(x, (SOURCE,), eps=1e-6)
            return self.base(x) + self.down(torch.nn.functional.gelu(self.up(normed)))

    layers = torch.nn.ModuleList(Layer() for _ in range(2 * LAYERS))
    trained = [p for p in layers.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
    source = [torch.randn(rows, SOURCE) for _ in range(2)]
    target = torch.randn(2 * LAYERS, rows, TARGET)
    times = []
    for step in range(steps + 1):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = 0
        for i, layer in enumerate(layers):
            loss = loss + (layer(source[i // LAYERS]) - target[i]).square().mean() / (2 * LAYERS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step:
            times.append(time.perf_counter() - begin)
    return {"peer": "torch " + torch.__version__, "seconds_per_step": statistics.median(times)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ridge", "regression", "peer"])
    parser.add_argument("program")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.what == "peer":
        print(json.dumps(peer(args.rows, args.steps, args.hidden)))
        return
    rows = args.rows or (4096 if args.what == "ridge" else 256)
    ours = [args.program, args.what, str(rows), str(args.steps), str(args.hidden)]
    if args.what == "ridge":
        print(subprocess.run(ours, check=True, capture_output=True, text=True).stdout.strip())
        return
    import sys

    theirs = [sys.executable, __file__, "peer", args.program, "--rows", str(rows), "--steps", str(args.steps), "--hidden", str(args.hidden)]
    results = {"ours": [], "theirs": []}
    for _ in range(args.rounds):
        for name, command in (("ours", ours), ("theirs", theirs)):
            out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            results[name].append(out)
            print(json.dumps(out), flush=True)
    mine, peers = (statistics.median(r["seconds_per_step"] for r in results[n]) for n in ("ours", "theirs"))
    print(json.dumps({"ours_seconds": mine, "peer_seconds": peers, "times_faster": round(peers / mine, 3),
                      "share_of_gemm": statistics.median(r["ratio"] for r in results["ours"])}))


main()
