#!/usr/bin/env python3
"""A GGUF file in place of a model directory: inspect, generate, sweep; what is wrong with one is said in a line. usage: gguf_test.py KVLINGUA"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

program = sys.argv[1]
ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "checkpoints" / "nano" / "source"
NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
U32, I32, F32, STRING, ARRAY, BF16 = 4, 5, 6, 8, 9, 30


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, item):
    return string(item) if kind == STRING else struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], item)


def entry(key, kind, item):
    if isinstance(item, list):
        return string(key) + struct.pack("<IIQ", ARRAY, kind, len(item)) + b"".join(value(kind, one) for one in item)
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def convert(directory, out, architecture="qwen3"):
    config = json.loads((directory / "config.json").read_text())
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    chat = json.loads((directory / "tokenizer_config.json").read_text())["chat_template"]
    added = {t["content"]: t for t in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in added.values()}
    tokens = sorted(ids, key=ids.get)
    entries = [entry("general.architecture", STRING, architecture), entry("tokenizer.ggml.model", STRING, "gpt2"),
               entry("tokenizer.ggml.pre", STRING, "qwen2"), entry("tokenizer.ggml.tokens", STRING, tokens),
               entry("tokenizer.ggml.token_type", I32, [1 if t not in added else 3 if added[t]["special"] else 4 for t in tokens]),
               entry("tokenizer.ggml.merges", STRING, [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]),
               entry("tokenizer.ggml.eos_token_id", U32, ids["<|im_end|>"]), entry("tokenizer.chat_template", STRING, chat),
               entry(f"{architecture}.rope.freq_base", F32, config["rope_theta"]),
               entry(f"{architecture}.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"])]
    for key, name in (("block_count", "num_hidden_layers"), ("context_length", "max_position_embeddings"), ("embedding_length", "hidden_size"),
                      ("feed_forward_length", "intermediate_size"), ("attention.head_count", "num_attention_heads"),
                      ("attention.head_count_kv", "num_key_value_heads"), ("attention.key_length", "head_dim"), ("attention.value_length", "head_dim")):
        entries.append(entry(f"{architecture}.{key}", U32, config[name]))
    raw = (directory / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8:8 + size]), raw[8 + size:]
    header.pop("__metadata__", None)
    infos, data = b"", b""
    for name, tensor in header.items():
        assert tensor["dtype"] == "BF16"
        begin, end = tensor["data_offsets"]
        shape = tensor["shape"][::-1]
        infos += string(gguf_name(name)) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, BF16, len(data))
        data += body[begin:end] + b"\0" * (-(end - begin) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(header), len(entries)) + b"".join(entries) + infos
    out.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def run(*words, code=0):
    done = subprocess.run([program, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, (words, done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done


def refused(code, phrase, *words):
    lines = run(*words, code=code).stderr.strip().splitlines()
    assert len(lines) == 1 and phrase in lines[0], lines


def dump(model, out, *words):
    run("inspect", model, "--prompt", "The key of Ada is 41.\n", "--dump", out, "--device", "cpu", "-q", *words)
    raw = out.read_bytes()
    return raw[8 + struct.unpack("<Q", raw[:8])[0]:]


with tempfile.TemporaryDirectory(prefix="kvlingua-gguf-") as scratch:
    scratch = pathlib.Path(scratch)
    file, a, b = scratch / "nano.gguf", scratch / "a.safetensors", scratch / "b.safetensors"
    convert(NANO, file)
    # Tokens, keys, values and logits are the twin's, dense and quantised at load.
    for words in ((), ("--weights", "nf4")):
        assert dump(file, a, *words) == dump(NANO, b, *words), words
    assert dump(file, a, "--weights", "nf4") != dump(file, b)

    # A pair made with the file says so, and is not continued with the directory.
    small = ["--out", scratch, "-q", "--device", "cpu", "--set", "data.name=mixed", "--set", "data.synthetic.documents=8", "--set", "data.max_tokens=2000"]
    run("generate", "recipe/nano.yaml", *small, "--set", f"pair.source.name={file}")
    made = " ".join(p.read_text() for p in (scratch / "datasets" / "mixed").glob("*.json"))
    assert "gguf-" in made, made[:500]
    mixed = subprocess.run([program, "generate", "recipe/nano.yaml", *map(str, small)], cwd=ROOT, capture_output=True, text=True)
    assert mixed.returncode in (2, 4) and len(mixed.stderr.strip().splitlines()) == 1, mixed

    whole = file.read_bytes()
    bad = scratch / "bad.gguf"
    bad.write_bytes(whole[:-100])
    refused(6, "past the end of the file", "inspect", bad, "-q")
    bad.write_bytes(whole[:3000])
    refused(6, "bad.gguf", "inspect", bad, "-q")
    bad.write_bytes(whole.replace(b"qwen3", b"gemma"))
    refused(4, "architecture not supported: got gemma", "inspect", bad, "-q")
    bad.write_bytes(whole.replace(struct.pack("<Q", 5) + b"qwen2", struct.pack("<Q", 5) + b"dbrx-"))
    refused(4, "pre-tokenizer not supported", "inspect", bad, "-q")
    refused(4, "no such file", "inspect", scratch / "none.gguf", "-q")
    refused(4, "has no revisions", "generate", "recipe/nano.yaml", *small, "--set", f"pair.source.name={file}", "--set", "pair.source.revision=v1")

    # The geometry of a quantised model is measured, and filed apart from the dense one's.
    for words in ([], ["--quantize"]):
        run("sweep", NANO, *words, "--limit", "2", "--input-only", "--out", scratch, "--device", "cpu", "-q")
    dense, quantized = ((scratch / "results" / f"scale_sweep_{name}_features.jsonl").read_text() for name in ("nano-source", "nano-source-q4"))
    assert len(dense.splitlines()) == len(quantized.splitlines()) > 2 and dense != quantized
print("ok")
