#!/usr/bin/env python3
"""rescore.py FOLDER: scores an evaluation's stored answers again and makes its numbers anew.

Reads probes.jsonl (what was asked), generations.jsonl (what was answered) and report.json of
FOLDER; shares no code with the program, needs numpy and scipy. Prints how many rates, intervals and
verdicts agree, exit 1 when one does not or when the report leaves out a condition, family,
criterion or control that was answered. Gates and findings that withhold a verdict are taken as given.
"""
import json, pathlib, re, sys
import clustered_statistics as clustered

FOLDER = pathlib.Path(sys.argv[1])
REPORT = json.loads((FOLDER / "report.json").read_text())
JUDGING = REPORT["judging"] or {"confidence": .95, "seed": REPORT["seeds"][0], "resamples": 20000}
LEVEL, SEED = JUDGING["confidence"], JUDGING["seed"]
agreed, wrong = [], []

def compare(where, theirs, keys, ours):
    for key, one in zip(keys, ours):
        other, one = theirs[key], None if one in (float("inf"), -float("inf")) else one
        exact = isinstance(one, (str, bool)) or None in (one, other)
        same = one == other if exact else abs(one - other) <= 1e-7 * max(1, abs(one))
        (agreed if same else wrong).append(f"{where}.{key}: {one} here, {other} in the report")

# ---- scoring ----
PLAIN = {c: c + 32 for c in range(65, 91)} | {0x2080 + i: 48 + i for i in range(10)} | {
    0x2018: 39, 0x2019: 39}  # lower case, digits below the line, curly apostrophes
def normal(text): return re.sub("[ \t-\r]+", " ", text.translate(PLAIN)).strip(" ")
def words(text): return re.findall("[a-z0-9\u0080-\U0010ffff]+", normal(text))
def occurs(marker, text):  # not as a part of a longer word
    marker, letter = normal(marker), "[a-z0-9]"
    before = f"(?<!{letter})" if re.match(letter, marker) else ""
    after = f"(?!{letter})" if re.match(letter, marker[-1:]) else ""
    return bool(marker and re.search(before + re.escape(marker) + after, normal(text)))
def repeats(w):  # ends in one phrase three times over, which is half of it
    for period in range(1, len(w) // 3 + 1):
        same = [a == b for a, b in zip(w[::-1], w[-1 - period::-1])] + [False]
        if same.index(False) + period >= max(3 * period, 8, len(w) / 2): return True
    return False
def stalled(answer, prompt):
    w, p = words(answer["text"]), words(prompt)
    echo = w[:len(p)] == p or any(p[i:i + len(w)] == w for i in range(len(p)))
    return not answer["ids"] or not w or (echo and min(len(w), len(p)) >= 3) or repeats(w)
def scored(a, probe):
    exact = all(occurs(marker, a["text"]) for marker in probe["markers"])
    known = any(occurs(marker, a["text"]) for marker in probe["parametric"])
    kind = ("injected", "both")[known] if exact else ("other", "parametric")[known]
    unit = probe["family"] + "/" + probe["group"]
    return {**a, **{key: probe[key] for key in ("family", "form", "scored")}, "kind": kind,
            "exact": exact, "stalled": stalled(a, probe["prompt"]), "unit": unit,
            "content": unit + "/" + probe["scored"]}

def lines(*names):
    texts = [(FOLDER / name).read_text() for name in names if (FOLDER / name).exists()]
    read = [json.loads(line) for text in texts for line in text.split("\n") if line]
    return sorted((one for one in read if "item" in one), key=lambda one: one["item"].encode())

PROBES, ANSWERS = {probe["item"]: probe for probe in lines("probes.jsonl")}, {}
for line in lines("generations.jsonl", "source_alone.jsonl"):
    ANSWERS.setdefault(line["condition"], {})[line["item"]] = scored(line, PROBES[line["item"]])

def find(condition, a): return ANSWERS.get(condition, {}).get(a["item"])
def known_by_heart(a): return (find("baseline", a) or {}).get("kind") == "parametric"
def is_exact(a): return a["exact"]
def read_and_said(a): return a["read"], a["text"], a["scored"]
def distinct(answers, key=read_and_said):  # the first of each
    return list({key(a): a for a in reversed(answers)}.values())[::-1]
def sample(items, rule, *conditions):  # what they gave for these items: judged, held against, floor
    given = ([bool(found := find(name, a)) and rule(found) for a in items] for name in conditions)
    return clustered.Sample(items, LEVEL, *given)
def widest(s, value): return clustered.widest(s, value, SEED, JUDGING["resamples"])

# ---- the report again ----
def compare_cell(where, condition, theirs, answers):
    items, inputs = distinct(answers), distinct(answers, lambda a: (a["read"], a["text"]))
    known = [a for a in items if not a["family"].startswith("counterfact") or known_by_heart(a)]
    rows = [("success", items, is_exact), ("stalled", inputs, lambda a: a["stalled"])] + [
        (kind, known, lambda a, kind=kind: a["kind"] == kind)
        for kind in ("injected", "parametric", "both", "other")]
    for name, among, rule in rows if answers else ():
        numbers = clustered.rate(sample(among, rule, condition))
        compare(f"{where}.{name}", theirs[name], ("rate", "low", "high"), numbers)
    for name, field in (("nll", "nll_answer"), ("kl", "kl")):
        have = [a for a in items if a.get(field) is not None]
        if len(have) < 2 or theirs[name] is None: continue
        mean_low = clustered.mean_low(sample(have, lambda a: a[field], condition))
        compare(f"{where}.{name}", theirs[name], ("mean", "low"), mean_low)

def compare_pairs(where, theirs, answers, upper, lower, interval):
    pairs = [a for a in distinct(answers) if find(lower, a)]
    if theirs is None or not pairs: return []
    p = clustered.sign_flips(s := sample(pairs, is_exact, upper, lower), SEED)
    compare(where, theirs, ("difference", "low", "high", "p"), (*interval(s), p))
    return [(where, theirs, p)]

def compare_criterion(name, theirs):
    gate, gated = theirs["threshold"], JUDGING["gated"]
    shared = name not in ("stalling", "fused_gain")  # judged by its share of the gap
    value = clustered.share if shared else clustered.difference
    items = [a for a in ANSWERS.get(gated, {}).values() if find("full_text", a) and (
        a["family"] in theirs["families"] if shared else a["family"] != "cases")]
    items = distinct(items, lambda a: (find("full_text", a)["read"], *read_and_said(a)))
    if name == "parametric_knowledge": items = [a for a in items if known_by_heart(a)]
    compare(name, theirs, ("n",), (len(items),))
    if not items: return
    rule = {"stalling": lambda a: a["stalled"],
            "parametric_knowledge": lambda a: a["kind"] == "injected"}.get(name, is_exact)
    ways = ("full_text", "baseline") if shared else ("full_text",)
    for control, one in theirs["controls"].items() if shared else ():
        ours = widest(sample(items, rule, control, *ways), value)
        compare(f"{name}.{control}", one, ("statistic", "low", "high"), ours)
        compare(f"{name}.{control}", one, ("below",), (bool(ours[2] < gate),))
    replicas = [] if name == "fused_gain" else JUDGING["replicas"]
    samples = [sample(items, rule, one, *ways) for one in (gated, *replicas)]
    ours, low, high = clustered.over_seeds(samples, value, SEED, JUDGING["resamples"])
    compare(name, theirs, ("statistic", "low", "high"), (ours, low, high))
    met, missed = low > gate or low == gate and shared, high < gate or high == gate and not shared
    if name == "stalling": met, missed = high < gate, low > gate
    gap = widest(sample(items, rule, *ways), clustered.difference)[1] if shared else 1
    open_ = WITHHELD or theirs["within_monte_carlo"] or gap <= 0 or not (met or missed)
    compare(name, theirs, ("verdict",), ("inconclusive" if open_ else "pass" if met else "fail",))

def answers_of(condition, family, form=None):
    all_of = ANSWERS.get(condition, {}).values()
    return [a for a in all_of if a["family"] == family and form in (None, a["form"])]

WITHHELD, tests = any(finding["withholds"] for finding in REPORT["findings"]), {}
for condition, row in REPORT["conditions"].items():
    for family, theirs in row["families"].items():
        where, answers = f"{condition}.{family}", answers_of(condition, family)
        compare_cell(where, condition, theirs, answers)
        for form, part in theirs.get("forms", {}).items():
            compare_cell(f"{where}.{form}", condition, part, answers_of(condition, family, form))
        for other in ("baseline", "full_text"):
            tests.setdefault((family, other), []).extend(
                compare_pairs(f"{where}.vs_{other}", theirs[f"vs_{other}"], answers, condition,
                              other, clustered.score_difference))
for rows in tests.values():
    for (where, theirs, _), ours in zip(rows, clustered.holm([p for _, _, p in rows])):
        compare(where, theirs, ("p_holm",), (ours,))
for name, theirs in REPORT["criteria"].items():
    if theirs["verdict"] != "not_applicable": compare_criterion(name, theirs)
for family, steps in ((REPORT["ladder"] or {}).get("families", {})).items():
    for step in steps:
        upper, lower = step["upper"], step["lower"]
        compare_pairs(f"ladder.{family}.{upper}", step, answers_of(upper, family), upper, lower,
                      lambda s: widest(s, clustered.difference))
# ---- what a report must not leave out ----
def compare_names(where, theirs, ours):
    compare(where, {"names": ", ".join(sorted(theirs))}, ("names",), (", ".join(sorted(ours)),))

compare_names("conditions", REPORT["conditions"], {*ANSWERS, *REPORT["conditions"]})
for condition, row in REPORT["conditions"].items():
    answered = {a["family"] for a in ANSWERS.get(condition, {}).values()} - {"cases"}
    compare_names(condition, {*row["families"]} - {"cases"}, answered)
if REPORT["judging"]:
    needle = any(probe["family"] == "needle" for probe in PROBES.values())
    due = ["identity", "stalling", "parametric_knowledge"] + ["needle"] * needle
    compare_names("criteria", REPORT["criteria"], due + ["fused_gain"] * JUDGING["fuses"])
    judged = [one for one in REPORT["criteria"].values() if one["verdict"] != "not_applicable"]
    for name in ("identity", "parametric_knowledge", "needle"):
        one = REPORT["criteria"].get(name)
        if one in judged and one["n"]:
            compare_names(f"{name}.controls", one["controls"], JUDGING["controls"])
    compare("report", REPORT, ("gate_met",), (all(one["verdict"] == "pass" for one in judged),))
print(f"{len(agreed)} of {len(agreed) + len(wrong)} numbers agree")
print("\n".join(wrong[:20]))
sys.exit(bool(wrong))
