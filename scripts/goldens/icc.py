"""ICC(2,1) with McGraw and Wong's (1996) F interval, case A,1 of their table 7. usage: icc.py OUT.json  (numpy 2.4, scipy 1.17)

Mean squares from an explicit two-way analysis of variance (sums over cells of effects, not of raw squares), the interval from
their formulas with v by Satterthwaite. The first table is Shrout and Fleiss's (1979): ICC(2,1) = .29, interval .02 to .76."""
import json
import sys

import numpy as np
import scipy
from scipy.stats import f

SHROUT = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def icc(table, alpha):
    x = np.asarray(table, float)
    n, k = x.shape
    grand, rows, columns = x.mean(), x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    msr = (np.broadcast_to(rows - grand, x.shape) ** 2).sum() / (n - 1)
    msc = (np.broadcast_to(columns - grand, x.shape) ** 2).sum() / (k - 1)
    mse = ((x - rows - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    rho = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    a, b = k * rho / (n * (1 - rho)), 1 + k * rho * (n - 1) / (n * (1 - rho))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    upper, lower = f.ppf(1 - alpha / 2, n - 1, v), f.ppf(1 - alpha / 2, v, n - 1)
    low = n * (msr - upper * mse) / (upper * (k * msc + (k * n - k - n) * mse) + n * msr)
    high = n * (lower * msr - mse) / (k * msc + (k * n - k - n) * mse + n * lower * msr)
    return rho, low, high


random = np.random.default_rng(11)
tables = [SHROUT]
for n, k, signal, raters in ((6, 25, 2.0, 1.0), (6, 25, 0.3, 3.0), (3, 4, 0.0, 0.5), (12, 8, 5.0, 0.1), (2, 6, 1.0, 1.0)):
    tables.append((signal * random.normal(size=(n, 1)) + raters * random.normal(size=(1, k)) + random.normal(size=(n, k))).tolist())
out = []
for table in tables:
    for confidence in (0.95, 0.9):
        estimate, low, high = icc(table, 1 - confidence)
        out.append({"table": table, "confidence": confidence, "estimate": estimate, "low": low, "high": high})
json.dump({"numpy": np.__version__, "scipy": scipy.__version__, "intervals": out}, open(sys.argv[1], "w"))
