#!/usr/bin/env python3
"""Golden data for the ridge projector: numpy's own solution of the same problem, in float64.

usage: scripts/goldens/ridge.py            writes tests/golden/data/ridge/*.safetensors

Rows of a source cache [N, Ls, Hs, Ds] and a target cache [N, Lt, Ht, Dt]; channels differ in scale and mean, as real keys
do. The expected predictions on fresh rows come from numpy.linalg.solve on standardised channels:
    W = (Xs^T Xs / N + lambda * I)^-1 Xs^T Ys / N,   y = mean_y + dev_y * (Xs W)
"""
import pathlib

import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/data/ridge"
N, FRESH = 400, 40
LS, HS, DS = 3, 2, 4
LT, HT, DT = 2, 2, 6
LAMBDA = 1e-3


def rows(rng, n, layers, heads, dim, scale, mean):
    return (rng.standard_normal((n, layers, heads, dim)) * scale + mean).astype(np.float32)


def solve(x, y, fresh):
    """x [N, F], y [N, G], float64"""
    mx, my = x.mean(0), y.mean(0)
    sx, sy = x.std(0), y.std(0)
    xs, ys = (x - mx) / sx, (y - my) / sy
    c = xs.T @ xs / len(xs)
    lam = LAMBDA * np.trace(c) / len(c)
    w = np.linalg.solve(c + lam * np.eye(len(c)), xs.T @ ys / len(xs))
    return (fresh - mx) / sx @ w * sy + my


def main():
    rng = np.random.default_rng(20)
    scale_s = {p: np.exp(rng.normal(0, 1.5, (LS, HS, DS))) for p in "kv"}
    mean_s = {p: rng.normal(0, 5, (LS, HS, DS)) for p in "kv"}
    scale_t = {p: np.exp(rng.normal(0, 1.5, (LT, HT, DT))) for p in "kv"}
    mix = {p: rng.normal(0, 1 / np.sqrt(LS * HS * DS), (LS * HS * DS, LT * HT * DT)) for p in "kv"}

    data = {}
    for part, name in (("k", "keys"), ("v", "values")):
        for split, n in (("fit", N), ("fresh", FRESH)):
            x = rows(rng, n, LS, HS, DS, scale_s[part], mean_s[part])
            z = ((x - mean_s[part]) / scale_s[part]).reshape(n, -1)
            y = (z @ mix[part] + 0.3 * rng.standard_normal((n, LT * HT * DT))).reshape(n, LT, HT, DT)
            y = (y * scale_t[part] + 2.0).astype(np.float32)
            data[f"{split}.source.{name}"], data[f"{split}.target.{name}"] = x, y

    flat = {k: v.reshape(len(v), -1).astype(np.float64) for k, v in data.items()}
    for name in ("keys", "values"):
        data[f"same.{name}"] = solve(flat[f"fit.source.{name}"], flat[f"fit.target.{name}"], flat[f"fresh.source.{name}"])
    both = {s: np.concatenate([flat[f"{s}.source.keys"], flat[f"{s}.source.values"]], 1) for s in ("fit", "fresh")}
    for name in ("keys", "values"):
        data[f"both.{name}"] = solve(both["fit"], flat[f"fit.target.{name}"], both["fresh"])
    # head_matched, all layers: target head h reads source head h of every layer.
    for name in ("keys", "values"):
        out = np.zeros((FRESH, LT, HT, DT))
        for h in range(HT):
            x, f = (data[f"{s}.source.{name}"][:, :, h].reshape(-1, LS * DS).astype(np.float64) for s in ("fit", "fresh"))
            for t in range(LT):
                out[:, t, h] = solve(x, data[f"fit.target.{name}"][:, t, h].astype(np.float64), f)
        data[f"head_matched.{name}"] = out.reshape(FRESH, -1)
    save_file(data, OUT / "ridge.safetensors", metadata={"numpy": np.__version__, "lambda": str(LAMBDA), "script": "scripts/goldens/ridge.py"})


main()
