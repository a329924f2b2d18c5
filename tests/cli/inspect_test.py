#!/usr/bin/python3
"""`kvlingua inspect` on a tiny model: the dump holds transformers' keys, values and logits; metadata, determinism, errors. usage: inspect_test.py KVLINGUA

Run by the system python, whose numpy scripts/setup.sh installs.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy

program = sys.argv[1]
data = pathlib.Path(__file__).parent.parent / "golden" / "data" / "model"
TYPES = {"F32": numpy.float32, "I64": numpy.int64}


def read(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    metadata = header.pop("__metadata__", {})
    body = raw[8 + n:]
    return {k: numpy.frombuffer(body[slice(*v["data_offsets"])], TYPES[v["dtype"]]).reshape(v["shape"]) for k, v in header.items()}, metadata


def run(*arguments, code=0):
    result = subprocess.run([program, "inspect", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert result.returncode == code, (arguments, result.returncode, result.stderr)
    return result


def letter(i):
    """The 64 tokens of the test's tokenizer: printable characters of one byte."""
    return chr(0x30 + i)


def give_tokenizer(directory):
    vocabulary = {letter(i): i for i in range(64)}
    (directory / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": []}}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))


with tempfile.TemporaryDirectory() as scratch:
    for name in ("qwen2_tied", "qwen3_head_dim", "llama_yarn_bias"):
        model = pathlib.Path(scratch) / name
        shutil.copytree(data / name, model)
        give_tokenizer(model)
        golden, _ = read(data / name / "expected.safetensors")
        prompt = "".join(letter(i) for i in golden["tokens"])
        dump, out = pathlib.Path(scratch) / "cache.safetensors", pathlib.Path(scratch) / "metadata.json"
        run(model, "--prompt", prompt, "--dump", dump, "--out", out, "--device", "cpu")
        got, metadata = read(dump)
        assert (got["tokens"] == golden["tokens"]).all()
        for layer in range(golden["keys"].shape[0]):
            for what in ("key", "value"):
                worst = abs(got[f"layers.{layer}.{what}"] - golden[what + "s"][layer]).max()
                assert worst < 1e-4, (name, layer, what, worst)
        assert abs(got["logits"] - golden["logits"]).max() < 1e-4
        config = json.loads((model / "config.json").read_text())
        assert metadata["architecture"] == config["architectures"][0] and float(metadata["rope_theta"]) > 0
        described = json.loads(out.read_text())
        tokens, heads, dim = golden["keys"].shape[2], golden["keys"].shape[1], golden["keys"].shape[3]
        assert described["seq_len"] == tokens and described["num_kv_heads"] == heads and described["head_dim"] == dim
        assert described["bytes_per_token"] == 2 * 2 * heads * dim * 4 and described["total_bytes"] == tokens * described["bytes_per_token"]
        for row in described["layers"]:
            for what in ("key", "value"):
                tensor = golden[what + "s"][row["layer"]].astype(numpy.float64)
                assert row[f"{what}_shape"] == list(tensor.shape)
                assert abs(row[f"{what}_norm"] - numpy.linalg.norm(tensor)) < 1e-3
                energy = numpy.linalg.svd(tensor.transpose(1, 0, 2).reshape(tokens, -1), compute_uv=False) ** 2
                assert row[f"{what}_effective_rank"] == int((energy.cumsum() < 0.9 * energy.sum()).sum()) + 1

    report = json.loads(run(model, "--prompt", "5A7", "--prompt", "QRS", "--determinism", "3", "--bench", "--json", "-").stdout)
    assert [p["seq_len"] for p in report["prompts"]] == [3, 3]
    assert report["determinism"]["identical"] and report["determinism"]["uncached_text_identical"]
    assert [row["context"] for row in report["bench"]] == [16, 32, 64] and all(row["speedup"] > 0 for row in report["bench"])
    assert [row["tokens"] for row in report["projected"]] == [100, 1000, 4000, 8000]
    assert "effective" not in run(model, "--prompt", "5A7").stderr
    assert "bytes a token" in run(model, "--prompt", "5A7").stdout
    line = run("/nonexistent/model", code=4).stderr.strip().splitlines()
    assert len(line) == 1, line
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-5])
    error = run(model, "--prompt", "5A7", code=6).stderr
    assert "model.safetensors" in error and len(error.strip().splitlines()) == 1, error
print("ok")
