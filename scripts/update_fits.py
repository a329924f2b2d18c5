#!/usr/bin/env python3
"""Writes into the head comments of the recipes for large pairs what fits 6, 24 and 40 GB, as `preflight --card` says it.

usage: update_fits.py PROGRAM [--check]     --check changes nothing and fails where a head is out of date
Shapes come from the models' published configs and lengths from the corpora: models need not be here, and must not change the answer."""
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CARDS = ("6GB", "24GB", "40GB")
HEAD = "# Fits:"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "KVLINGUA_MODELS"} | {
    "HF_HUB_CACHE": "/nonexistent", "HF_HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}


def gib(size):
    return f"{size / (1 << 30):.1f}"


def planned(program, recipe):
    words = [word for card in CARDS for word in ("--card", card)]
    done = subprocess.run([program, "preflight", str(recipe), *words, "--device", "cpu", "-q", "--json", "-"],
                          capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
    if not done.stdout.startswith("{"):
        raise SystemExit(f"{recipe}: {done.stderr.strip()}")
    return json.loads(done.stdout)["cards"]


def lines_of(program, recipe):
    lines = []
    for card, plan in zip(CARDS, planned(program, recipe)):
        if not plan["stages"]:
            raise SystemExit(f"{recipe}: {plan['problems'][0]}")
        fit, usable = plan["fit"], gib(plan["device"]["usable_bytes"])
        if fit is None:
            says = "nothing: neither smaller batches nor nf4 nor layer streaming is enough"
        else:
            took = f"{gib(fit['memory_bytes'])} of {usable} GiB, {fit['stage']}"
            says = f"as it is ({took})" if not fit["set"] else " ".join(f"--set {s}" for s in fit["set"]) + f"   ({took})"
        lines.append(f"{HEAD if card == CARDS[0] else '#':12}{card.replace('GB', ' GB'):>6}: {says}\n")
    return lines


def with_lines(text, lines):
    kept = []
    inside = False
    for line in text.splitlines(True):
        inside = line.startswith(HEAD) or (inside and re.match(r"#\s+\d+ GB: ", line) is not None)
        if not inside:
            kept.append(line)
    # Behind the head's last line.
    end = next(i for i, line in enumerate(kept) if not line.startswith("#"))
    return "".join(kept[:end] + lines + kept[end:])


def main():
    program, check = str(pathlib.Path(sys.argv[1]).resolve()), "--check" in sys.argv
    stale = []
    for recipe in sorted([*(ROOT / "recipe/phase2b").glob("*.yaml"), *(ROOT / "recipe/real").glob("*.yaml")]):
        text = recipe.read_text()
        new = with_lines(text, lines_of(program, recipe))
        if new == text:
            continue
        stale.append(str(recipe.relative_to(ROOT)))
        if not check:
            recipe.write_text(new)
    print("\n".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
