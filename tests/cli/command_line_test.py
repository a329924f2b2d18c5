#!/usr/bin/env python3
"""The program as a user meets it: help, version, exit codes, errors on stderr in one line, pure JSON on stdout."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
VERBS = ["preflight", "recipe", "inspect", "generate", "verify", "train", "evaluate", "sweep", "identity", "ask", "import", "export", "quickstart", "nano-lm"]


def run(*words, cwd=ROOT, env=None, stdout=subprocess.PIPE):
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "RANK", "WORLD_SIZE", "KVLINGUA_ROOT")}
    environment.update(env or {})
    return subprocess.run([PROGRAM, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120, cwd=cwd, env=environment)


class CommandLine(unittest.TestCase):
    def refused(self, words, code, *parts, **more):
        result = run(*words, **more)
        self.assertEqual(result.returncode, code, f"{words}: {result.stderr}")
        self.assertEqual(result.stdout or "", "", words)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("kvlingua: "), result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_help_names_every_verb_and_exit_code(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for verb in VERBS:
            self.assertIn(f"\n  {verb}", result.stdout)
        for code in ("0 ok", "1 failed", "2 usage", "3 a gate", "4 input", "5 no device", "6 corrupt", "7 disk full", "75 ", "130 "):
            self.assertIn(code, result.stdout)
        for line in result.stdout.splitlines():
            self.assertLessEqual(len(line), 140)

    def test_help_of_every_verb(self):
        for verb in VERBS:
            result = run(verb, "--help")
            self.assertEqual((result.returncode, result.stderr), (0, ""), verb)
            self.assertGreater(len(result.stdout), 100)

    def test_commands_page_is_what_the_program_declares(self):
        declared = run("--help-markdown").stdout
        for verb in VERBS:
            self.assertIn(f"### `kvlingua {verb}", declared)
        page = (ROOT / "docs/commands.md").read_text()
        kept = page.split("<!-- generated: kvlingua --help-markdown -->\n")[1].split("<!-- end -->")[0]
        self.assertEqual(kept, declared, "run scripts/update_commands.py")

    def test_readme_quotes_the_example(self):
        self.assertIn("```cpp\n" + (ROOT / "examples/ask_through_cache.cpp").read_text() + "```\n", (ROOT / "README.md").read_text())
        self.assertLessEqual(len((ROOT / "examples/ask_through_cache.cpp").read_text().splitlines()), 40)

    def test_help_starts_at_once(self):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            run("--help")
            times.append(time.perf_counter() - start)
        self.assertLess(sorted(times)[3], 0.05, f"median of {times}")

    def test_version(self):
        result = run("--version")
        self.assertRegex(result.stdout, r"^kvlingua \d+\.\d+\.\d+\n$")
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_usage_errors(self):
        self.refused([], 2, "no verb")
        self.refused(["evalute", "nano"], 2, "unknown verb evalute", "did you mean evaluate?")
        self.refused(["train", "nano", "--stgae", "ridge"], 2, "--stgae", "did you mean --stage?")
        self.refused(["train"], 2, "RECIPE is required")
        self.refused(["train", "nano", "--seed", "x"], 2, "--seed")
        self.refused(["train", "nano", "--stage", "rigde"], 2, "rigde")
        self.refused(["train", "nano", "--device", "gpu"], 2, "auto, cpu, cuda or cuda:N")
        self.refused(["recipe", "chekc", "x"], 2, "did you mean check?")
        self.refused(["recipe", "show", "recipe/nona.yaml"], 2, "no such recipe", "did you mean recipe/nano.yaml?")
        self.refused(["recipe", "keys", "trian"], 2, "did you mean train?")

    def test_recipe_typo_is_named_with_its_place(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "r.yaml"
            path.write_text("pair:\n  source: {name: a}\n  target: {name: b}\ndata:\n  max_lenght: 3\n")
            for verb in (["train"], ["generate"], ["evaluate"], ["recipe", "show"], ["recipe", "check"]):
                self.refused([*verb, str(path)], 2, f"{path}:5:3: unknown key max_lenght in data; did you mean max_length?")
            path.write_text("pair:\n  source: {name: a}\n  target: {name: b}\ntrain: {stages: [rigde]}\nsede: 1\n")
            result = run("recipe", "check", str(path), "--json", "-")
            self.assertEqual(result.returncode, 2)
            problems = json.loads(result.stdout)[0]["problems"]
            self.assertEqual([(p["line"], p["column"]) for p in problems], [(4, 18), (5, 1)])
            self.assertEqual(len(result.stderr.splitlines()), 2)

    def test_set_overrides_and_is_named_in_errors(self):
        shown = run("recipe", "show", "nano", "--set", "data.max_length=77", "--set", "train.stages=[ridge]")
        self.assertIn("max_length: 77\n", shown.stdout)
        self.assertIn("stages: [ridge]\n", shown.stdout)
        self.refused(["train", "nano", "--set", "data.max_lenght=7"], 2, "--set data.max_lenght=7", "did you mean max_length?")

    def test_json_on_stdout_is_one_document(self):
        for words in (["recipe", "ls"], ["recipe", "show", "nano"], ["recipe", "check", "nano"], ["recipe", "keys"]):
            result = run(*words, "--json", "-")
            self.assertEqual((result.returncode, result.stderr), (0, ""), words)
            json.loads(result.stdout)

    def test_json_on_stdout_of_a_failure_is_one_document_too(self):
        for words, code, parts in (
                (["recipe", "show", "no-such-recipe"], 2, {"where", "what"}),
                (["train", "nano", "--set", "eval.criteria.identity=2"], 2, {"where", "what", "got", "expected", "remedy"}),
                (["trian", "nano"], 2, {"what", "remedy"}), (["train", "nano", "--sede", "1"], 2, {"what", "remedy"}),
                (["inspect", "/nonexistent", "--prompt", "x"], 4, {"what"}), (["train", "nano", "--seed", "x"], 2, {"what"})):
            with self.subTest(words):
                result = run(*words, "--json", "-")
                self.assertEqual(result.returncode, code, result.stderr)
                told = json.loads(result.stdout)
                self.assertEqual((set(told), told["exit_code"]), ({"error", "exit_code"}, code))
                self.assertEqual("kvlingua: " + told["error"]["message"] + "\n", result.stderr)
                self.assertLessEqual(parts, set(told["error"]))
        joined = run("recipe", "show", "no-such-recipe", "--json=-")
        self.assertEqual(json.loads(joined.stdout)["exit_code"], 2)
        # Of several processes the first speaks.
        other = run("recipe", "show", "no-such-recipe", "--json", "-", env={**os.environ, "RANK": "1", "WORLD_SIZE": "2"})
        self.assertEqual((other.returncode, other.stdout), (2, ""))
        # Without it stdout stays empty, and a file of an earlier result is left alone.
        self.assertEqual(run("recipe", "show", "no-such-recipe").stdout, "")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "out.json"
            path.write_text("kept")
            self.assertEqual(run("recipe", "show", "no-such-recipe", "--json", str(path)).stdout, "")
            self.assertEqual(path.read_text(), "kept")

    def test_json_into_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "out.json"
            result = run("recipe", "show", "nano", "--json", str(path))
            self.assertEqual((result.returncode, result.stdout), (0, ""))
            self.assertEqual(json.loads(path.read_text())["recipe"]["name"], "nano")
            self.assertEqual([p.name for p in pathlib.Path(folder).iterdir()], ["out.json"])
            self.refused(["recipe", "show", "nano", "--json", folder + "/no/such/out.json"], 1, "cannot be written")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_full_disk_is_7(self):
        with open("/dev/full", "w") as full:
            result = run("recipe", "show", "nano", stdout=full)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.refused(["recipe", "show", "nano", "--json", "/dev/full"], 7, "cannot be written")

    def test_absent_gpu_is_5(self):
        if pathlib.Path("/dev/nvidia0").exists():
            self.skipTest("there is a GPU here")
        self.refused(["train", "nano", "--device", "cuda"], 5, "device cuda", "--device cpu")
        self.refused(["generate", "nano", "--set", "pair.device=cuda:3"], 5, "device cuda:3")

    def test_contradicting_world_is_2(self):
        self.refused(["train", "nano"], 2, "RANK", env={"WORLD_SIZE": "2"})

    def test_recipes_are_found_from_anywhere(self):
        with tempfile.TemporaryDirectory() as folder:
            result = run("recipe", "show", "nano", cwd=folder)
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_no_colour_where_there_is_no_terminal(self):
        for env in ({}, {"NO_COLOR": "1"}):
            result = run("train", "nano", "--set", "x.y=1", env=env)
            self.assertNotIn("\x1b", result.stderr)


if __name__ == "__main__":
    unittest.main()
