#!/usr/bin/env python3
"""Installs a build into an empty prefix, trains a projector with the installed program in an empty folder, and builds and runs
examples/ against the installed library through find_package. usage: install_test.py BUILD"""
import os
import pathlib
import subprocess
import sys
import tempfile

build = pathlib.Path(sys.argv[1]).resolve()
source = pathlib.Path(__file__).resolve().parents[1]
CONTEXT, QUESTION, ANSWER = "My name is Lemo and I live in Valeport.", "What is your name and where do you live?", "Valeport"


def run(*words, **more):
    result = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200, **more)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: exit {result.returncode}\n{result.stdout[-4000:]}")
    return result.stdout


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    prefix, work = folder / "prefix", folder / "work"
    work.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KVLINGUA_")}
    here = {"cwd": work, "env": environment}
    run("cmake", "--install", build, "--prefix", prefix, **here)

    # The program knows its recipes and the embedded pair, and writes into the working folder.
    program = prefix / "bin/kvlingua"
    assert "nano" in run(program, "recipe", "ls", **here)
    small = ["recipe/nano.yaml", "--set", "train.stages=[ridge]", "--set", "projector.kind=ridge"]
    run(program, "generate", *small, **here)
    run(program, "train", *small, **here)
    checkpoint = work / "checkpoints/nano"
    assert (checkpoint / "recipe.yaml").is_file(), list(work.rglob("*"))
    answer = run(program, "ask", checkpoint, "--context", CONTEXT, QUESTION, "-q", **here)
    assert ANSWER in answer, answer

    # The example, as a project of its own that finds the library.
    run("cmake", "-G", "Ninja", "-S", source / "examples", "-B", folder / "example", f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release", **here)
    run("cmake", "--build", folder / "example", **here)
    pair = prefix / "share/kvlingua/checkpoints/nano"
    example = folder / "example/ask_through_cache"
    said = run(example, pair / "source", pair / "target", checkpoint, CONTEXT, QUESTION, **here)
    assert said.splitlines()[-1] == answer.splitlines()[-1], (said, answer)
    wrong = subprocess.run([example, pair / "target", pair / "target", checkpoint, CONTEXT, QUESTION], capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 4 and len(wrong.stderr.splitlines()) == 1, wrong
    print(said)
