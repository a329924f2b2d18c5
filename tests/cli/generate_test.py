#!/usr/bin/env python3
"""generate_test.py KVLINGUA: the verbs generate and verify on the embedded pair, as a user runs them."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

program = sys.argv[1]
root = pathlib.Path(__file__).resolve().parents[2]
if not (root / "checkpoints/nano/source/config.json").exists():
    print("SKIPPED: no embedded pair in checkpoints/nano")
    sys.exit(0)


def run(*words, code=0, env=None):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, cwd=root, env={**os.environ, **(env or {})})
    assert done.returncode == code, f"{words}: exit code {done.returncode} instead of {code}\n{done.stderr}"
    return done


def hashes(folder):
    return [e["sha256"] for e in json.loads((folder / "manifest.json").read_text())["entries"]]


with tempfile.TemporaryDirectory() as name:
    out = pathlib.Path(name)
    folder = out / "a/datasets/nano"
    common = ["generate", "recipe/nano.yaml", "--set", "data.synthetic.documents=60", "--set", "data.shard_bytes=1MiB", "--set", "data.batch_tokens=512"]
    result = json.loads(run(*common, "--out", out / "a", "--json", "-").stdout)
    for key in ("samples", "tokens", "shards", "bytes", "seconds", "tokens_per_second", "prefill_seconds", "write_wait_seconds", "resumed_samples"):
        assert key in result, key
    assert result["samples"] == 60 and result["shards"] > 1 and result["resumed_samples"] == 0, result
    again = json.loads(run(*common, "--out", out / "a", "--json", "-").stdout)
    assert again["resumed_samples"] == 60, again

    # Two ranks, then what a third of three left over.
    for rank in ("0", "1"):
        run(*common, "--out", out / "b", env={"RANK": rank, "WORLD_SIZE": "3", "LOCAL_RANK": "0"})
    run(*common, "--out", out / "b")
    assert hashes(folder) == hashes(out / "b/datasets/nano")

    run("verify", folder)
    read = subprocess.run(["/usr/bin/python3", root / "scripts/read_pairs.py", folder, "1"], capture_output=True, text=True, check=True).stdout
    assert read.endswith("60 samples\n"), read

    other = run(*common, "--set", "data.storage_dtype=int8", "--out", out / "a", code=4)
    assert "storage differs" in other.stderr and len(other.stderr.strip().splitlines()) <= 1, other.stderr

    shard = folder / "shard-000001.h5"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    found = run("verify", folder, code=6)
    assert "shard-000001.h5" in found.stdout + found.stderr, found

    full = run(*common, "--out", out / "c", code=7, env={"KVLINGUA_FAULT": "enospc@30"})
    assert "disk" in full.stderr or "space" in full.stderr, full.stderr
    run(*common, "--out", out / "c")
    assert hashes(out / "c/datasets/nano") == hashes(out / "b/datasets/nano")
print("ok")
