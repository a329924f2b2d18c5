#!/usr/bin/env python3
"""Tiny Hugging Face model directories and what transformers computes with them -> tests/golden/data/model/<name>/.

usage: model.py OUT_DIR            the tiny models
       model.py OUT_DIR MODEL_DIR  also OUT_DIR/real/<basename of MODEL_DIR>.json: greedy text and some logits of real weights

Each directory holds config.json (as written here, in the spellings found in the wild), its weights, and expected.safetensors:
  tokens [T], logits [T, vocab], keys and values [layers, kv_heads, T, head_dim] as attention sees them (keys rotated),
  prompt [P] and greedy [N]; batch_tokens, batch_mask [B, T] (padded left) and batch_logits [B, T, vocab] at real tokens.
Needs torch, transformers and safetensors; their versions go into the metadata.
"""
import json
import pathlib
import sys

sys.path.pop(0)  # this folder holds a statistics.py, which is not the standard library's

import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "safetensors": safetensors.__version__}
BASE = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=128, rms_norm_eps=1e-6, hidden_act="silu", tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
            attention_dropout=0.0, initializer_range=0.02, use_cache=True)
QWEN2 = dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", use_sliding_window=False)
QWEN3 = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", use_sliding_window=False, attention_bias=False)
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", attention_bias=False, mlp_bias=False)
# name -> (config.json, stored dtype, shards)
MODELS = {
    "qwen2_tied": (QWEN2 | dict(rope_theta=1000000.0), torch.float32, 1),
    "qwen2_untied_sharded_bf16": (QWEN2 | dict(rope_theta=10000.0, tie_word_embeddings=False), torch.bfloat16, 3),
    "qwen2_yarn": (QWEN2 | dict(rope_theta=10000.0, rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32)), torch.float32, 1),
    "qwen3_head_dim": (QWEN3 | dict(head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), torch.float32, 1),
    "qwen3_bias_untied": (QWEN3 | dict(head_dim=12, attention_bias=True, tie_word_embeddings=False, rope_theta=1000000.0), torch.bfloat16, 1),
    "llama_gqa_f16": (LLAMA | dict(hidden_size=36, num_attention_heads=6, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, rms_norm_eps=1e-5), torch.float16, 1),
    "llama_linear": (LLAMA | dict(rope_theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)), torch.float32, 1),
    "llama_llama3": (LLAMA | dict(rope_theta=500000.0, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                                         original_max_position_embeddings=16)), torch.float32, 2),
    "llama_yarn_bias": (LLAMA | dict(attention_bias=True, mlp_bias=True, num_key_value_heads=1,
                                     rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16,
                                                          beta_fast=16.0, beta_slow=2.0)), torch.float32, 1),
}


def fill(model, generator):
    """Weights large enough that attention is far from uniform and every term shows."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=generator)
            if p.dim() == 2:
                p.copy_(r * (0.4 if "embed" in name else 1.5 / p.shape[1] ** 0.5))
            elif name.endswith("bias"):
                p.copy_(r * 0.2)
            else:
                p.copy_(1 + r * 0.2)


def write_weights(model, directory, dtype, shards, tied):
    state = {k: v.to(dtype).contiguous().clone() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    if shards == 1:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(state)
    weight_map = {}
    for i in range(shards):
        part = {k: state[k] for k in names[i::shards]}
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= {k: file for k in part}
    total = sum(v.numel() * v.element_size() for v in state.values())
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}, indent=1))


def cache_of(output):
    layers = output.past_key_values.layers
    return torch.stack([l.keys[0] for l in layers]), torch.stack([l.values[0] for l in layers])


def greedy(model, prompt, n):
    """Ids, and the least margin between the best and the second logit on the way."""
    ids, margin = list(prompt), float("inf")
    past = None
    step = torch.tensor([ids])
    out = []
    for _ in range(n):
        r = model(step, past_key_values=past, use_cache=True)
        past = r.past_key_values
        top = r.logits[0, -1].float().topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        out.append(top.indices[0].item())
        step = torch.tensor([[out[-1]]])
    return out, margin


def tiny(root, name, spec, dtype, shards):
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*"):
        old.unlink()
    config = BASE | spec
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(directory))
    fill(model, generator)
    write_weights(model, directory, dtype, shards, config["tie_word_embeddings"])
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(0, 64, (48,), generator=generator)
    out = model(tokens[None], use_cache=True)
    keys, values = cache_of(out)
    for _ in range(200):  # a prompt whose greedy path has no near ties
        prompt = torch.randint(0, 64, (9,), generator=generator)
        continuation, margin = greedy(model, prompt.tolist(), 20)
        if margin > 0.01:
            break
    else:
        raise SystemExit(f"{name}: no prompt without near ties")
    lengths = [5, 11, 1]
    batch = torch.zeros(3, 11, dtype=torch.long)
    mask = torch.zeros(3, 11, dtype=torch.long)
    for r, n in enumerate(lengths):
        batch[r, 11 - n:] = tokens[r:r + n]
        mask[r, 11 - n:] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    batch_logits = model(batch, attention_mask=mask, position_ids=positions).logits * mask[..., None]
    save_file({"tokens": tokens, "logits": out.logits[0].float().contiguous(), "keys": keys.float().contiguous(), "values": values.float().contiguous(),
               "prompt": prompt, "greedy": torch.tensor(continuation), "batch_tokens": batch, "batch_mask": mask, "batch_logits": batch_logits.contiguous()},
              directory / "expected.safetensors", metadata=VERSIONS | {"greedy_margin": f"{margin:.4f}"})
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, greedy margin {margin:.3f}")


PROMPTS = ["The meaning of consciousness is", "Hello, my name is Lyra and I", "When two AI systems communicate they",
           "def fibonacci(n):\n    ", "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"]


def real(root, source):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    items = []
    for text in PROMPTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        logits = model(torch.tensor([ids])).logits[0, -1]
        top = logits.topk(8)
        continuation, margin = greedy(model, ids, 64)
        items.append({"prompt": text, "ids": ids, "greedy": continuation, "greedy_margin": round(margin, 5),
                      "logit_ids": list(range(0, logits.numel(), logits.numel() // 24)) + top.indices.tolist()})
        items[-1]["logits"] = [round(v, 5) for v in logits[items[-1]["logit_ids"]].tolist()]
        print(f"{text!r}: margin {margin:.4f}: {tokenizer.decode(continuation)!r}")
    (root / "real").mkdir(parents=True, exist_ok=True)
    (root / "real" / f"{pathlib.Path(source).name}.json").write_text(json.dumps({"versions": VERSIONS, "items": items}) + "\n")


if __name__ == "__main__":
    out_dir = pathlib.Path(sys.argv[1])
    with torch.no_grad():
        if len(sys.argv) > 2:
            real(out_dir, sys.argv[2])
        else:
            for key, (spec, dtype, shards) in MODELS.items():
                tiny(out_dir, key, spec, dtype, shards)
