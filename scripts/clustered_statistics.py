"""Statistics of items in groups, for rescore.py: what eval/statistics/clustered.h says, in scipy.

Every draw is a hash of (seed, resample, place), so the program's own draws are made again here.
"""
import math
import numpy as np
from scipy import stats

U = np.uint64
GOLDEN = U(0x9E3779B97F4A7C15)


def mix(x):
    """splitmix64"""
    x = x + GOLDEN
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


def draws(seed, resamples, places):
    seeds = mix(mix(np.array([seed], U)) ^ np.arange(resamples, dtype=U))
    steps = np.arange(places, dtype=U) * GOLDEN
    for some in np.array_split(seeds, max(1, resamples // 500)):
        yield mix(some[:, None] + steps)


class Sample:
    """x is judged, y what it is held against, f what both are measured from."""

    def __init__(self, items, level, x, y=None, f=None):
        zero = np.zeros(len(items))
        self.x, self.y, self.f = (zero if v is None else np.array(v, float) for v in (x, y, f))
        groups = {}
        self.g = np.array([groups.setdefault(a["unit"], len(groups)) for a in items], int)
        self.n, self.groups, self.level = len(items), len(groups), level
        self.contents = len({a["content"] for a in items})
        self.t = stats.t.ppf(.5 + level / 2, max(1, self.groups - 1))

    def square(self, errors):
        """Their sum's, from groups."""
        return (np.bincount(self.g, errors) ** 2).sum() * self.groups / (self.groups - 1)

    def design_effect(self, values, events):
        """Averaged with what the forms of a content are known to do, which weighs ten events."""
        guess, d, effect = 1 + .65 * (self.n / self.contents - 1), values - values.mean(), 1
        if 1 < self.groups < self.n and d.any():
            effect = self.square(d) / ((d ** 2).sum() * self.n / (self.n - 1))
        return max(1, ((effect if events > 0 else guess) * events + guess * 10) / (events + 10))


def mean_low(s):
    """The mean, and the lower end of Student's interval from groups; nothing of one group."""
    mean = s.x.mean()
    return (mean, mean - s.t * math.sqrt(s.square(s.x - mean)) / s.n) if s.groups > 1 else (mean,)


def rate(s):
    """Wilson's interval; at none and at all the exact one where that is wider."""
    if s.n == 0: return None, 0, 1
    k, p, z = s.x.sum(), s.x.mean(), s.t
    m = s.n / s.design_effect(s.x, min(k, s.n - k))
    middle, half = p + z * z / 2 / m, z * math.sqrt(p * (1 - p) / m + z * z / 4 / m / m)
    low, high = ((middle + end) / (1 + z * z / m) for end in (-half, half))
    exact = (.5 - s.level / 2) ** (1 / m)
    return p, min(low, exact) if k == s.n else low, max(high, 1 - exact) if k == 0 else high


def score_interval(s):
    """Tango 1998 on counts divided by the design effect."""
    d = s.x - s.y
    n, b, c = np.array([s.n, d[d > 0].sum(), -d[d < 0].sum()]) / s.design_effect(d, abs(d).sum())

    def crossing(level, low=-1., high=1.):
        for _ in range(60):
            gap = (low + high) / 2
            linear, constant = (2 * n - b + c) * gap - b - c, -c * gap * (1 - gap)
            q = (math.sqrt(max(0, linear ** 2 - 8 * n * constant)) - linear) / 4 / n
            score = (b - c - n * gap) / math.sqrt(max(1e-300, n * (2 * q + gap * (1 - gap))))
            low, high = (gap, high) if score > level else (low, gap)
        return low

    return crossing(s.t), crossing(-s.t)


def difference(x, y, f, n):
    return (x - y) / n


def share(x, y, f, n):
    with np.errstate(all="ignore"):
        return np.where(y > f, (x - f) / (y - f), np.nan)


def bootstrap(s, value, seed, resamples):
    """BCa over whole groups, its ends expanded for their number (Hesterberg 2015)."""
    sums = np.array([np.bincount(s.g, v, s.groups) for v in (s.x, s.y, s.f, np.ones(s.n))])
    ours = float(value(*sums.sum(1)))
    if s.groups < 2 or np.isnan(ours): return ours, -math.inf, math.inf
    jack = value(*(sums.sum(1, keepdims=True) - sums))
    drawn = ((u >> U(32)) * U(s.groups) >> U(32) for u in draws(seed, resamples, s.groups))
    kept = np.concatenate([value(*sums[:, place.astype(int)].sum(2)) for place in drawn])
    kept, d = np.sort(kept[~np.isnan(kept)]), np.nanmean(jack) - jack[~np.isnan(jack)]
    if 2 * len(kept) < resamples: return ours, -math.inf, math.inf
    a = (d ** 3).sum() / 6 / (d ** 2).sum() ** 1.5 if d.any() else 0
    below = (np.searchsorted(kept, ours) + np.searchsorted(kept, ours, "right")) / 2
    z0, tails = stats.norm.ppf(below / len(kept)), np.array([.5 - s.level / 2, .5 + s.level / 2])
    z = z0 + stats.norm.ppf(tails)
    p = tails if np.isinf(z0) else stats.norm.cdf(z0 + z / (1 - a * z))
    ends = np.quantile(kept, np.clip(p, 0, 1) if kept[0] < kept[-1] else [0, 1])
    wide = math.sqrt(s.groups / (s.groups - 1)) * s.t / stats.norm.ppf(tails[1])
    return ours, *(ours + wide * (ends - ours))


def widest(s, value, seed, resamples):
    """Of both intervals; the gap of a share is taken as known."""
    ours, low, high = bootstrap(s, value, seed, resamples)
    if np.isnan(ours): return ours, low, high
    if value is difference: low, high = max(-1, low), min(1, high)
    whole, gap = (1, (s.y - s.f).mean()) if value is share else (0, 1)
    a, b = score_interval(s)
    return ours, min(low, whole + a / gap), max(high, whole + b / gap)


def score_difference(s):
    return s.x.mean() - s.y.mean(), *score_interval(s)


def over_seeds(samples, value, seed, resamples):
    """Of several training seeds the mean; a share is as wide as they and the items make it."""
    s, by_seed = samples[0], [(one.x - one.f).mean() for one in samples]
    s.x, gap = sum(one.x for one in samples) / len(samples), (s.y - s.f).mean()
    ours, low, high = widest(s, value, seed, resamples)
    if value is difference: return ours, low, high
    if not math.isfinite(high - low): return (ours if gap > 0 else 0), 0, 1  # nothing is known
    half = 0
    if (seeds := len(samples)) > 1:
        error = np.std(by_seed, ddof=1) / gap / math.sqrt(seeds)
        half = stats.t.ppf(.5 + s.level / 2, seeds - 1) * error
    down, up = math.hypot(ours - max(0, low), half), math.hypot(high - ours, half)
    return ours, max(0, ours - down), ours + up


def sign_flips(s, seed):
    """p by flipping the sign of whole groups: all ways, or 9,999 drawn ones."""
    d = np.bincount(s.g, s.x - s.y)
    bound, d = abs(d.sum()) - 1e-9, d[d != 0]
    if len(d) > 12:
        signs = (1. - 2 * (u >> U(63)) for u in draws(seed, 9999, len(d)))
        return (sum((abs(sign @ d) >= bound).sum() for sign in signs) + 1) / 10000
    ways = 1 - 2 * (np.arange(1 << len(d))[:, None] >> np.arange(len(d)) & 1)
    return (abs(ways @ d) >= bound).mean()


def holm(ps):
    order, out = np.argsort(ps, kind="stable"), np.empty(len(ps))
    out[order] = np.minimum(1, np.maximum.accumulate(np.sort(ps) * np.arange(len(ps), 0, -1)))
    return out
