#!/usr/bin/env python3
"""SmolLM2-135M as GGUF against its Hugging Face files: token ids, caches and NLL by type of weights.

Needs KVLINGUA_MODELS (smollm2-135m-instruct, or the name in KVLINGUA_REAL_MODEL) and a Python with numpy and gguf, KVLINGUA_GGUF_PYTHON
where this one has not; skips aloud without. Prints a row for each type: bytes, NLL, distance of keys and values.

  KVLINGUA_MODELS=DIR tests/real/gguf_test.py build/bin/kvlingua
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1)
MODEL = pathlib.Path(os.environ.get("KVLINGUA_MODELS", "/nonexistent")) / os.environ.get("KVLINGUA_REAL_MODEL", "smollm2-135m-instruct")
PYTHON = os.environ.get("KVLINGUA_GGUF_PYTHON")
if PYTHON and "KVLINGUA_GGUF_INSIDE" not in os.environ:
    os.environ["KVLINGUA_GGUF_INSIDE"] = "1"
    os.execv(PYTHON, [PYTHON, __file__, PROGRAM, *sys.argv[1:]])
try:
    import gguf
    import numpy
except ImportError:
    gguf = None

TEXT = """The library at the end of the street had been closed for eleven years when Mara found the key. It was not hidden: it hung on a nail
behind the baker's counter, under a calendar that nobody had turned since March. "You may have it," the baker said, "if you tell me what is
still in there." In 1987 the town counted 4,213 people; today there are fewer than nine hundred, and most of them remember the reading room.

def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
"""
TYPES = ["F32", "BF16", "F16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]
MODULES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
           "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
           "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def tensors(path):
    """name -> float32 array, of F32, F16 and BF16 safetensors."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            raw = file.read(end - begin)
            if entry["dtype"] == "BF16":
                values = (numpy.frombuffer(raw, numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32)
            else:
                values = numpy.frombuffer(raw, {"F32": numpy.float32, "F16": numpy.float16, "I64": numpy.int64}[entry["dtype"]])
            yield name, values.reshape(entry["shape"])


def stored_type(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    types = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    return types.pop() if len(types) == 1 else ""


def convert(directory, out, kind):
    """As llama.cpp's converter does, for models whose tokenizer is byte-level."""
    config = json.loads((directory / "config.json").read_text())
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    special = json.loads((directory / "tokenizer_config.json").read_text())
    writer = gguf.GGUFWriter(out, config["model_type"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float((config.get("rope_parameters") or config)["rope_theta"]))
    added = {t["id"]: t for t in tokenizer["added_tokens"]}
    names = {i: t for t, i in tokenizer["model"]["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    size = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if config["model_type"].startswith("qwen") else "smollm")
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in range(size)])
    kind_of = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
    writer.add_token_types([kind_of[added[i]["special"]] if i in added else gguf.TokenType.NORMAL if i in names else gguf.TokenType.UNUSED for i in range(size)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    ids = {t: i for i, t in names.items()}
    for role, put in (("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id)):
        word = special.get(role)
        word = word["content"] if isinstance(word, dict) else word
        if word in ids:
            put(ids[word])
    writer.add_add_bos_token(False)
    if special.get("chat_template"):
        writer.add_chat_template(special["chat_template"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, values in tensors(directory / "model.safetensors"):
        if config["model_type"] == "llama":
            for module, n in heads.items():
                if module in name:
                    values = values.reshape(n, 2, values.shape[0] // n // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if name in WHOLE:
            theirs = WHOLE[name]
        else:
            _, _, layer, rest = name.split(".", 3)
            module, end = rest.rsplit(".", 1)
            theirs = f"blk.{layer}.{MODULES[module]}.{end}"
        of_kind = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        writer.add_tensor(theirs, gguf.quants.quantize(numpy.ascontiguousarray(values, numpy.float32), of_kind), raw_dtype=of_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_dequantised(directory, out, kind):
    """The same weights as float32 in a directory of their own."""
    out.mkdir(exist_ok=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        if (directory / name).exists():
            shutil.copy(directory / name, out / name)
    of_kind = gguf.GGMLQuantizationType[kind]
    header, body, at = {}, [], 0
    for name, values in tensors(directory / "model.safetensors"):
        values = numpy.ascontiguousarray(values, numpy.float32)
        if values.ndim == 2:
            values = gguf.quants.dequantize(gguf.quants.quantize(values, of_kind), of_kind).reshape(values.shape)
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        body.append(numpy.ascontiguousarray(values, numpy.float32).tobytes())
        at += values.nbytes
    head = json.dumps(header).encode()
    with open(out / "model.safetensors", "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for part in body:
            file.write(part)


def inspect(model, scratch, *words):
    dump = pathlib.Path(scratch) / "dump.safetensors"
    text = pathlib.Path(scratch) / "text.txt"
    text.write_text(TEXT)
    done = subprocess.run([PROGRAM, "inspect", str(model), "--prompt", TEXT, "--dump", str(dump), "--device", "cpu", "-q", *words], capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise AssertionError(done.stderr[-2000:])
    return dict(tensors(dump))


def nll(dump):
    logits, tokens = dump["logits"][:-1].astype(numpy.float64), dump["tokens"][1:]
    top = logits.max(1, keepdims=True)
    return float(numpy.mean(numpy.log(numpy.exp(logits - top).sum(1)) + top[:, 0] - logits[numpy.arange(len(tokens)), tokens]))


def distance(got, expected, part):
    """Relative, over all layers together."""
    names = [n for n in expected if n.endswith(part)]
    return float(numpy.sqrt(sum(((got[n] - expected[n]) ** 2).sum() for n in names) / sum((expected[n] ** 2).sum() for n in names)))


class RealGguf(unittest.TestCase):
    def test_types(self):
        if not (MODEL / "config.json").exists():
            self.skipTest(f"KVLINGUA_MODELS does not hold {MODEL.name}")
        if gguf is None:
            self.skipTest("no numpy and gguf in this Python; set KVLINGUA_GGUF_PYTHON")
        with tempfile.TemporaryDirectory(prefix="kvlingua-") as scratch:
            twin = inspect(MODEL, scratch)
            reference = nll(twin)
            stored = stored_type(MODEL / "model.safetensors")
            print(f"{MODEL.name}, {len(twin['tokens'])} tokens\n{'weights':8} {'MB':>7} {'NLL':>8} {'keys':>9} {'values':>9} {'same top token':>15}")
            print(f"{'dense':8} {'':>7} {reference:8.4f}")
            for kind in TYPES + ["nf4", "int8"]:
                if kind in TYPES:
                    file = pathlib.Path(scratch) / f"model-{kind}.gguf"
                    convert(MODEL, file, kind)
                    megabytes = file.stat().st_size / 1e6
                    got = inspect(file, scratch)
                    file.unlink()
                else:
                    megabytes, got = float("nan"), inspect(MODEL, scratch, "--weights", kind)
                self.assertEqual(got["tokens"].tolist(), twin["tokens"].tolist(), kind)
                keys, values = distance(got, twin, ".key"), distance(got, twin, ".value")
                agree = float(numpy.mean(got["logits"].argmax(1) == twin["logits"].argmax(1)))
                print(f"{kind:8} {megabytes:7.1f} {nll(got):8.4f} {keys:9.2e} {values:9.2e} {100 * agree:14.1f}%", flush=True)
                if kind in (stored, "F32"):
                    self.assertEqual((keys, values), (0.0, 0.0))
                elif kind in TYPES:  # what a type loses is its own; what is read is what the file holds
                    dequantised = pathlib.Path(scratch) / "dequantised"
                    write_dequantised(MODEL, dequantised, kind)
                    same = inspect(dequantised, scratch)
                    self.assertEqual((distance(got, same, ".key"), distance(got, same, ".value")), (0.0, 0.0), kind)
                if kind in ("F16", "Q8_0"):
                    self.assertLess(abs(nll(got) - reference), 0.02, kind)


if __name__ == "__main__":
    unittest.main(verbosity=0)
