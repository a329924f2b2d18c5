#!/usr/bin/env python3
"""Writes into the head comments of the recipes for large pairs the memory as they are and what fits 6, 24 and 40 GB, as
`preflight --card` says it.

usage: update_fits.py PROGRAM [--check]     --check changes nothing and fails where a head is out of date
Shapes come from the models' published configs and lengths from the corpora: models need not be here, and must not change the answer."""
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[1]
CARDS = ("6GB", "24GB", "40GB")
HEAD = "# Fits:"
WIDTH = 140
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
    plans = json.loads(done.stdout)["cards"]
    if not plans[0]["stages"]:
        raise SystemExit(f"{recipe}: {plans[0]['problems'][0]}")
    return plans


def told(line, first):
    """One line of the head, or several of at most WIDTH characters."""
    out = textwrap.wrap(line.replace("--set ", "--set="), WIDTH, initial_indent=first, subsequent_indent=f"{'#':20}", break_long_words=False, break_on_hyphens=False)
    return [part.replace("--set=", "--set ") + "\n" for part in out]


def lines_of(plans):
    lines = []
    for card, plan in zip(CARDS, plans):
        fit, usable = plan["fit"], gib(plan["device"]["usable_bytes"])
        if fit is None:
            says = "nothing: neither smaller batches nor nf4 nor layer streaming is enough"
        else:
            took = f"({gib(fit['memory_bytes'])} of {usable} GiB, {fit['stage']})"
            says = f"as it is {took}" if not fit["set"] else " ".join(f"--set {s}" for s in fit["set"]) + f" {took}"
        lines += told(f"{card.replace('GB', ' GB'):>6}: {says}", f"{HEAD if card == CARDS[0] else '#':12}")
    return lines


def with_lines(text, plans):
    lines = text.splitlines(True)
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    begin = next((i for i, line in enumerate(lines[:end]) if line.startswith(HEAD)), end)
    most = max(plans[-1]["stages"], key=lambda stage: stage["peak_memory_bytes"])
    head = re.sub(r"(?:about )?[\d.]+ GiB of GPU memory \([^)]*\)", f"{gib(most['peak_memory_bytes'])} GiB of GPU memory ({most['stage']})",
                  "".join(lines[:begin]))
    return head + "".join(lines_of(plans) + lines[end:])


def main():
    program, check = str(pathlib.Path(sys.argv[1]).resolve()), "--check" in sys.argv
    stale = []
    for recipe in sorted([*(ROOT / "recipe/phase2b").glob("*.yaml"), *(ROOT / "recipe/real").glob("*.yaml")]):
        text = recipe.read_text()
        new = with_lines(text, planned(program, recipe))
        if new == text:
            continue
        stale.append(str(recipe.relative_to(ROOT)))
        if not check:
            recipe.write_text(new)
    print("\n".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
