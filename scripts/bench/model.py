#!/usr/bin/env python3
"""Prefill and decode beside transformers: same weights, device, dtype, threads and machine, runs interleaved, medians.

usage: model.py prefill|decode|load BENCH_MODEL [--models NAME,...] [--batch 1,8] [--tokens 256,1024] [--repeat 5] [--budget SECONDS]
                [--device cpu|cuda|cuda:N] [--dtype float32|bfloat16|float16]      (prefill, decode)

Models: smollm2 (the directory in KVLINGUA_MODELS, or random weights of its shape), qwen3 (Qwen3-0.6B), qwen2 (Qwen2.5-0.5B), random.
prefill compares cache only (ours) with transformers' headless AutoModel and with its default causal forward, all with use_cache.
decode compares DecodeSession with the model's own forward step by step on its DynamicCache, greedy, 16 new tokens.
load compares loading a model, its files dropped from the page cache before, with reading the same files from end to end, with reading
them while as much new memory as the weights need is touched once ("floor": no load can do less), and with transformers'
from_pretrained. Each is a process of its own: memory that one load has freed would serve the next.
A peer that is slow is not run more often than --budget allows (at least once each): the table says how often.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
             num_attention_heads=9, num_key_value_heads=3, head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0,
             attention_bias=False, mlp_bias=False)
QWEN3 = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
             num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rms_norm_eps=1e-6, rope_theta=1000000.0,
             attention_bias=False)
QWEN2 = dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
             num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1000000.0)
CONFIGS = {"smollm2": LLAMA, "qwen3": QWEN3, "qwen2": QWEN2}
NEW_TOKENS = 16
CLOCK = time.process_time if os.environ.get("KVLINGUA_BENCH_CLOCK") == "cpu" else time.perf_counter


class Ours:
    def __init__(self, program, directory, device="cpu", dtype="float32"):
        self.process = subprocess.Popen([program, "serve", directory, device, dtype], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.load_seconds = float(self.process.stdout.readline())

    def run(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def directory_of(name, program, scratch):
    real = pathlib.Path(os.environ.get("KVLINGUA_MODELS", "/nonexistent")) / "smollm2-135m-instruct"
    if name == "smollm2" and (real / "config.json").exists():
        return str(real)
    source, made = scratch / f"{name}-config", scratch / name
    source.mkdir()
    common = dict(hidden_act="silu", tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, initializer_range=0.02, use_cache=True)
    (source / "config.json").write_text(json.dumps(CONFIGS[name] | common))
    subprocess.run([program, "make", source, made], check=True)
    return str(made)


def batch(rows, count, vocab):
    return torch.tensor([[(r * 7919 + i * 104729) % vocab for i in range(count)] for r in range(rows)])


def settle():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(f):
    start = CLOCK()
    f()
    settle()
    return CLOCK() - start


def theirs_decode(model, ids, read):
    """`read`: what the prompt's forward pass left, kept from one round to the next."""
    if not read:
        out = model(ids, use_cache=True, logits_to_keep=1)
        read.update(past=out.past_key_values, logits=out.logits[:, -1])
    past, logits = read["past"], read["logits"]
    settle()
    start = CLOCK()
    for _ in range(NEW_TOKENS):
        out = model(logits.argmax(1, keepdim=True), past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[:, -1]
    settle()
    seconds = CLOCK() - start
    past.crop(-NEW_TOKENS)
    return seconds


def compare(sides, repeat, budget):
    """Each side once to warm up, then in turn until `repeat` rounds are done or the budget is spent."""
    begin = time.perf_counter()
    first = {name: f() for name, f in sides.items()}
    rounds = {name: [] for name in sides}
    for _ in range(repeat):
        if time.perf_counter() - begin > budget and rounds[next(iter(rounds))]:
            break
        for name, f in sides.items():
            rounds[name].append(f())
    del first
    return {name: statistics.median(v) for name, v in rounds.items()}, len(next(iter(rounds.values())))


def cold(directory, f):
    """Seconds of f() with the model's files out of the page cache."""
    for file in pathlib.Path(directory).iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return f()


def in_fresh_process(what, directory):
    """Seconds of one of ALONE, which may keep nothing from one round to the next."""
    out = subprocess.run([sys.executable, __file__, what, directory], check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(out.strip().splitlines()[-1])


def read_files(directory):
    block = bytearray(8 << 20)
    for file in sorted(pathlib.Path(directory).glob("*.safetensors")):
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(block):
                pass


def elements(file):
    with open(file, "rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")


def read_and_touch(directory):
    """The files are read by one thread while the others write once to as much new memory as the weights take in float32."""
    reader = threading.Thread(target=read_files, args=(directory,))
    reader.start()
    torch.empty(sum(map(elements, pathlib.Path(directory).glob("*.safetensors")))).zero_()
    reader.join()


def from_pretrained(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


ALONE = {"reading": read_files, "floor": read_and_touch, "transformers": from_pretrained}


def alone(what, directory):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    start = CLOCK()
    kept = ALONE[what](directory)
    print(CLOCK() - start)
    del kept


def load(program, directory):
    ours = Ours(program, directory)
    ours.close()
    return ours.load_seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prefill", "decode", "load"])
    parser.add_argument("program")
    parser.add_argument("--models", default="smollm2,qwen3,qwen2")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--tokens", default="256,1024")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--budget", type=float, default=600, help="seconds of one row of the table")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    a = parser.parse_args()
    torch.set_grad_enabled(False)
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    transformers.logging.set_verbosity_error()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    clock = "processor" if CLOCK is time.process_time else "wall"
    where = cpu if a.device == "cpu" else torch.cuda.get_device_name(a.device)
    print(f"{a.what}: {where}, {threads} threads, {a.dtype}, {clock} time, torch {torch.__version__}, transformers {transformers.__version__}")
    if a.what == "prefill":
        print("model    batch tokens runs |  ours tok/s  headless   causal | ours / headless   ours / causal")
    elif a.what == "decode":
        print("model    batch tokens runs |  ours tok/s  transformers | ratio")
    else:
        print("model      MB runs |  ours s  reading  floor  transformers | over ours: reading, floor, transformers")
    with tempfile.TemporaryDirectory() as scratch:
        for name in a.models.split(","):
            directory = directory_of(name, a.program, pathlib.Path(scratch))
            if a.what == "load":
                size = sum(f.stat().st_size for f in pathlib.Path(directory).glob("*.safetensors"))
                sides = {"ours": lambda: cold(directory, lambda: load(a.program, directory))}
                for what in ALONE:
                    sides[what] = lambda what=what: cold(directory, lambda: in_fresh_process(what, directory))
                t, n = compare(sides, a.repeat, a.budget)
                print(f"{name:8} {size / 1e6:4.0f} {n:4} | {t['ours']:7.3f} {t['reading']:8.3f} {t['floor']:6.3f} {t['transformers']:13.3f} | "
                      f"{t['reading'] / t['ours']:8.2f} {t['floor'] / t['ours']:6.2f} {t['transformers'] / t['ours']:13.2f}", flush=True)
                continue
            ours = Ours(a.program, directory, a.device, a.dtype)
            model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, a.dtype)).eval().to(a.device)
            for rows in map(int, a.batch.split(",")):
                for count in map(int, a.tokens.split(",")):
                    ids = batch(rows, count, model.config.vocab_size).to(a.device)
                    if a.what == "prefill":
                        t, n = compare({"ours": lambda: ours.run(f"prefill {rows} {count} none"),
                                        "headless": lambda: timed(lambda: model.model(ids, use_cache=True)),
                                        "causal": lambda: timed(lambda: model(ids, use_cache=True))}, a.repeat, a.budget)
                        speed = {k: rows * count / v for k, v in t.items()}
                        print(f"{name:8} {rows:5} {count:6} {n:4} | {speed['ours']:11.1f} {speed['headless']:9.1f} {speed['causal']:8.1f} | "
                              f"{speed['ours'] / speed['headless']:15.2f} {speed['ours'] / speed['causal']:15.2f}", flush=True)
                    else:
                        read = {}
                        t, n = compare({"ours": lambda: ours.run(f"decode {rows} {count} {NEW_TOKENS}"), "theirs": lambda: theirs_decode(model, ids, read)},
                                       a.repeat, a.budget)
                        speed = {k: rows * NEW_TOKENS / v for k, v in t.items()}
                        print(f"{name:8} {rows:5} {count:6} {n:4} | {speed['ours']:11.2f} {speed['theirs']:13.2f} | {speed['ours'] / speed['theirs']:5.2f}",
                              flush=True)
            ours.close()
            del model


if __name__ == "__main__":
    sys.exit(alone(*sys.argv[1:]) if sys.argv[1:2] and sys.argv[1] in ALONE else main())
