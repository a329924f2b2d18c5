#!/usr/bin/env python3
"""rescore.py FOLDER: scores the stored answers of an evaluation again and compares every rate, interval and verdict.

Reads probes.jsonl (what was asked), generations.jsonl (what was answered) and report.json of FOLDER; shares no code with the
program, needs numpy and scipy. The bootstrap's draws are a hash of (seed, resample, place), so they can be made again.
Prints how many numbers agree; exit 1 when one does not. Withholding findings other than those on controls are taken as given.
"""
import json, math, pathlib, re, sys
import numpy as np
from scipy import stats

FOLDER = pathlib.Path(sys.argv[1])
lines = lambda name: [json.loads(line) for line in (FOLDER / name).read_text().splitlines()] if (FOLDER / name).exists() else []
R = json.loads((FOLDER / "report.json").read_text())
PROBES = {p["item"]: p for p in lines("probes.jsonl")}
J = R["judging"] or {"confidence": .95, "resamples": 20000, "seed": R["seeds"][0], "controls": [], "replicas": [], "fuses": False}
LEVEL, SEED, U = J["confidence"], J["seed"], np.uint64
GOLDEN, bad, good = U(0x9E3779B97F4A7C15), [], 0

def near(where, ours, theirs):
    global good
    same = ours == theirs if isinstance(ours, (str, bool)) or theirs is None or ours is None else abs(ours - theirs) <= 1e-7 * max(1, abs(ours))
    good += bool(same)
    if not same: bad.append(f"{where}: {ours} here, {theirs} in the report")

# ---- scoring ----
def normal(text):
    text = re.sub("[₀-₉]", lambda m: chr(ord("0") + ord(m.group()) - 0x2080), text).replace("‘", "'").replace("’", "'")
    return re.sub("[ \t-\r]+", " ", text.translate({c: c + 32 for c in range(65, 91)})).strip(" ")
def occurs(text, marker):
    hay, needle = normal(text), normal(marker)
    word = lambda c: bool(re.match("[a-zA-Z0-9]", c))
    return bool(needle) and any(not (m.start() and word(hay[m.start() - 1]) and word(needle[0])) and not (
        m.start() + len(needle) < len(hay) and word(hay[m.start() + len(needle)]) and word(needle[-1]))
        for m in re.finditer(f"(?={re.escape(needle)})", hay))
def words(text): return re.findall("[a-z0-9\u0080-\U0010ffff]+", normal(text))
def repeats(w):
    for period in range(1, len(w) // 3 + 1) if len(w) >= 8 else ():
        run = next((k for k in range(len(w) - period) if w[-1 - k] != w[-1 - k - period]), len(w) - period) + period
        if run >= max(3 * period, 8) and 2 * run >= len(w): return True
    return False
def stalled(a, prompt):
    w, p = words(a["text"]), words(prompt)
    echo = len(w) >= 3 and len(p) >= 3 and (w[:len(p)] == p if len(w) >= len(p) else any(p[i:i + len(w)] == w for i in range(len(p))))
    return not a["ids"] or not w or echo or repeats(w)
def scored(a):
    p = PROBES[a["item"]]
    exact, known = all(occurs(a["text"], m) for m in p["markers"]), any(occurs(a["text"], k) for k in p["parametric"])
    kind = ("both" if known else "injected") if exact else "parametric" if known else "other"
    return dict(a, **{k: p[k] for k in ("family", "form", "group", "scored")}, exact=exact, stalled=stalled(a, p["prompt"]), kind=kind,
                unit=f"{p['family']}/{p['group']}", content=f"{p['family']}/{p['group']}/{p['scored']}")
ANSWERS = {}
for line in lines("generations.jsonl") + lines("source_alone.jsonl"):
    if "item" in line: ANSWERS.setdefault(line["condition"], {})[line["item"]] = scored(line)
def of(condition, family=None, form=None):
    return [a for _, a in sorted(ANSWERS.get(condition, {}).items(), key=lambda kv: kv[0].encode())
            if family in (None, a["family"]) and form in (None, a["form"])]
def once(answers, *keys): return list({tuple(a[k] for k in keys): a for a in reversed(answers)}.values())[::-1]
def find(condition, a): return ANSWERS.get(condition, {}).get(a["item"])
def labels(names):
    known = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([known[name] for name in names])

# ---- statistics ----
def mix(x):
    x = x + GOLDEN
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))
def base(B): return mix(mix(np.array([SEED], U)) ^ np.arange(B, dtype=U))
def t_of(groups): return stats.t.ppf(.5 + LEVEL / 2, max(1, groups - 1))
def effect(values, g):
    n, G = len(values), g.max() + 1
    if n < 2 or G < 2 or G == n: return 1.
    d = values - values.mean()
    return (np.bincount(g, d) ** 2).sum() * G / (G - 1) / ((d ** 2).sum() * n / (n - 1)) if (d ** 2).sum() > 0 else 1.
def designed(values, g, c, events):
    guess = 1 + .65 * (len(values) / (c.max() + 1) - 1)
    return max(1., ((effect(values, g) if events > 0 else guess) * events + guess * 10) / (events + 10))
def rate(x, g, c):
    x = np.array(x, float); n, k = len(x), sum(x); m = n / designed(x, g, c, min(k, n - k)); z, p = t_of(g.max() + 1), k / n
    mid, half = (p + z * z / 2 / m) / (1 + z * z / m), z * math.sqrt(p * (1 - p) / m + z * z / 4 / m / m) / (1 + z * z / m)
    never = 1 - ((1 - LEVEL) / 2) ** (1 / m)
    return (0 if k == 0 else min(max(0, mid - half), 1 - never if k == n else 1)), (1 if k == n else max(min(1, mid + half), never if k == 0 else 0))
def tango(n, b, c, z):
    def score(d):
        B, C = -b - c + (2 * n - b + c) * d, -c * d * (1 - d)
        q = (math.sqrt(max(0, B * B - 8 * n * C)) - B) / 4 / n
        v, far = n * (2 * q + d * (1 - d)), b - c - n * d
        return far / math.sqrt(v) if v > 0 else math.copysign(1e300, far) if far else 0
    def cross(level):
        low, high = -1., 1.
        for _ in range(60): low, high = ((low + high) / 2, high) if score((low + high) / 2) > level else (low, (low + high) / 2)
        return (low + high) / 2
    return min((b - c) / n, cross(z)), max((b - c) / n, cross(-z))
def score_interval(x, y, g, c):
    d = x - y; up, down = d[d > 0].sum(), -d[d < 0].sum(); by = designed(d, g, c, up + down)
    return tango(len(d) / by, up / by, down / by, t_of(g.max() + 1))
def bca(x, y, f, g, share, B):
    S = np.array([np.bincount(g, v) for v in (x, y, f, np.ones(len(x)))]); G, T = S.shape[1], S.sum(1, keepdims=True)
    def value(T):
        with np.errstate(all="ignore"): return np.where(T[1] - T[2] > 0, (T[0] - T[2]) / (T[1] - T[2]), np.nan) if share else (T[0] - T[1]) / T[3]
    e = value(T)[0]
    if G < 2 or np.isnan(e): return e, -math.inf, math.inf
    jack, place = value(T - S), np.arange(G, dtype=U) * GOLDEN
    jack = jack[~np.isnan(jack)]
    reps = np.concatenate([value(S[:, ((mix(b[:, None] + place) >> U(32)) * U(G) >> U(32)).astype(int)].sum(2)) for b in np.array_split(base(B), max(1, B // 500))])
    kept = np.sort(reps[~np.isnan(reps)])
    if 2 * len(kept) < B: return e, -math.inf, math.inf
    z0 = stats.norm.ppf((np.searchsorted(kept, e) + np.searchsorted(kept, e, "right")) / 2 / len(kept)); d = jack.mean() - jack
    a = (d ** 3).sum() / 6 / (d ** 2).sum() ** 1.5 if (d ** 2).sum() > 0 else 0
    level = lambda p: p if np.isinf(z0) else stats.norm.cdf(z0 + (z0 + stats.norm.ppf(p)) / (1 - a * (z0 + stats.norm.ppf(p))))
    wide = math.sqrt(G / (G - 1)) * t_of(G) / stats.norm.ppf(.5 + LEVEL / 2); q = lambda p: np.quantile(kept, min(1, max(0, p)))
    low, high = level((1 - LEVEL) / 2), level((1 + LEVEL) / 2)
    if kept[0] == kept[-1]: low, high = 0, 1
    return e, e - wide * (e - q(low)), e + wide * (q(high) - e)
def widest(x, y, f, g, c, share):
    e, low, high = bca(x, y, f, g, share, J["resamples"])
    gap = (y - f).mean() if share else 1
    if not share: low, high = max(-1, low), min(1, high)
    if np.isnan(e): return e, low, high
    a, b = score_interval(x, y, g, c)
    return e, min(low, (share + a / gap)), max(high, (share + b / gap))
def flips(x, y, g):
    d = np.bincount(g, x - y); bound = abs(d.sum()) - 1e-9; d = d[d != 0]; k = len(d)
    if k <= 12: return float(np.mean([abs(sum(-v if way >> i & 1 else v for i, v in enumerate(d))) >= bound for way in range(1 << k)]))
    minus = (mix(base(9999)[:, None] + np.arange(k, dtype=U) * GOLDEN) >> U(63)).astype(float)
    return (int((abs((1 - 2 * minus) @ d) >= bound).sum()) + 1) / 10000
def holm(ps):
    order, top, out = np.argsort(ps, kind="stable"), 0, [0.] * len(ps)
    for rank, i in enumerate(order): top = out[i] = min(1, max(top, ps[i] * (len(ps) - rank)))
    return out
def columns(items, *rules): return [np.array([float(rule(a)) for a in items]) for rule in rules]
def units(items): return labels([a["unit"] for a in items]), labels([a["content"] for a in items])
exact = lambda a: a["exact"]

# ---- the report again ----
def cell(where, theirs, answers):
    if not answers: return
    items, inputs = once(answers, "read", "text", "scored"), once(answers, "read", "text")
    known = [a for a in items if not a["family"].startswith("counterfact") or (find("baseline", a) or {}).get("kind") == "parametric"]
    for name, among, rule in [("success", items, exact), ("stalled", inputs, lambda a: a["stalled"])] + [
            (kind, known, lambda a, kind=kind: a["kind"] == kind) for kind in ("injected", "parametric", "both", "other")]:
        x = columns(among, rule)[0]
        low, high = rate(x, *units(among)) if len(x) else (0, 1)
        for key, ours in (("rate", x.mean() if len(x) else None), ("low", low), ("high", high)): near(f"{where}.{name}.{key}", ours, theirs[name][key])
    for name, field in (("nll", "nll_answer"), ("kl", "kl")):
        have = [a for a in items if a.get(field) is not None]
        if len(have) < 2 or theirs[name] is None: continue
        x, g = columns(have, lambda a: a[field])[0], units(have)[0]; G = g.max() + 1
        near(f"{where}.{name}", x.mean(), theirs[name]["mean"])
        if G > 1: near(f"{where}.{name}.low", x.mean() - t_of(G) * math.sqrt((np.bincount(g, x - x.mean()) ** 2).sum() * G / (G - 1)) / len(x), theirs[name]["low"])
ps = {}
for condition, families in ((c, v["families"]) for c, v in R["conditions"].items()):
    for family, theirs in families.items():
        where = f"{condition}.{family}"
        cell(where, theirs, of(condition, family))
        for form, part in theirs.get("forms", {}).items(): cell(f"{where}.{form}", part, of(condition, family, form))
        for other in ("baseline", "full_text"):
            pairs = [a for a in once(of(condition, family), "read", "text", "scored") if find(other, a)]
            if theirs[f"vs_{other}"] is None or not pairs: continue
            x, y = columns(pairs, exact, lambda a: find(other, a)["exact"]); g, c = units(pairs)
            for key, ours in zip(("difference", "low", "high", "p"), (x.mean() - y.mean(), *score_interval(x, y, g, c), flips(x, y, g))):
                near(f"{where}.vs_{other}.{key}", ours, theirs[f"vs_{other}"][key])
            ps.setdefault((family, other), []).append((where, flips(x, y, g), theirs[f"vs_{other}"]["p_holm"]))
for (family, other), rows in ps.items():
    for (where, _, theirs), ours in zip(rows, holm([p for _, p, _ in rows])): near(f"{where}.vs_{other}.p_holm", ours, theirs)

withheld = [f["name"] for f in R["findings"] if f["withholds"]]
for name, theirs in R["criteria"].items():
    gate, gated = theirs["threshold"], J["gated"]
    if theirs["verdict"] == "not_applicable": continue
    families = None if name in ("stalling", "fused_gain") else theirs["families"]
    items = [dict(a, full=find("full_text", a)) for a in of(gated) if find("full_text", a) and a["family"] != "cases" and (families is None or a["family"] in families)]
    items = list({(a["full"]["read"], a["read"], a["text"], a["scored"]): a for a in reversed(items)}.values())[::-1]
    if name == "parametric_knowledge": items = [a for a in items if (find("baseline", a) or {}).get("kind") == "parametric"]
    near(f"{name}.n", len(items), theirs["n"])
    if not items: continue
    rule = {"stalling": lambda a: a["stalled"], "parametric_knowledge": lambda a: a["kind"] == "injected"}.get(name, exact)
    x, y, f = columns(items, rule, lambda a: rule(a["full"]), lambda a: rule(find("baseline", a) or {"stalled": 0, "kind": "", "exact": 0}))
    g, c = units(items); seeds, share = [x], name not in ("stalling", "fused_gain")
    if share:
        for control, one in theirs["controls"].items():
            for key, ours in zip(("statistic", "low", "high"), widest(columns(items, lambda a: rule(find(control, a)))[0], y, f, g, c, 1)): near(f"{name}.{control}.{key}", ours, one[key])
            near(f"{name}.{control}.below", bool(one["high"] < gate), one["below"])
    if name != "fused_gain": seeds += [columns(items, lambda a: rule(find(other, a)))[0] for other in J["replicas"]]
    x = sum(seeds) / len(seeds); low, high = (e := widest(x, y, f if share else 0 * y, g, c, int(share)))[1:]
    if share and (y - f).mean() > 0:
        by = [(s - f).mean() / (y - f).mean() for s in seeds]
        half = stats.t.ppf(.5 + LEVEL / 2, len(by) - 1) * np.std(by, ddof=1) / math.sqrt(len(by)) if len(by) > 1 else 0
        low, high = max(0, e[0] - math.hypot(e[0] - max(0, low), half)), e[0] + math.hypot(high - e[0], half)
    for key, ours in (("statistic", e[0]), ("low", low), ("high", high)): near(f"{name}.{key}", ours, theirs[key])
    met, missed = (high < gate, low > gate) if name == "stalling" else (low > gate, high <= gate) if name == "fused_gain" else (low >= gate, high < gate)
    unable = theirs["within_monte_carlo"] or (share and widest(y, f, 0 * f, g, c, 0)[1] <= 0)
    near(f"{name}.verdict", "inconclusive" if withheld or unable else "pass" if met else "fail" if missed else "inconclusive", theirs["verdict"])
for family, steps in ((R["ladder"] or {}).get("families", {})).items():
    for step in steps:
        pairs = [a for a in once(of(step["upper"], family), "read", "text", "scored") if find(step["lower"], a)]
        x, y = columns(pairs, exact, lambda a: find(step["lower"], a)["exact"]); g, c = units(pairs)
        for key, ours in zip(("difference", "low", "high", "p"), (*widest(x, y, 0 * y, g, c, 0), flips(x, y, g))): near(f"ladder.{family}.{step['upper']}.{key}", ours, step[key])
print(f"{good} of {good + len(bad)} numbers agree")
print("\n".join(bad[:20]))
sys.exit(bool(bad))
