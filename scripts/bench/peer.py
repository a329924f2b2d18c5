#!/usr/bin/env python3
"""The same pair set fitted by aither-kvcache (PyPI, 2.4.1; arXiv 2608.03893 in numpy) and by kvlingua's ridge stage.

usage: peer.py KVLINGUA RECIPE [--out DIR] [--top-k N] [--set a.b=c ...]     pairs must have been generated under --out
       peer.py --export SET CAPTURE                                          only writes the peer's own form of a pair set

Its python needs numpy, h5py, torch and aither-kvcache. The peer reads {train,val}_{src,tgt}_{k,v}.npy, [tokens, layers * kv_heads * head_dim], keys without rotation, and a manifest;
it refuses pairs of two tokenizers. Both are judged on the validation samples by the same formula, the mean over channels of
1 - residual / total about the validation mean (the peer chooses its layers and its lambda on those samples, kvlingua on
others). A fit's time is that of its own passes over rows already on this machine's disk, its memory the process' peak.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from read_pairs import read_pairs, shards  # noqa: E402


def info_of(directory):
    import h5py

    with h5py.File(next(iter(shards(directory))), "r") as f:
        info = f.attrs["info"] if "info" in f.attrs else f["info"][:].tobytes()
        return json.loads(info)


def rows_of(directory):
    """{split: {"src"|"tgt": {"k"|"v": [N, L H D]}}}; row i of both sides is the same token."""
    parts = {split: {side: {"k": [], "v": []} for side in ("src", "tgt")} for split in ("train", "val")}
    counts = {"train": 0, "val": 0}
    for sample in read_pairs(directory):
        split = "val" if sample["validation"] else "train"
        counts[split] += 1
        for side, name in (("src", "source"), ("tgt", "target")):
            for role, what in (("k", "keys"), ("v", "values")):
                x = sample[name][what]  # [L, H, rows, D]
                if side == "src":
                    x = x[:, :, sample["source_row"]]
                parts[split][side][role].append(x.transpose(2, 0, 1, 3).reshape(x.shape[2], -1))
    joined = {split: {side: {role: np.concatenate(x) for role, x in roles.items()} for side, roles in sides.items()}
              for split, sides in parts.items()}
    return joined, counts


def export(directory, capture):
    """Writes the peer's capture folder; returns the rows."""
    info = info_of(directory)
    if info["source"]["tokenizer"] != info["target"]["tokenizer"]:
        sys.exit(f"{directory}: two tokenizers; the peer maps token i to token i and refuses such pairs")
    rows, counts = rows_of(directory)
    capture = pathlib.Path(capture)
    capture.mkdir(parents=True, exist_ok=True)
    for split, sides in rows.items():
        for side, roles in sides.items():
            for role, x in roles.items():
                np.save(capture / f"{split}_{side}_{role}.npy", x)

    def geometry(m):
        return {"model_id": m["name"], "family": m["architecture"], "n_layers": m["layers"], "n_kv_heads": m["kv_heads"],
                "head_dim": m["head_dim"], "hidden_size": m["query_heads"] * m["head_dim"],
                "rope_theta": float(m["rope"].get("theta", 10000.0)), "rope_type": "default", "rope_scaling_factor": 1.0,
                "tokenizer_sha256": m["tokenizer"], "torch_dtype": m["dtype"], "latent_attention": "", "rope_key_dim": 0}

    manifest = {"source": geometry(info["source"]), "target": geometry(info["target"]), "seq_len": 0,
                "n_train_tokens": int(rows["train"]["src"]["k"].shape[0]), "n_val_tokens": int(rows["val"]["src"]["k"].shape[0]),
                "n_train_docs": counts["train"], "n_val_docs": counts["val"], "corpus_sha256": info["corpus"]["sha256"],
                "regime_flags": [], "created_at": time.time(), "dtype": "float32"}
    (capture / "capture.manifest.json").write_text(json.dumps(manifest, indent=2))
    return rows


def tensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    types = {"F32": np.float32, "I64": np.int64}
    return {name: np.frombuffer(data[8 + length:][slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def predicted(run, rows):
    """kvlingua's ridge map applied in numpy: [N, 2, Lt Ht Dt]."""
    t = tensors(run / "ridge" / "projector.safetensors")
    x = np.concatenate([rows["src"]["k"], rows["src"]["v"]], 1)
    x = (x - t["source_mean"].ravel()) / t["source_deviation"].ravel()
    head_dim = t["source_mean"].shape[-1]
    blocks = x.reshape(len(x), -1, head_dim)
    y = np.concatenate([blocks[:, select].reshape(len(x), -1) @ w + b
                        for select, w, b in zip(t["select"], t["weight"], t["bias"])], 1)
    return (y * t["target_deviation"].ravel() + t["target_mean"].ravel()).reshape(len(x), 2, -1)


def r2(predicted, y):
    y = y.astype(np.float64)
    total = ((y - y.mean(0)) ** 2).sum(0)
    varies = total > 1e-12
    return float(np.mean(1 - ((predicted - y) ** 2).sum(0)[varies] / total[varies]))


def fit_peer(capture, out, top_k):
    """In a process of its own, so that its peak memory is its own."""
    code = ("import json,resource,sys,time; from pathlib import Path; from aither_kvcache.kvtransfer.fit import fit_pack; t=time.time();"
            f"s=fit_pack(Path({str(capture)!r}), Path({str(out)!r}), top_k={top_k}); s['wall']=time.time()-t;"
            "s['cpu']=time.process_time(); s['peak']=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024; print(json.dumps(s))")
    return json.loads(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main():
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2], sys.argv[3])
        return
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("program")
    p.add_argument("recipe")
    p.add_argument("--out", default="build/peer")
    p.add_argument("--top-k", type=int, default=8)
    p.add_argument("--set", action="append", default=[])
    a = p.parse_args()
    out = pathlib.Path(a.out)
    sets = [word for s in a.set for word in ("--set", s)]
    recipe = subprocess.run([a.program, "recipe", "show", a.recipe, *sets], check=True, stdout=subprocess.PIPE, text=True).stdout
    name = recipe.split("name: ", 1)[1].split("\n", 1)[0]
    rows = export(out / "datasets" / name, out / "capture")
    layers = info_of(out / "datasets" / name)["source"]["layers"]
    top_k = min(a.top_k, layers)
    theirs = fit_peer(out / "capture", out / "pack", top_k)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = json.loads(subprocess.run(
        [a.program, "train", a.recipe, "--stage", "ridge", "--restart", "--out", str(out), "--json", "-", "-q", *sets],
        check=True, stdout=subprocess.PIPE, text=True).stdout)["stages"][0]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    y = predicted(out / "checkpoints" / name, rows["val"])
    print(json.dumps({
        "rows": int(rows["train"]["src"]["k"].shape[0]), "validation_rows": int(rows["val"]["src"]["k"].shape[0]),
        "aither": {"top_k": top_k, "key_r2": theirs["k"]["val_r2_topk"], "value_r2": theirs["v"]["val_r2_topk"],
                   "seconds": theirs["wall"], "cpu_seconds": theirs["cpu"], "peak_bytes": theirs["peak"]},
        "kvlingua": {"key_r2": r2(y[:, 0], rows["val"]["tgt"]["k"]), "value_r2": r2(y[:, 1], rows["val"]["tgt"]["v"]),
                     "seconds": ours["seconds"], "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                     "peak_bytes": ours.get("peak_memory_bytes"), "phases": ours["phases"]}}, indent=2))


if __name__ == "__main__":
    main()
