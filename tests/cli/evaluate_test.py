#!/usr/bin/env python3
"""evaluate_test.py KVLINGUA: the verb evaluate on the embedded pair, as a user runs it: exit codes, own probes, two
checkpoints side by side, benchmarks from local files, several processes."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS")

# Ten documents' worth of pairs and the closed-form projector: seconds, and far from passing.
RECIPE = """
name: {name}
pair: {{source: {{name: checkpoints/nano/source}}, target: {{name: checkpoints/nano/target}}, alignment: last_char}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 60, seed: 1}}, chat: true, max_length: 256, storage_dtype: float32}}
projector: {{kind: mlp, ridge: {{source_layers: 0, lambda: [{ridge}]}}}}
train: {{stages: [ridge]}}
eval:
  families: [identity, counterfact]
  forms: [question]
  items: 4
  conditions: [same_cache, noise, ridge]
  gated: ridge
  max_new_tokens: 8
  bootstrap: 100
  cases: false
  latency: false
{more}
"""


def start(*words, env=None):
    clean = {k: v for k, v in os.environ.items() if k not in RANKS}
    return subprocess.Popen([PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                            env={**clean, "OMP_NUM_THREADS": "1", **(env or {})})


def wait(process):
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


class Evaluate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = pathlib.Path(cls.folder.name)
        for name, ridge in (("one", "1e-3"), ("two", "1e3")):
            recipe = cls.recipe(name, ridge=ridge)
            for verb in ("generate", "train"):
                code, _, err = wait(start(verb, recipe, "--out", cls.out))
                assert code == 0, err

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def recipe(cls, name, more="", ridge="1e-3", file=None, change=None):
        text = RECIPE.format(name=name, ridge=ridge, more=more)
        for old, new in (change or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = cls.out / (file or name + ".yaml")
        path.write_text(text)
        return path

    def evaluate(self, recipe, *words, code, env=None):
        got, out, err = wait(start("evaluate", recipe, "--out", self.out, *words, env=env))
        self.assertEqual(got, code, err)
        return out, err

    def refused(self, recipe, *words, code, parts):
        out, err = self.evaluate(recipe, "-q", *words, code=code)
        self.assertEqual(out, "")
        lines = [line for line in err.splitlines() if line.startswith("kvlingua: ")]
        self.assertEqual(len(lines), 1, err)
        for part in parts:
            self.assertIn(part, lines[0])

    def test_a_gate_that_is_not_met_ends_with_3_and_a_whole_report(self):
        out, _ = self.evaluate(self.recipe("one"), "--json", "-", "--restart", code=3)
        report = json.loads(out)
        self.assertTrue(report["judged"])
        self.assertFalse(report["gate_met"])
        for key in ("pair", "conditions", "cases", "fidelity", "retention", "latency", "criteria", "seeds", "versions", "recipe_sha256"):
            self.assertIn(key, report)
        cell = report["conditions"]["ridge"]["families"]["identity"]
        for key in ("n", "success", "stalled", "injected", "parametric", "other", "tokens_generated"):
            self.assertIn(key, cell)
        self.assertEqual({c["control"]: (c["equal"], c["n"]) for c in report["controls"]}, {"same_cache": (8, 8)})
        folder = self.out / "checkpoints/one/eval"
        self.assertEqual(json.loads((folder / "report.json").read_text()), report)
        self.assertEqual(len((folder / "generations.jsonl").read_text().splitlines()), 1 + 8 * 5 + 2)
        self.assertIn("</html>", (folder / "report.html").read_text())
        self.assertIn("ridge", (folder / "report.md").read_text())

    def test_nothing_judged_is_no_failure_when_asked_for(self):
        recipe = self.recipe("one", file="unjudged.yaml", change={"gated: ridge": "gated: none"})
        out, _ = self.evaluate(recipe, "--json", "-", code=0)
        self.assertFalse(json.loads(out)["judged"])

    def test_a_gate_that_is_named_and_missing_is_not_met(self):
        recipe = self.recipe("one", file="missing.yaml", change={"gated: ridge": "gated: identity"})
        out, _ = self.evaluate(recipe, "--json", "-", code=3)
        self.assertIn("gate_missing", self.findings(out))

    def findings(self, out):
        return {finding["name"]: finding["withholds"] for finding in json.loads(out)["findings"]}

    def test_only_a_projector_is_judged(self):
        for name in ("full_text", "same_cache", "baseline"):
            self.refused(self.recipe("one", file="gate.yaml", change={"gated: ridge": f"gated: {name}"}), code=2,
                         parts=["eval.gated", name, "expected none | identity | ridge_aligned"])

    def test_no_verdict_without_its_controls(self):
        out, _ = self.evaluate(self.recipe("one"), "--json", "-", code=3)
        report = json.loads(out)
        self.assertTrue(self.findings(out)["controls_missing"])
        self.assertEqual({c["verdict"] for c in report["criteria"].values()}, {"inconclusive"})
        self.assertEqual(report["mode"], "exploratory")

    def test_a_lowered_gate_is_said_and_passes_nothing(self):
        out, _ = self.evaluate(self.recipe("one"), "--set", "eval.criteria.identity=0", "--json", "-", code=3)
        self.assertTrue(self.findings(out)["gate_lowered"])

    def test_a_gate_that_moved_passes_nothing(self):
        recipe = self.recipe("one", file="moved.yaml", change={"gated: ridge": "gated: mlp"})
        recipe.write_text(recipe.read_text().replace("[same_cache, noise, ridge]", "[same_cache, noise, ridge, mlp]"))
        out, _ = self.evaluate(recipe, "--json", "-", code=3)
        self.assertTrue(self.findings(out)["gate_moved"])

    def test_the_level_is_said_as_asked(self):
        self.evaluate(self.recipe("one"), "--set", "eval.criteria.confidence=0.99", code=3)
        folder = self.out / "checkpoints/one/eval"
        for name in ("report.md", "report.html"):
            text = (folder / name).read_text()
            self.assertIn("99 %", text)
            self.assertNotIn("95 %", text)

    def test_edited_flags_are_scored_again(self):
        recipe = self.recipe("one", file="edited.yaml", change={"name: one": "name: edited"})
        at = ["--checkpoint", self.out / "checkpoints/one", "--json", "-"]
        before, _ = self.evaluate(recipe, *at, code=3)
        file = self.out / "checkpoints/edited/eval/generations.jsonl"
        text = file.read_text()
        self.assertIn('"exact":false', text)
        file.write_text(text.replace('"exact":false', '"exact":true'))
        after, _ = self.evaluate(recipe, *at, code=3)
        self.assertEqual(json.loads(after)["conditions"]["ridge"]["families"], json.loads(before)["conditions"]["ridge"]["families"])
        self.assertIn("answers_rescored", self.findings(after))

    def test_what_trained_a_checkpoint_is_read_from_it(self):
        # Made from the very items' contexts under a recipe of its own, judged under another: they are left out.
        recipe = self.recipe("one")
        self.evaluate(recipe, code=3)
        asked = [json.loads(line) for line in (self.out / "checkpoints/one/eval/probes.jsonl").read_text().splitlines()]
        corpus = self.out / "memorised.jsonl"
        corpus.write_text("".join(json.dumps({"text": probe["context"]}) + "\n" for probe in asked) * 5)
        other = self.recipe("memorised", ridge="1e-3")
        text = other.read_text()
        begin, end = text.index("data:"), text.index("projector:")
        other.write_text(text[:begin] + f"data: {{kind: jsonl, files: [{corpus}], storage_dtype: float32}}\n" + text[end:])
        for verb in ("generate", "train"):
            code, _, err = wait(start(verb, other, "--out", self.out))
            self.assertEqual(code, 0, err)
        out, _ = self.evaluate(recipe, "--checkpoint", self.out / "checkpoints/memorised", "--json", "-", code=3)
        report = json.loads(out)
        self.assertIn("trained_by_another_recipe", self.findings(out))
        self.assertIn("8 items stand in the training corpus", " ".join(f["text"] for f in report["findings"]))
        self.assertEqual(report["trained"]["ridge"]["recipe"], "memorised")

    def test_looks_are_counted(self):
        recipe = self.recipe("one", file="looks.yaml", change={"items: 4": "items: 5"})
        first = json.loads(self.evaluate(recipe, "--json", "-", code=3)[0])["looks"]
        again = json.loads(self.evaluate(recipe, "--json", "-", code=3)[0])["looks"]
        fresh = json.loads(self.evaluate(recipe, "--seed", "9", "--json", "-", code=3)[0])["looks"]
        self.assertEqual((again["look"], again["at_this_checkpoint"]), (first["look"], first["at_this_checkpoint"]))
        self.assertEqual(fresh["at_this_checkpoint"], first["at_this_checkpoint"] + 1)

    def test_the_numbers_are_made_again_from_what_is_stored(self):
        if subprocess.run([sys.executable, "-c", "import numpy, scipy"], capture_output=True).returncode != 0:
            self.skipTest("no numpy and scipy here")
        recipe = self.recipe("one", file="again.yaml", change={
            "items: 4": "items: 20", "[same_cache, noise, ridge]": "[same_cache, noise, shuffled, averaged, wrong_text, ridge_aligned, ridge, source_alone]",
            "forms: [question]": "forms: [question, completion]", "families: [identity, counterfact]": "families: [identity, counterfact, needle]"})
        self.evaluate(recipe, code=3)
        folder = self.out / "checkpoints/one/eval"
        script = [sys.executable, str(ROOT / "scripts/rescore.py"), str(folder)]
        done = subprocess.run(script, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        agree, of = map(int, done.stdout.split(" numbers")[0].split(" of "))
        self.assertEqual(agree, of)
        self.assertGreater(of, 1000)
        report = json.loads((folder / "report.json").read_text())
        report["criteria"]["identity"]["low"] += 1e-4
        (folder / "report.json").write_text(json.dumps(report))
        self.assertEqual(subprocess.run(script, capture_output=True).returncode, 1, "a script that cannot disagree shows nothing")
        report["criteria"]["identity"]["low"] -= 1e-4
        (folder / "report.json").write_text(json.dumps(report))
        self.assertEqual(subprocess.run(script, capture_output=True).returncode, 0, "as it was")
        leaves = {"criterion": lambda r: r["criteria"].pop("needle"), "condition": lambda r: r["conditions"].pop("noise"),
                  "family": lambda r: r["conditions"]["ridge"]["families"].pop("needle"),
                  "control": lambda r: r["criteria"]["identity"]["controls"].pop("noise"), "gate_met": lambda r: r.update(gate_met=True)}
        for name, leave_out in leaves.items():
            edited = json.loads(json.dumps(report))
            leave_out(edited)
            (folder / "report.json").write_text(json.dumps(edited))
            self.assertEqual(subprocess.run(script, capture_output=True).returncode, 1, name)

    def test_confirming_needs_training_seeds(self):
        self.refused(self.recipe("one"), "--confirm", code=4, parts=["too few training seeds", "train --seeds 3"])

    def seeds(self, name, stages="[ridge]", **more):
        """A recipe, its run by three training seeds and their folder."""
        change = {"max_new_tokens: 8": "max_new_tokens: 32", "[ridge]}": stages + ", regression: {batch: {size: 64, steps: 2}}}"}
        change |= {"gated: ridge": "gated: mlp", "same_cache, noise, ridge": "same_cache, noise, mlp"} if "regression" in stages else {}
        recipe = self.recipe(name, file=name + ".yaml", more="  confirm: {most_items: 4}\n", change=change)
        for words in (["generate", recipe], ["train", recipe, "--seeds", 3]):
            code, _, err = wait(start(*words, "--out", self.out))
            self.assertEqual(code, 0, err)
        return recipe, self.out / "checkpoints" / name / "seeds"

    def test_one_look_at_fresh_items_by_three_training_seeds(self):
        recipe, seeds = self.seeds("thrice", "[ridge, regression]")
        # Two processes plan one look: what is drawn is drawn once.
        ranks = [start("evaluate", recipe, "--out", self.out, "--confirm", "--json", self.out / "confirmed.json",
                       env={"RANK": str(r), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29518"}) for r in (1, 0)]
        ended = [wait(process) for process in ranks]
        self.assertEqual([code for code, _, _ in ended], [0, 3], ended)  # a poor map: not confirmed
        self.assertEqual(len(list((seeds.parent / "eval").glob("confirm-*"))), 1)
        out = (self.out / "confirmed.json").read_text()
        report = json.loads(out)
        self.assertEqual((report["mode"], report["confirmation"]["training_seeds"]), ("confirmatory", 3))
        self.assertEqual(report["judging"]["replicas"], ["mlp@2", "mlp@3"])
        self.assertEqual(len(report["criteria"]["identity"]["by_seed"]), 3, report["criteria"]["identity"])
        self.assertNotIn("controls_missing", self.findings(out))
        self.refused(recipe, "--confirm", code=2, parts=["these checkpoints were confirmed on before"])
        # Neither more looks than were planned, nor one seed more, nor another of them in front is a new look.
        self.refused(recipe, "--confirm", "--set", "eval.confirm.looks=5", code=2, parts=["more looks than were planned before the first"])
        code, _, err = wait(start("train", recipe, "--out", self.out, "--seeds", 4))
        self.assertEqual(code, 0, err)
        self.refused(recipe, "--confirm", code=2, parts=["these checkpoints were confirmed on before"])
        self.refused(recipe, "--confirm", "--checkpoint", seeds / "4", "--set", "eval.confirm.training_seeds=1", code=2,
                     parts=["these checkpoints were confirmed on before"])

    def test_a_copied_seed_is_no_training_seed(self):
        recipe, seeds = self.seeds("copied", "[ridge, regression]")
        shutil.rmtree(seeds / "3")
        shutil.copytree(seeds / "2", seeds / "3")
        self.refused(recipe, "--confirm", code=4, parts=["too few training seeds", "got 2", "trained by the seed of mlp@2"])
        # Nor is one of another training.
        shutil.rmtree(seeds / "3")
        other = ["name=otherwise", "data.name=copied", "train.regression.optimizer.lr=0.01"]
        code, _, err = wait(start("train", recipe, "--out", self.out, "--seed", 3, *(word for one in other for word in ("--set", one))))
        self.assertEqual(code, 0, err)
        shutil.copytree(self.out / "checkpoints/otherwise", seeds / "3")
        self.refused(recipe, "--confirm", code=4, parts=["too few training seeds", "got 2", "train.regression.optimizer.lr"])

    def test_a_closed_form_is_judged_once_whatever_its_seeds(self):
        recipe, _ = self.seeds("closed")
        out, _ = self.evaluate(recipe, "--confirm", "--json", "-", code=3)
        report = json.loads(out)
        self.assertEqual((report["confirmation"]["training_seeds"], report["judging"]["replicas"]), (1, []))
        self.assertIn("this checkpoint", report["verdict_line"])
        self.assertIn("seed_changes_nothing", self.findings(out))

    def test_a_family_without_items_is_inconclusive(self):
        recipe = self.recipe("one", file="family.yaml", change={"families: [identity, counterfact]": "families: [identity]"})
        out, _ = self.evaluate(recipe, "--json", "-", code=3)
        knowledge = json.loads(out)["criteria"]["parametric_knowledge"]
        self.assertEqual((knowledge["verdict"], knowledge["n"]), ("inconclusive", 0))
        self.assertIn("nothing was shown to be known by heart", " ".join(knowledge["notes"]))

    def test_dry_run_prints_recipe_and_plan_and_writes_nothing(self):
        recipe = self.recipe("one", file="dry.yaml", change={"name: one": "name: dry"})
        out, _ = self.evaluate(recipe, "--dry-run", "--checkpoint", self.out / "checkpoints/one", code=0)
        self.assertIn("max_new_tokens: 8", out)
        self.assertIn("8 items under", out)
        self.assertFalse((self.out / "checkpoints/dry").exists())

    def test_missing_and_foreign_checkpoints(self):
        self.refused(self.recipe("none"), code=4, parts=["no checkpoint to evaluate", "run kvlingua train first"])
        self.refused(self.recipe("one"), "--checkpoint", self.out, code=4, parts=["no checkpoint"])
        other = self.recipe("one", file="other.yaml", change={"source: {name: checkpoints/nano/source}": "source: {name: checkpoints/nano/target}"})
        self.refused(other, "--checkpoint", self.out / "checkpoints/one", code=4, parts=["got ", "expected "])

    def test_two_checkpoints_side_by_side(self):
        one, two = self.out / "checkpoints/one", self.out / "checkpoints/two"
        out, _ = self.evaluate(self.recipe("one"), "--compare", one, two, "--json", "-", code=0)
        report = json.loads(out)
        self.assertEqual((report["comparison"]["a"], report["comparison"]["b"]), (str(one), str(two)))
        for family in ("identity", "counterfact"):
            row = report["comparison"]["families"][family]
            self.assertEqual(row["n"], report["conditions"]["A"]["families"][family]["distinct"])
            rates = [report["conditions"][side]["families"][family]["success"]["rate"] for side in "AB"]
            self.assertLessEqual(row["low"], row["difference"])
            self.assertLessEqual(row["difference"], row["high"])
            if row["n"] == 4:
                self.assertAlmostEqual(row["difference"], rates[0] - rates[1])
        self.assertNotEqual(report["conditions"]["A"]["families"]["identity"]["kl"], report["conditions"]["B"]["families"]["identity"]["kl"])
        out, _ = self.evaluate(self.recipe("one"), "--compare", one, one, "--json", "-", code=0)
        for row in json.loads(out)["comparison"]["families"].values():
            self.assertEqual((row["difference"], row["p"]), (0, 1))
        self.assertIn("against", (self.out / "checkpoints/one/eval/compare/report.html").read_text())
        self.refused(self.recipe("one"), "--compare", one, self.out / "no-such", code=4, parts=["no checkpoint"])

    def probes(self, text):
        path = self.out / "own.yaml"
        path.write_text(text)
        return self.recipe("one", file="probes.yaml", more=f"  probe_files: [{path}]\n")

    def test_own_probes(self):
        recipe = self.probes("probes:\n- {id: fish, context: 'A fish named Quorl sleeps in the red box.', prompt: 'Who sleeps?', markers: [Quorl]}\n")
        out, _ = self.evaluate(recipe, "--json", "-", code=3)
        self.assertEqual(json.loads(out)["conditions"]["ridge"]["families"]["own"]["n"], 1)

    def test_probes_that_cannot_be_used(self):
        self.refused(self.probes("probes:\n- {id: a, context: x y, prompt: 'Who?'}\n"), code=4, parts=["own.yaml", "probe a", "no markers"])
        self.refused(self.probes("probes:\n- {id: a, context: x y, prompt: 'Who?', markes: [x]}\n"), code=4, parts=["own.yaml:2", "markes"])
        self.refused(self.probes("probes:\n- {id: a, context: Quorl sleeps, prompt: 'Does Quorl sleep?', markers: [Quorl]}\n"), code=4,
                     parts=["the answer is already in the question"])
        long = "Quorl " * 3000
        self.refused(self.probes(f"probes:\n- {{id: long, context: '{long}', prompt: 'Who?', markers: [Quorl]}}\n"), code=4,
                     parts=["probe long", "context longer than the target allows", "at most 1024"])

    def test_probes_that_training_has_seen(self):
        corpus = self.out / "corpus.jsonl"
        corpus.write_text(json.dumps({"text": "Well. A fish named Quorl sleeps in the red box. So it is."}) + "\n")
        own = self.probes("probes:\n- {id: fish, context: 'A fish named Quorl sleeps in the red box.', prompt: 'Who sleeps?', markers: [Quorl]}\n")
        text = own.read_text()
        begin, end = text.index("data:"), text.index("projector:")
        own.write_text(text[:begin] + f"data: {{kind: jsonl, files: [{corpus}]}}\n" + text[end:])
        self.refused(own, code=4, parts=["probe fish", "shared with training", "training document 0"])

    def test_benchmarks_from_local_files(self):
        files = {
            "mmlu_redux.jsonl": [
                {"question": "1+1?", "choices": ["1", "2", "3", "4"], "answer": 1, "error_type": "ok", "correct_answer": None},
                {"question": "wrong label", "choices": ["a", "b", "c", "d"], "answer": 0, "error_type": "wrong_groundtruth", "correct_answer": "2"},
                {"question": "unclear", "choices": ["a", "b", "c", "d"], "answer": 3, "error_type": "bad_question_clarity", "correct_answer": None},
                {"question": "none", "choices": ["a", "b", "c", "d"], "answer": 3, "error_type": "no_correct_answer", "correct_answer": None}],
            "openbookqa.jsonl": [{"question_stem": "Ice is", "choices": {"text": ["cold", "hot", "dry", "old"], "label": ["A", "B", "C", "D"]}, "answerKey": "A"}],
            "arc_c.jsonl": [{"question": "q", "choices": {"text": ["w", "x", "y", "z"], "label": ["1", "2", "3", "4"]}, "answerKey": "3"},
                            {"question": "r", "choices": {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]}, "answerKey": "B"}],
            "hellaswag.jsonl": [{"ctx": "He", "endings": ["runs home.", "sits.", "is.", "was a tree."], "label": "1"}],
        }
        for name, records in files.items():
            (self.out / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.out / "ceval.csv").write_text("id,question,A,B,C,D,answer\n0,\"eins, zwei\",a,b,c,d,C\n")
        wanted = [("mmlu_redux", "jsonl", "correct", "likelihood", 2, 2), ("mmlu_redux", "jsonl", "c2c", "generate", 3, 1),
                  ("openbookqa", "jsonl", "correct", "generate", 1, 0), ("arc_c", "jsonl", "correct", "likelihood", 2, 0),
                  ("arc_c", "jsonl", "c2c", "likelihood", 1, 1), ("ceval", "csv", "correct", "likelihood", 1, 0),
                  ("hellaswag", "jsonl", "correct", "likelihood", 1, 0)]
        more = "  benchmarks:\n" + "".join(f"  - {{kind: {kind}, file: {self.out / (kind + '.' + end)}, gold: {gold}, method: {method}}}\n"
                                           for kind, end, gold, method, _, _ in wanted)
        out, _ = self.evaluate(self.recipe("one", file="bench.yaml", more=more), "--json", "-", code=3)
        got = json.loads(out)["benchmarks"]
        self.assertEqual([(b["name"], b["gold"], b["method"], b["n"], b["skipped"]) for b in got],
                         [(kind, gold, method, n, skipped) for kind, _, gold, method, n, skipped in wanted])
        for one in got:
            self.assertEqual(set(one["conditions"]), {"baseline", "full_text", "ridge"})
            self.assertAlmostEqual(one["chance"], 0.25)
            for condition in one["conditions"].values():
                self.assertLessEqual(condition["accuracy"]["count"], one["n"])
                if one["method"] == "likelihood":
                    self.assertEqual(condition["answered"], one["n"])
        self.assertIn("hellaswag", (self.out / "checkpoints/one/eval/report.html").read_text())
        (self.out / "arc_c.jsonl").write_text('{"question": "q"}\n')
        self.refused(self.out / "bench.yaml", code=4, parts=["arc_c.jsonl:1", "field missing: choices"])

    def test_several_processes_make_the_report_of_one(self):
        # 80 items in blocks of 32: five blocks for two processes.
        change = {"items: 4": "items: 40", "name: one": "name: shared"}
        recipe = self.recipe("one", file="shared.yaml", change=change)
        at = ["--checkpoint", self.out / "checkpoints/one", "--json", self.out / "report.json"]
        self.evaluate(recipe, *at, code=3)
        single = json.loads((self.out / "report.json").read_text())
        folder = self.out / "checkpoints/shared/eval"
        kept = sorted((folder / "generations.jsonl").read_text().splitlines()[1:])
        ranks = [start("evaluate", recipe, "--out", self.out, *at, "--restart",
                       env={"RANK": str(r), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}) for r in (1, 0)]
        self.assertEqual([wait(process)[0] for process in ranks], [0, 3])
        shared = json.loads((self.out / "report.json").read_text())
        self.assertEqual(shared["run"].pop("processes"), 2)
        self.assertEqual(shared["run"].pop("generated"), 80 * 5)
        for report in (single, shared):
            report.pop("run")
            for condition in report["conditions"].values():
                condition.pop("seconds", None)
        self.assertEqual(shared, single)
        self.assertEqual(sorted(p.name for p in folder.glob("generations*")), ["generations.jsonl"])
        again = sorted(line for line in (folder / "generations.jsonl").read_text().splitlines()[1:])
        self.assertEqual([l for l in again if "control_distance" not in l], [l for l in kept if "control_distance" not in l])


if __name__ == "__main__":
    unittest.main()
