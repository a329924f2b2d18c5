#!/usr/bin/env python3
"""Goldens of eval/statistics: what scipy, statsmodels and scikit-learn say. usage: statistics.py OUT.json"""
import json
import sys

import numpy as np
import scipy
import sklearn
import statsmodels
import statsmodels.api as sm
from scipy import optimize, special, stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from statsmodels.stats import contingency_tables, multitest, power, proportion, weightstats

rng = np.random.default_rng(20260701)
out = {"versions": {"numpy": np.__version__, "scipy": scipy.__version__, "statsmodels": statsmodels.__version__,
                    "sklearn": sklearn.__version__}}


def floats(values):
    return [float(v) for v in np.asarray(values).ravel()]


# ---- rates ----
out["proportions"] = []
for k, n in [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (7, 33), (180, 200), (200, 200), (1, 1000), (4999, 10000)]:
    for confidence in (0.9, 0.95, 0.99):
        w = proportion.proportion_confint(k, n, 1 - confidence, "wilson")
        c = proportion.proportion_confint(k, n, 1 - confidence, "beta")
        c = [0.0 if k == 0 else c[0], 1.0 if k == n else c[1]]
        out["proportions"].append({"k": k, "n": n, "confidence": confidence, "wilson": floats(w), "clopper_pearson": floats(c)})

# ---- McNemar ----
out["mcnemar"] = []
for b, c in [(0, 0), (1, 0), (5, 5), (12, 3), (3, 12), (40, 60), (0, 30), (150, 101)]:
    result = contingency_tables.mcnemar([[10, b], [c, 10]], exact=True)
    out["mcnemar"].append({"b": b, "c": c, "statistic": float(result.statistic), "p": float(result.pvalue)})

# ---- samples ----
pairs = [
    (rng.normal(0, 1, 12), rng.normal(0.5, 2, 17)), (rng.normal(0, 1, 5), rng.normal(1, 1, 6)),
    (rng.integers(0, 5, 30), rng.integers(1, 7, 25)), (rng.exponential(1, 8), rng.exponential(2, 40)),
    (rng.normal(0, 1, 9), rng.normal(0, 1, 9)), (rng.integers(0, 3, 4), rng.integers(0, 3, 6)),
    (rng.normal(0, 1, 3), rng.normal(3, 1, 3)), (rng.normal(0, 1, 60), rng.normal(0.2, 1, 8)),
]
out["two_samples"] = []
for a, b in pairs:
    a, b = np.asarray(a, float), np.asarray(b, float)
    w = stats.ttest_ind(a, b, equal_var=False)
    ci = w.confidence_interval(0.95)
    u = stats.mannwhitneyu(a, b, alternative="two-sided", method="auto")
    df = len(a) + len(b) - 2
    d = (a.mean() - b.mean()) / np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / df)
    j = np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    out["two_samples"].append({"a": floats(a), "b": floats(b),
                               "welch": {"t": float(w.statistic), "df": float(w.df), "p": float(w.pvalue),
                                         "low": float(ci.low), "high": float(ci.high)},
                               "mann_whitney": {"u": float(u.statistic), "p": float(u.pvalue)},
                               "cohens_d": float(d), "hedges_g": float(d * j)})

out["spearman"] = []
for n in (4, 10, 50):
    x = rng.normal(0, 1, n)
    for y in (x + rng.normal(0, 1, n), rng.integers(0, 4, n), -x):
        r = stats.spearmanr(x, y)
        out["spearman"].append({"x": floats(x), "y": floats(y), "rho": float(r.statistic), "p": float(r.pvalue)})

out["holm"] = []
for p in ([0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.9, 0.001, 0.001], list(rng.uniform(0, 0.2, 12))):
    out["holm"].append({"p": floats(p), "adjusted": floats(multitest.multipletests(p, method="holm")[1])})

# ---- equivalence ----
out["tost_means"] = []
for n, shift in [(5, 0.0), (30, 0.05), (30, 0.5), (200, 0.01)]:
    a = rng.normal(0, 1, n)
    b = a + rng.normal(shift, 0.3, n)
    p, low, high = weightstats.ttost_paired(a, b, -0.2, 0.2)
    out["tost_means"].append({"a": floats(a), "b": floats(b), "low": -0.2, "high": 0.2, "p": float(p),
                              "p_low": float(low[1]), "p_high": float(high[1])})


def tango(b, c, n, delta):
    """Score test by numeric maximum likelihood: an independent derivation of the closed form."""
    def negative(q):
        p12, p21 = q + delta, q
        rest = 1 - p12 - p21
        if p12 < 0 or p21 < 0 or rest < 0:
            return np.inf
        return -(special.xlogy(b, p12) + special.xlogy(c, p21) + special.xlogy(n - b - c, rest))
    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-14}).x
    q = min([low, high, q], key=negative)
    variance = n * (2 * q + delta - delta * delta)
    return (b - c - n * delta) / np.sqrt(variance)


out["tango"] = []
for b, c, n in [(0, 0, 200), (3, 1, 50), (10, 4, 200), (1, 12, 100), (20, 20, 200), (0, 7, 60)]:
    for delta in (-0.1, -0.05, 0.05, 0.1):
        out["tango"].append({"b": b, "c": c, "n": n, "delta": delta, "z": float(tango(b, c, n, delta))})
out["tango_interval"] = []
for b, c, n in [(3, 1, 50), (10, 4, 200), (1, 12, 100), (20, 20, 200)]:
    z = stats.norm.ppf(0.975)
    estimate = (b - c) / n
    low = optimize.brentq(lambda d: tango(b, c, n, d) - z, -0.99, estimate - 1e-9, xtol=1e-12)
    high = optimize.brentq(lambda d: tango(b, c, n, d) + z, estimate + 1e-9, 0.99, xtol=1e-12)
    out["tango_interval"].append({"b": b, "c": c, "n": n, "low": low, "high": high})

# ---- bootstrap: scipy's BCa of given replicates ----
out["bca"] = []
for n, name in [(15, "mean"), (40, "mean"), (12, "std")]:
    x = rng.exponential(1, n)
    statistic = {"mean": np.mean, "std": lambda v, axis=-1: np.std(v, axis=axis, ddof=1)}[name]
    result = stats.bootstrap((x,), statistic, n_resamples=400, method="BCa", random_state=rng, vectorized=True, axis=-1)
    jack = [float(statistic(np.delete(x, i))) for i in range(n)]
    ci = result.confidence_interval
    out["bca"].append({"x": floats(x), "statistic": name, "estimate": float(statistic(x)), "jackknife": jack,
                       "replicates": floats(result.bootstrap_distribution), "low": float(ci.low), "high": float(ci.high)})
a, b = pairs[0]


def cohen(a, b, axis=-1):
    na, nb = a.shape[axis], b.shape[axis]
    pooled = ((na - 1) * a.var(axis=axis, ddof=1) + (nb - 1) * b.var(axis=axis, ddof=1)) / (na + nb - 2)
    return (a.mean(axis=axis) - b.mean(axis=axis)) / np.sqrt(pooled)


result = stats.bootstrap((a, b), cohen, n_resamples=400, method="BCa", random_state=rng, vectorized=True, axis=-1)
out["bca_effect"] = {"a": floats(a), "b": floats(b), "replicates": floats(result.bootstrap_distribution),
                     "low": float(result.confidence_interval.low), "high": float(result.confidence_interval.high)}

# ---- regression ----
n = 60
length = rng.integers(5, 900, n).astype(float)
other = rng.normal(0, 1, n)
groups = rng.integers(0, 9, n)
y = 0.01 * length + other + rng.normal(0, 1, n) + rng.normal(0, 1, 9)[groups]
design = sm.add_constant(np.column_stack([length, other]))
plain = sm.OLS(y, design).fit()
clustered = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": groups})
mean = sm.OLS(y, np.ones((n, 1))).fit(cov_type="cluster", cov_kwds={"groups": groups})
line = LinearRegression().fit(length[:, None], y)
out["regression"] = {
    "length": floats(length), "other": floats(other), "groups": [int(g) for g in groups], "y": floats(y),
    "coefficients": floats(plain.params), "standard_errors": floats(plain.bse), "p": floats(plain.pvalues),
    "clustered_errors": floats(clustered.bse), "clustered_p": floats(clustered.pvalues),
    "mean": float(mean.params[0]), "mean_error": float(mean.bse[0]), "mean_interval": floats(mean.conf_int()),
    "residuals_of_length": floats(y - line.predict(length[:, None])),
    "r_squared_of_length": float(r2_score(y, line.predict(length[:, None])))}

# ---- power ----
out["power"] = {
    "paired_t": [{"effect": e, "n": n, "power": float(power.TTestPower().power(e, n, 0.05))}
                 for e, n in [(0.1, 200), (0.2, 200), (0.5, 30), (0.5, 5)]],
    "proportions": [{"first": a, "second": b, "n": n,
                     "power": float(power.NormalIndPower().power(proportion.proportion_effectsize(a, b), n, 0.05))}
                    for a, b, n in [(0.9, 0.95, 200), (0.5, 0.6, 200), (0.9, 0.9, 50)]]}
mc = []
for p12, p21, n in [(0.1, 0.02, 200), (0.05, 0.05, 100), (0.3, 0.1, 40)]:
    total = 0.0
    for m in range(n + 1):
        b = np.arange(m + 1)
        p = stats.binom.cdf(np.minimum(b, m - b), m, 0.5) * 2 if m else np.array([1.0])
        total += stats.binom.pmf(m, n, p12 + p21) * np.sum(stats.binom.pmf(b, m, p12 / (p12 + p21))[np.minimum(p, 1) <= 0.05])
    mc.append({"first": p12, "second": p21, "n": n, "power": float(total)})
out["power"]["mcnemar"] = mc

with open(sys.argv[1], "w", encoding="utf8") as file:
    json.dump(out, file)
