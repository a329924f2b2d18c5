#!/usr/bin/env python3
"""Answers a second by condition, and a plain transformers loop over what full_text reads: batches of 32, greedy, padded left.

usage: evaluate.py BENCH_EVALUATE [--model DIR] [--items N] [--tokens N] [--no-peer]
The model is $KVLINGUA_MODELS/smollm2-135m-instruct where that is, else the embedded nano target (which has no peer run).
Ours measures likelihoods of gold answers besides; the peer only generates.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def peer(model_directory, prompts, tokens):
    import torch
    import transformers

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
    model.generation_config.temperature = model.generation_config.top_p = model.generation_config.top_k = None
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    begin, generated = time.perf_counter(), 0
    with torch.inference_mode():
        for at in range(0, len(rows), 32):
            batch = rows[at:at + 32]
            width = max(map(len, batch))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in batch])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
            out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
            generated += sum(int((row[width:] != 0).sum()) for row in out)
    seconds = time.perf_counter() - begin
    return {"peer": f"transformers {transformers.__version__}", "answers_per_second": len(rows) / seconds, "tokens_generated": generated}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--model")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--no-peer", action="store_true")
    args = parser.parse_args()
    real = pathlib.Path(os.environ.get("KVLINGUA_MODELS", "/nonexistent")) / "smollm2-135m-instruct"
    model = pathlib.Path(args.model) if args.model else real if real.exists() else ROOT / "checkpoints/nano/target"
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder) / "prompts.jsonl"
        command = [args.program, str(model), "--items", str(args.items), "--tokens", str(args.tokens), "--prompts", str(prompts)]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{ours['model']}: {args.items} items, up to {args.tokens} tokens, {ours['threads']} threads")
        print(f"{'condition':<16} {'answers/s':>10} {'tokens':>8} {'seconds':>8}")
        for name, row in ours["conditions"].items():
            print(f"{name:<16} {row['answers_per_second']:>10.2f} {row['tokens_generated']:>8} {row['seconds']:>8.1f}")
        print(f"{'all':<16} {ours['answers_per_second']:>10.2f} {'':>8} {ours['seconds']:>8.1f}")
        if not args.no_peer and (model / "tokenizer_config.json").exists() and model == real:
            row = peer(model, prompts, args.tokens)
            ratio = ours["conditions"]["full_text"]["answers_per_second"] / row["answers_per_second"]
            print(f"{row['peer']}, full_text: {row['answers_per_second']:.2f} answers/s, {row['tokens_generated']} tokens; kvlingua {ratio:.2f} times that")


if __name__ == "__main__":
    main()
