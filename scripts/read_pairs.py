#!/usr/bin/env python3
"""Reads a pair set made by kvlingua generate with h5py and numpy (schema: datasets/README.md).

    for sample in read_pairs("datasets/nano"):
        sample["source"]["keys"]     # float32 [layers, kv_heads, rows, head_dim], rotation removed

As a program: read_pairs.py DIR [N] checks the hashes and prints the first N samples.
"""
import hashlib
import json
import pathlib
import sys

import h5py
import numpy as np


def shards(directory):
    """The shards the manifest lists, in order, their sha256 checked before HDF5 opens them."""
    directory = pathlib.Path(directory)
    manifest = json.loads((directory / "manifest.json").read_text())
    for entry in sorted(manifest["entries"], key=lambda e: e["attributes"]["index"]):
        path = directory / entry["path"]
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise ValueError(f"{path}: contents have changed")
        yield path


def numbers(group, name, begin, end):
    """Rows of keys or values as float32: bfloat16 is stored as uint16 bits, int8 with one scale per (row, layer, head)."""
    x = group[name][begin:end]
    if x.dtype == np.uint16:
        x = (x.astype(np.uint32) << 16).view(np.float32)
    elif x.dtype == np.int8:
        x = x.astype(np.float32) * group[name[:-1] + "_scales"][begin:end][..., None]
    return np.ascontiguousarray(x.astype(np.float32).transpose(1, 2, 0, 3))


def read_pairs(directory):
    for path in shards(directory):
        with h5py.File(path, "r") as f:
            text, text_at = f["samples/text"][:].tobytes(), f["samples/text_offsets"][:]
            for i, number in enumerate(f["samples/id"][:]):
                sample = {"id": int(number), "validation": bool(f["samples/use"][i]), "text": text[text_at[i]:text_at[i + 1]].decode()}
                for side in ("source", "target"):
                    g = f[side]
                    t0, t1 = g["token_offsets"][i:i + 2]
                    r0, r1 = g["row_offsets"][i:i + 2]
                    sample[side] = {"ids": g["ids"][t0:t1], "row_token": g["row_token"][r0:r1], "positions": g["row_position"][r0:r1],
                                    "keys": numbers(g, "keys", r0, r1), "values": numbers(g, "values", r0, r1)}
                    if side == "target":  # source token of each target token; source row of each stored target row
                        sample["alignment"], sample["source_row"] = g["alignment"][t0:t1], g["source_row"][r0:r1]
                yield sample


if __name__ == "__main__":
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    for number, s in enumerate(read_pairs(sys.argv[1])):
        if number < limit:
            print(s["id"], repr(s["text"][:60]), *(f"{side} {s[side]['keys'].shape}" for side in ("source", "target")))
    print(number + 1, "samples")
