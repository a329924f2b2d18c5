#!/usr/bin/env python3
"""A Cache-to-Cache training step beside that project's own code, in one run: same shapes, batch, sequence, type and threads.

usage: c2c.py BENCH_C2C [--preset nano|real] [--batch N] [--seq N] [--accum N] [--steps N] [--dtype float32|bfloat16] [--device cpu|cuda]

KVLINGUA_C2C names a Cache-to-Cache source tree; it needs torch, transformers 4.52.4, numpy, yaml and tqdm in this Python. Nothing of
it is contained here: its trainer's setup, projector, collator, wrapper and train_step are imported and run, on random weights in place
of downloads. Two repairs are made in memory: forward() reads two locals that exist only under include_response, and modules that
only its data loading needs are stubbed. Ours is timed before and after it; medians of all steps, the peer's two modes (anomaly
detection on, as it ships, and off) step by step in turns. On a GPU (--device cuda --dtype bfloat16) peak memory is what each side's
allocator took, and share_of_mm is the share of the rate that a large product of that type reaches.
"""
import argparse
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import types

CLOCK = time.process_time if os.environ.get("KVLINGUA_BENCH_CLOCK") == "cpu" else time.perf_counter


def stub(name, **attributes):
    if importlib.util.find_spec(name) is None:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for key, value in attributes.items():
            setattr(module, key, value)
        sys.modules[name] = module


def load_tree(tree):
    """Its wrapper with the two reads guarded, then its trainer."""
    sys.path.insert(0, str(tree))
    stub("wandb", init=None, log=None, finish=None)
    stub("datasets", load_dataset=None, load_from_disk=None, Dataset=object)
    import rosetta.model

    path = tree / "rosetta/model/wrapper.py"
    text = path.read_text()
    for name in ("base_output_kv_cache", "source_output_kv_cache"):
        lines = [l for l in text.splitlines() if f"clone_kv_cache({name})" in l and l.strip().startswith("self.kv_cache_dict")]
        for line in lines:
            indent = len(line) - len(line.lstrip())
            text = text.replace(line, " " * indent + "if self.include_response: " + line.lstrip(), 1)
    wrapper = types.ModuleType("rosetta.model.wrapper")
    wrapper.__file__ = str(path)
    sys.modules["rosetta.model.wrapper"] = rosetta.model.wrapper = wrapper
    exec(compile(text, str(path), "exec"), wrapper.__dict__)
    spec = importlib.util.spec_from_file_location("c2c_sft_train", tree / "script/train/SFT_train.py")
    trainer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trainer)
    return trainer


def peer(args):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    tree = pathlib.Path(os.environ["KVLINGUA_C2C"]).resolve()
    trainer = load_tree(tree)
    from rosetta.train.dataset_adapters import RosettaDataCollator, generate_kv_cache_index

    nano = args.preset == "nano"
    vocab = 2048 if nano else 151936
    common = dict(vocab_size=vocab, tie_word_embeddings=True, rope_theta=1e6, max_position_embeddings=4096)
    sizes = [(128, 384, 4, 4, 2), (96, 256, 3, 3, 1)] if nano else [(1024, 3072, 28, 16, 8), (896, 4864, 24, 14, 2)]
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    target, source = (dict(zip(keys, s)) for s in sizes)
    build = {"target": (Qwen3ForCausalLM, Qwen3Config(head_dim=32 if nano else 128, **target, **common)),
             "source": (Qwen2ForCausalLM, Qwen2Config(**source, **common))}

    class Tokenizer:
        pad_token, pad_token_id, eos_token, eos_token_id, chat_template = "<pad>", 0, "<eos>", 1, "x"

    class Tokenizers:
        @staticmethod
        def from_pretrained(*_, **__):
            return Tokenizer()

    class Models:
        @staticmethod
        def from_pretrained(name, **options):
            kind, config = build[name]
            before = torch.get_default_dtype()
            torch.set_default_dtype(options.get("torch_dtype", torch.float32))
            try:
                return kind(config).eval().to(args.device)
            finally:
                torch.set_default_dtype(before)

    trainer.AutoTokenizer, trainer.AutoModelForCausalLM = Tokenizers, Models
    recipe = json.loads((tree / "recipe/train_recipe/C2C_0.6+0.5.json").read_text())
    model_options, options = recipe["model"], recipe["training"]
    model_options["base_model"], model_options["teacher_model"] = "target", "source"
    trainer.set_seed(42)
    trainer.enable_full_determinism()
    model, tokenizer, _, _ = trainer.setup_models(model_options, "rosetta", args.device, getattr(torch, args.dtype))
    for frozen in model.model_list:
        trainer.freeze_model(frozen)
    trainer.unfreeze_projectors(model)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [[p for n, p in trained if "gate" in n], [p for n, p in trained if "gate" not in n]]
    optimizer = torch.optim.AdamW([{"params": g, "lr": options["learning_rate"]} for g in groups], weight_decay=options["weight_decay"])
    schedule = trainer.get_scheduler(options["scheduler_type"], optimizer=optimizer, num_warmup_steps=192, num_training_steps=1929)
    collate = RosettaDataCollator(slm_tokenizer=tokenizer, max_length=options["max_length"])
    generator = torch.Generator().manual_seed(5)
    prompt = args.seq // 2

    def batch():
        rows = [torch.randint(2, vocab, (args.seq,), generator=generator).tolist() for _ in range(args.batch)]
        return collate([{"input_ids": ids, "labels": [-100] * prompt + ids[prompt:],
                         "kv_cache_index": generate_kv_cache_index(prompt, args.seq)} for ids in rows])

    done = 0

    def step():
        nonlocal done
        for _ in range(args.accum):
            loss = trainer.train_step(model, batch(), tokenizer, options["max_length"], args.device, "rosetta")
            (loss / args.accum).backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], max_norm=options["max_grad_norm"]).item()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done += 1
        for projector in model.projector_list:
            projector.update_temperature(done)
        return loss.item()

    model.train()
    seconds = {"on": [], "off": []}
    for i in range(args.steps + 1):
        for mode in seconds:
            torch.autograd.set_detect_anomaly(mode == "on")
            begin = CLOCK()
            step()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if i:
                seconds[mode].append(CLOCK() - begin)
    print(json.dumps({"peer": f"Cache-to-Cache, torch {torch.__version__}, transformers {transformers.__version__}",
                      "threads": torch.get_num_threads(), "dtype": args.dtype, "parameters": sum(p.numel() for _, p in trained),
                      "peak_bytes": torch.cuda.max_memory_reserved() if args.device == "cuda" else None,
                      "as_shipped": statistics.median(seconds["on"]), "anomaly_off": statistics.median(seconds["off"])}))


def last_json(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--preset", choices=["nano", "real"], default="nano")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--accum", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.batch = args.batch or (4 if args.preset == "nano" else 1)
    if args.peer:
        return peer(args)
    if "KVLINGUA_C2C" not in os.environ:
        sys.exit("bench c2c-step: KVLINGUA_C2C must name a Cache-to-Cache source tree (github.com/thu-nics/C2C)")
    mine = [args.bench, args.preset, str(args.batch), str(args.seq), str(args.accum), str(args.steps), args.device, args.dtype]
    first = last_json(mine)
    other = last_json([sys.executable, *sys.argv, "--peer"])
    second = last_json(mine)
    ours = statistics.median([first["seconds_per_step"], second["seconds_per_step"]])
    result = {"bench": "c2c-step", "preset": args.preset, "batch": args.batch, "seq": args.seq, "accumulation": args.accum,
              "ours": round(ours, 4), "peer_as_shipped": round(other["as_shipped"], 4), "peer_anomaly_off": round(other["anomaly_off"], 4),
              "times_as_shipped": round(other["as_shipped"] / ours, 2), "times_anomaly_off": round(other["anomaly_off"] / ours, 2),
              "parameters": [first["parameters"], other["parameters"]], "threads": [first["threads"], other["threads"]],
              "gflop_per_step": first["gflop_per_step"], "mm_gflops": first["mm_gflops"], "dense_gflops": first["dense_gflops"],
              "share_of_mm": round(first["gflop_per_step"] / ours / first["mm_gflops"], 3),
              "share_of_dense": round(first["gflop_per_step"] / ours / first["dense_gflops"], 3),
              "peak_bytes": first["peak_bytes"], "peer_peak_bytes": other["peak_bytes"], "peer": other["peer"]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
