#!/usr/bin/env python3
"""`kvlingua ask` as a user meets it, on a projector of the embedded pair trained for a moment: answers, --beside, --json, a dialogue
on a terminal, and bad input in one line each."""
import json
import os
import pathlib
import pty
import select
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTEXT = "My name is Lemo and I live in Valeport."
QUESTION = "What is your name and where do you live?"


def run(*words, **more):
    more = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **more}
    return subprocess.run([PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True, timeout=300, cwd=ROOT, **more)


class Ask(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name)
        small = ["recipe/nano.yaml", "--out", cls.out, "-q", "--set", "train.stages=[ridge]",
                 "--set", "projector.kind=ridge"]
        for verb in ("generate", "train"):
            made = run(verb, *small)
            assert made.returncode == 0, made.stderr
        cls.run_folder = cls.out / "checkpoints/nano"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def ask(self, *words, **more):
        return run("ask", self.run_folder, *words, **more)

    def refused(self, words, code, *parts, **more):
        result = run("ask", *words, **more)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_answers_what_only_the_source_read(self):
        asked = self.ask("--context", CONTEXT, QUESTION, "-q")
        self.assertEqual((asked.returncode, asked.stderr), (0, ""))
        self.assertIn("Valeport", asked.stdout)

    def test_context_from_a_file_and_from_stdin(self):
        direct = self.ask("--context", CONTEXT, QUESTION, "-q").stdout
        file = self.out / "context.txt"
        file.write_text(CONTEXT + "\n")
        self.assertEqual(self.ask("--context", file, QUESTION, "-q").stdout, direct)
        read = run("ask", self.run_folder, "--context", "-", QUESTION, "-q", stdin=file.open())
        self.assertEqual(read.stdout, direct)

    def test_a_recipe_names_its_run(self):
        direct = self.ask("--context", CONTEXT, QUESTION, "-q").stdout
        named = run("ask", "recipe/nano.yaml", "--out", self.out, "--context", CONTEXT, QUESTION, "-q")
        self.assertEqual((named.returncode, named.stdout), (0, direct), named.stderr)

    def test_beside_and_json(self):
        beside = self.ask("--context", CONTEXT, QUESTION, "--beside", "-q").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in beside], ["first", "translated", "full_text", "baseline"])
        asked = self.ask("--context", CONTEXT, QUESTION, "--beside", "--json", "-")
        answers = json.loads(asked.stdout)["answers"]
        self.assertEqual(list(answers), ["translated", "full_text", "baseline"])
        for name in answers:
            self.assertEqual(beside[1 + list(answers).index(name)].split(maxsplit=5)[-1].split("B ")[-1].strip(), answers[name]["text"].strip())
            self.assertGreater(answers[name]["first_token_seconds"], 0)
        self.assertIn("Valeport", answers["full_text"]["text"])
        self.assertNotIn("Valeport", answers["baseline"]["text"])
        self.assertGreater(answers["translated"]["bytes"], 1000)
        self.assertEqual((answers["full_text"]["bytes"], answers["baseline"]["bytes"]), (len(CONTEXT), 0))

    def test_bad_input_is_one_line(self):
        run_folder, nano = self.run_folder, "recipe/nano.yaml"
        quiet = ["-q"]
        self.refused([run_folder, "--context", CONTEXT, " ", *quiet], 2, "question is empty")
        self.refused([run_folder, "--context", CONTEXT, *quiet], 2, "no question")
        self.refused([run_folder, "--context", " ", QUESTION, *quiet], 2, "context is empty")
        self.refused([run_folder, QUESTION, *quiet], 2, "--context")
        self.refused([run_folder, "--context", "no/such.txt", QUESTION, *quiet], 4, "no/such.txt", "no such file")
        self.refused([run_folder, "--context", CONTEXT * 500, QUESTION, *quiet], 4, "context: longer than the source model allows", "at most")
        self.refused([run_folder, "--context", CONTEXT, QUESTION * 500, *quiet], 4, "longer than the target model allows")
        self.refused([run_folder, "--context", CONTEXT, QUESTION, "--stage", "distillation", *quiet], 4, "no whole checkpoint of stage distillation")
        other = ["--set", "pair.source.name=checkpoints/nano/target", "--checkpoint", run_folder]
        self.refused([nano, "--context", CONTEXT, QUESTION, *other, *quiet], 4, "source model", "another cache shape")
        with tempfile.TemporaryDirectory() as empty:
            self.refused([empty, "--context", CONTEXT, QUESTION, *quiet], 4, "holds no whole checkpoint")

    def test_a_reader_that_goes_away_is_one_line(self):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as closed:
            self.refused([self.run_folder, "--context", CONTEXT, QUESTION, "-q"], 1, "stdout", "Broken pipe", stdout=closed)

    def test_dialogue_on_a_terminal(self):
        control, terminal = pty.openpty()
        talk = subprocess.Popen([PROGRAM, "ask", self.run_folder, "--context", CONTEXT, "-q"], stdin=terminal, stdout=terminal,
                                stderr=terminal, cwd=ROOT)
        os.close(terminal)
        seen = b""

        def until(text):
            nonlocal seen
            end = time.time() + 120
            while text not in seen and time.time() < end:
                if select.select([control], [], [], 1)[0]:
                    try:
                        seen += os.read(control, 4096)
                    except OSError:
                        break
            self.assertIn(text, seen)
            seen = seen.split(text, 1)[1]

        until(b"> ")
        os.write(control, QUESTION.encode() + b"\n")
        until(b"Valeport")
        until(b"> ")
        os.write(control, b"\n")
        self.assertEqual(talk.wait(timeout=60), 0)
        os.close(control)


if __name__ == "__main__":
    unittest.main()
