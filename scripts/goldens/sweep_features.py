#!/usr/bin/env python3
"""Goldens of eval/geometry and of the statistics beside it. usage: sweep_features.py TESTS/GOLDEN/DATA

Features: numpy's singular values of the keys and values that transformers cached for the tiny models of model.py
(expected.safetensors), by the formulas of eval/geometry/cache_geometry.h. Statistics: scipy and scikit-learn.
"""
import json
import pathlib
import struct
import sys

import numpy as np
import scipy
import sklearn
from scipy import stats
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

ROOT = pathlib.Path(sys.argv[1])


def read(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "I64": np.int64}
    return {k: np.frombuffer(raw[8 + n:][slice(*v["data_offsets"])], types[v["dtype"]]).reshape(v["shape"])
            for k, v in header.items() if v["dtype"] in types}


def side(layers):  # [L, H, T, D]
    out = {"norm": [], "mean": [], "deviation": [], "rank": [], "entropy": []}
    for layer in layers:
        x = layer.reshape(-1, layer.shape[-1]).astype(np.float64)
        s = np.linalg.svd(x, compute_uv=False)
        p = s**2 / (s**2).sum()
        out["norm"].append(float(np.linalg.norm(x)))
        out["mean"].append(float(x.mean()))
        out["deviation"].append(float(x.std(ddof=1)))
        out["rank"].append(int((np.cumsum(p) < 0.9).sum()) + 1)
        q = p[p > 0]
        out["entropy"].append(float(-(q * np.log2(q)).sum() / np.log2(len(s))))
    return out


features = {}
for name in ("qwen2_tied", "qwen3_head_dim", "llama_llama3"):
    data = read(ROOT / "model" / name / "expected.safetensors")
    features[name] = {"tokens": data["tokens"].tolist(), "keys": side(data["keys"]), "values": side(data["values"])}

rng = np.random.default_rng(20260801)
shapiro = []
for n in (3, 4, 5, 6, 7, 11, 12, 15, 30, 75, 200):
    for x in (rng.normal(0, 1, n), rng.exponential(1, n), rng.uniform(100, 101, n)):
        r = stats.shapiro(x)
        shapiro.append({"values": x.tolist(), "w": float(r.statistic), "p": float(r.pvalue)})

agreement = []
for n, k, noise in ((6, 25, 1.0), (6, 25, 0.1), (4, 5, 2.0)):
    table = rng.normal(0, 1, (n, 1)) + noise * rng.normal(0, 1, (n, k))
    if k == 5:
        table = np.round(table)  # ties
    grand = table.mean()
    msr = k * ((table.mean(1) - grand)**2).sum() / (n - 1)
    msc = n * ((table.mean(0) - grand)**2).sum() / (k - 1)
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + grand
    mse = (rest**2).sum() / ((n - 1) * (k - 1))
    # Friedman's statistic of scipy is k (n - 1) W, ties corrected.
    friedman = stats.friedmanchisquare(*table)
    between, within = table.mean(1).var(), table.var(1).mean()
    agreement.append({"table": table.tolist(), "icc": float((msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)),
                      "w": float(friedman.statistic / (k * (n - 1))), "w_p": float(friedman.pvalue),
                      "ratio_icc": float((between - within) / (between + (k - 1) * within))})

# One wording left out: what RidgeClassifier predicts after StandardScaler.
y = np.repeat(np.arange(4), 15)
wording = np.tile(np.repeat(np.arange(3), 5), 4)
x = rng.normal(0, 1, (60, 12)) + 0.9 * rng.normal(0, 1, (4, 12))[y] + 0.7 * rng.normal(0, 1, (12, 12))[y * 3 + wording]
ridge = {"x": x.tolist(), "y": y.tolist(), "wording": wording.tolist(), "predicted": {}}
for alpha in (1, 30, 1000):
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))
    ridge["predicted"][str(alpha)] = cross_val_predict(model, x, y, groups=wording, cv=LeaveOneGroupOut()).tolist()

# Rank correlations: the exact p over all pairings, and the partial one as a correlation of residuals of ranks.
spearman = []
for n in (3, 5, 6, 8):
    for a, b in ((rng.normal(0, 1, n), rng.normal(0, 1, n)), (np.arange(n), np.arange(n) + rng.normal(0, 1, n)),
                 (rng.integers(0, 3, n).astype(float), rng.normal(0, 1, n))):
        if len(set(a)) == 1:
            continue
        p = stats.permutation_test((b, ), lambda v: stats.spearmanr(a, v).statistic, permutation_type="pairings", n_resamples=np.inf)
        spearman.append({"x": a.tolist(), "y": b.tolist(), "rho": float(stats.spearmanr(a, b).statistic), "p": float(p.pvalue)})
partial = []
for n in (10, 40):
    z = rng.normal(0, 1, n)
    a, b = z + rng.normal(0, 1, n), 2 * z + rng.normal(0, 1, n)
    ra, rb, rz = (stats.rankdata(v) for v in (a, b, z))
    left = [v - np.polyval(np.polyfit(rz, v, 1), rz) for v in (ra, rb)]
    partial.append({"x": a.tolist(), "y": b.tolist(), "z": z.tolist(), "rho": float(stats.pearsonr(*left).statistic)})

# Classifiers: predictions of scikit-learn over given folds of three of its data sets.
classifiers = []
for name, load, columns in (("iris", datasets.load_iris, 4), ("wine", datasets.load_wine, 13),
                            ("breast_cancer", datasets.load_breast_cancer, 10)):
    x, y = load(return_X_y=True)
    x = x[:, :columns]
    fold = np.zeros(len(y), int)
    for number, (_, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)):
        fold[test] = number
    models = {"random_forest": RandomForestClassifier(200, random_state=0),
              "linear_svm": make_pipeline(StandardScaler(), LinearSVC(dual=False)),
              "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
              "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")}
    predicted = {k: cross_val_predict(m, x, y, groups=fold, cv=LeaveOneGroupOut()).tolist() for k, m in models.items()}
    scaled = StandardScaler().fit_transform(x)
    pca = PCA().fit(scaled)
    classifiers.append({"name": name, "x": x.tolist(), "y": y.tolist(), "fold": fold.tolist(), "predicted": predicted,
                        "explained": pca.explained_variance_ratio_.tolist(),
                        "first_scores": np.abs(pca.transform(scaled)[:20, :3]).tolist()})

out = ROOT / "sweep"
out.mkdir(exist_ok=True)
(out / "sweep.json").write_text(json.dumps({
    "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__},
    "features": features, "shapiro": shapiro, "agreement": agreement, "ridge": ridge, "spearman": spearman, "partial": partial,
    "classifiers": classifiers}) + "\n")
