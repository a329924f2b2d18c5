#!/usr/bin/env python3
"""geometry_test.py KVLINGUA: sweep and identity as a user runs them, alone and as parts of quickstart: what they leave, what
they refuse, and what happens when a model fails."""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE, TARGET = "checkpoints/nano/source", "checkpoints/nano/target"
QUICK_MODES = ["--set", "sweep.prompts_per_category=3", "--set", "sweep.new_tokens=2", "--set", "sweep.bootstrap=100", "--set",
               "sweep.permutations=99"]
QUICK_IDENTITY = ["--set", "identity.wordings=2", "--set", "identity.prompts_per_group=1", "--set", "identity.new_tokens=2",
                  "--set", "identity.bootstrap=100", "--set", "identity.permutations=99"]


# Seconds a cell: the closed-form projector of a few documents.
GRID = """
name: grid
pair: {{source: {{name: checkpoints/nano/source}}, target: {{name: checkpoints/nano/target}}, alignment: last_char}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 60, seed: 1}}, chat: true, max_length: 256, storage_dtype: float32}}
projector: {{kind: mlp, ridge: {{source_layers: 0, lambda: [1e-3]}}}}
train: {{stages: [ridge]}}
eval:
  style: nano
  families: [identity, counterfact]
  forms: [question]
  items: 4
  conditions: [same_cache, noise, shuffled, averaged, wrong_text, ridge]
  gated: ridge
  max_new_tokens: 20
  bootstrap: 100
  cases: false
sweep: {{modes: false, geometry_prompts: 12, {sweep}}}
"""


def run(*words, timeout=300):
    result = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=timeout,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})
    return result.returncode, result.stdout, result.stderr


class Geometry(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def ok(self, *words, code=0):
        got, out, err = run(*words, "--out", self.out)
        self.assertEqual(got, code, err)
        return out, err

    def refused(self, *words, code, parts):
        out, err = self.ok(*words, "-q", code=code)
        self.assertEqual(out, "")
        lines = [line for line in err.splitlines() if line.startswith("kvlingua: ")]
        self.assertEqual(len(lines), 1, err)
        for part in parts:
            self.assertIn(part, lines[0])

    def file(self, name, text):
        path = self.out / name
        path.write_text(text)
        return path

    def test_quickstart_runs_them_as_parts(self):
        out, _ = self.ok("quickstart", "recipe/nano.yaml", "--sweep", "--identity", "--json", "-", *QUICK_MODES, *QUICK_IDENTITY)
        results = json.loads(out)
        self.assertNotIn("train", results)
        self.assertEqual(set(results["sweep"]["scales"]), {"nano-source", "nano-target"})
        self.assertIn(results["identity"]["verdict"]["identity"], ("identity", "none", "undecided"))
        self.assertTrue((self.out / "results/scale_sweep_all_report.html").exists())
        self.assertTrue((self.out / "results/identity_signatures_nano-target_report.html").exists())

    def grid(self, sweep, name="grid.yaml"):
        return self.file(name, GRID.format(sweep=sweep))

    def test_a_grid_of_projectors_goes_on_where_it_stopped(self):
        recipe = self.grid(f'sources: [{SOURCE}, {TARGET}, no/such-model], targets: [{TARGET}], pairs: ["{TARGET} -> {SOURCE}"], '
                           "cell: [eval.latency=false]")
        out, err = self.ok("sweep", recipe, "--json", "-", code=1)
        grid = json.loads(out)["projectors"]["grid"]
        cells = {cell["id"]: cell for cell in grid["cells"]}
        # A model is not paired with itself; what cannot be found is named, and the others are done.
        self.assertEqual(set(cells), {"nano-source_nano-target", "such-model_nano-target", "nano-target_nano-source"})
        self.assertEqual([f["cell"] for f in grid["failed"]], ["such-model_nano-target"])
        self.assertIn("no/such-model", cells["such-model_nano-target"]["error"])
        figures = cells["nano-source_nano-target"]["figures"]
        self.assertEqual(figures["gated"], "ridge")
        self.assertGreater(figures["projector"]["parameters"], 1000)
        self.assertGreater(figures["retention"]["kl"], 0)
        self.assertEqual(figures["geometry"]["n"], 12)
        self.assertLess(figures["geometry"]["keys"]["rho_length_free"]["estimate"], 1)
        self.assertIn("estimate", figures["share"]["identity"]["exact"])
        for trend in grid["trends"]:
            self.assertEqual(trend["verdict"], "too few scales")
        for ending in ("results.json", "report.md", "report.html", "cells.csv", "trends.csv"):
            self.assertTrue((self.out / f"results/projector_sweep_grid_{ending}").exists(), ending)
        # Again: finished cells are not touched.
        kept = self.out / "checkpoints/grid/sweep/nano-source_nano-target/cell.json"
        stamp = kept.stat().st_mtime_ns
        out, err = self.ok("sweep", recipe, "--json", "-", code=1)
        self.assertEqual(kept.stat().st_mtime_ns, stamp)
        self.assertEqual(err.count("done before"), 2)
        again = json.loads(out)["projectors"]["grid"]
        self.assertEqual(again, grid)
        # Figures that are not what was written are made again.
        cell = json.loads(kept.read_text())
        for change in (lambda c: c.update(figures={}), lambda c: c.update(figures=5), lambda c: c["figures"].update(gate_met="yes"),
                       lambda c: c["figures"]["retention"].update(kl=0)):
            damaged = json.loads(json.dumps(cell))
            change(damaged)
            kept.write_text(json.dumps(damaged))
            out, _ = self.ok("sweep", recipe, "--json", "-", code=1)
            cells = {c["id"]: c for c in json.loads(out)["projectors"]["grid"]["cells"]}
            self.assertEqual(cells["nano-source_nano-target"]["figures"]["retention"], figures["retention"])

    def test_grid_refusals_are_one_line(self):
        self.refused("sweep", self.grid(f"sources: [{SOURCE}]"), code=2, parts=["sweep.targets", "other side"])
        self.refused("sweep", self.grid('pairs: ["a, b"]'), code=2, parts=["source -> target", "a, b"])
        self.refused("sweep", self.grid(f'pairs: ["{SOURCE} -> {TARGET}"], cell: [train.no=1]'), code=2, parts=["train.no"])
        self.refused("sweep", TARGET, "--set", f"sweep.sources=[{SOURCE}]", "--set", f"sweep.targets=[{TARGET}]", code=2,
                     parts=["needs a recipe"])

    def test_personas_go_through_a_projector(self):
        """The nano pair's own personas, by a projector of four hundred documents: its caches say who is who, controls do not."""
        recipe = self.file("carried.yaml", GRID.format(sweep="prompts_per_category: 1").replace("documents: 60", "documents: 400")
                           + "identity: {personas: eval/probes/nano_identity.yaml, new_tokens: 16, permutations: 99, bootstrap: 200}\n")
        out, _ = self.ok("identity", recipe, "--json", "-")
        before = json.loads(out)
        self.assertEqual(before["identity_transfer"]["verdict"], "not measured")
        self.assertIn("holds no whole checkpoint", before["identity_transfer"]["reason"])
        self.assertEqual(before["self_recognition"]["rows"]["full_text"]["verdict"], "recognised")
        for verb in ("generate", "train"):
            self.ok(verb, recipe)
        out, _ = self.ok("identity", recipe, "--json", "-")
        after = json.loads(out)
        transfer = after["identity_transfer"]
        self.assertEqual(transfer["verdict"], "transferred", transfer["rows"])
        self.assertGreater(transfer["rows"]["translated"]["estimate"], 0.5)
        for control in ("wrong_persona", "neutral_topic", "noise", "baseline"):
            self.assertLess(transfer["rows"][control]["low"], 1 / 12, control)
        self.assertEqual(after["self_recognition"]["rows"]["translated"]["verdict"], "recognised")
        self.assertNotEqual(after["self_recognition"]["rows"]["noise"]["verdict"], "recognised")
        again = json.loads(self.ok("identity", recipe, "--json", "-")[0])
        for result in (after, again):
            result["metadata"].pop("timestamp"), result["metadata"]["environment"].pop("timestamp")
        self.assertEqual(again, after)

    def holds_the_published_keys(self, results):
        """What a script written for the published files of this experiment looks up."""
        keys = {"fingerprinting": "persona_stats total_samples",
                "classification": "cv_results best_classifier holdout_accuracy classification_report confusion_matrix permutation_test "
                                  "cross_prompt_validation feature_importance chance_level",
                "pairwise_analysis": "pairwise_norm_comparisons holm_bonferroni pca_analysis cosine_similarity_matrix",
                "layer_analysis": "per_layer_accuracy ranked_layers h3_test cumulative_ablation feature_type_importance",
                "consistency": "between_persona_variance mean_within_persona_variance variance_ratio icc kendall_w persona_means h4_test"}
        for part, names in keys.items():
            self.assertEqual(set(names.split()) - set(results[part]), set(), part)
        classes = results["classification"]
        self.assertEqual(set(classes["cv_results"]), {"random_forest", "linear_svm", "logistic_regression"})
        self.assertIn(classes["best_classifier"], classes["cv_results"])
        self.assertEqual(len(classes["classification_report"]), 6)
        self.assertEqual(len(classes["cross_prompt_validation"]["per_group"]), 5)
        pairs = results["pairwise_analysis"]
        self.assertEqual(pairs["holm_bonferroni"]["n_comparisons"], 15)
        for row in pairs["holm_bonferroni"]["corrections"]:
            self.assertEqual(row["corrected_p"], pairs["pairwise_norm_comparisons"][row["comparison"]]["p_holm"])
        self.assertEqual([len(row) for row in pairs["cosine_similarity_matrix"]], [6] * 6)
        self.assertEqual(len(results["layer_analysis"]["feature_type_importance"]), 6)

    def test_identity_is_compared_with_an_older_file(self):
        """Findings in the format of the users' own results, and those of this program's."""
        ours = json.loads(self.ok("identity", TARGET, "--json", "-", *QUICK_IDENTITY)[0])
        self.holds_the_published_keys(ours)
        pair = next(iter(ours["pairwise_analysis"]["pairwise_norm_comparisons"]))
        old = self.file("old.json", json.dumps({
            "classification": {"permutation_test": {"p_value": 0.001}, "chance_level": 1 / 6,
                               "cross_prompt_validation": {"mean_accuracy": 0.967}},
            "pairwise_analysis": {"pairwise_norm_comparisons": {pair: {"cohens_d": {"d": 2.5}}, "lyra_vs_nobody": {"cohens_d": {"d": 1}}}},
            "consistency": {"icc": 0.298}}))
        out, _ = self.ok("identity", TARGET, "--json", "-", "--compare", old, *QUICK_IDENTITY)
        found = {row["finding"]: row for row in json.loads(out)["compared"]}
        self.assertTrue(found["personas told apart (permutation p)"]["old_claims"])
        self.assertIn(found["personas told apart (permutation p)"]["survives"], ("yes", "no", "undecided"))
        self.assertEqual(found["consistency over prompts (ICC)"]["survives"], "made no claim")
        self.assertEqual(found[pair]["old"], 2.5)
        self.assertEqual(found["lyra_vs_nobody"]["survives"], "not measured here")
        for ending in ("md", "html"):
            self.assertIn("Older findings", (self.out / f"results/identity_signatures_nano-target_report.{ending}").read_text())
        # Python writes NaN into its JSON.
        again = self.file("ours.json", json.dumps({**ours, "more": [float("nan"), float("-inf")]}))
        self.assertIn("survives", self.ok("identity", TARGET, "--json", "-", "--compare", again, *QUICK_IDENTITY)[0])
        self.refused("identity", TARGET, "--compare", self.file("sweep.json", '{"scales": {}}'), code=4, parts=["--compare", "identity signatures"])

    def test_bad_input_is_one_line(self):
        self.refused("sweep", TARGET, "--set", "sweep.categories=[codign]", code=2, parts=["sweep.categories", "did you mean coding?"])
        self.refused("sweep", "--scale", "7B-q5", code=2, parts=["--scale", "did you mean 7B-q4?"])
        prompts = "prompts: {a: [one, two], b: [three, four]}\n"
        empty = self.file("empty.yaml", "personas: {a: {wordings: []}, b: [x]}\n" + prompts)
        self.refused("identity", TARGET, "--personas", empty, code=4, parts=["empty.yaml:1:", "persona a", "no texts"])
        alone = self.file("alone.yaml", "personas: {a: [x, y]}\n" + prompts)
        self.refused("identity", TARGET, "--personas", alone, code=4, parts=["alone.yaml:1:", "1 persona", "two at least"])
        few = self.file("few.yaml", "personas: {a: [x], b: [y]}\nprompts: [one]\n")
        self.refused("identity", TARGET, "--personas", few, "--set", "identity.new_tokens=1", code=4, parts=["nothing can be left out"])
        twice = self.file("twice.yaml", "personas: {a: [x], a: [y]}\n" + prompts)
        self.refused("identity", TARGET, "--personas", twice, code=4, parts=["twice.yaml:1:", "persona a is there twice"])
        bytes_ = self.out / "bytes.yaml"
        bytes_.write_bytes(b'"co\xffd": [a, b]\n')
        self.refused("sweep", TARGET, "--prompts", bytes_, code=4, parts=["bytes.yaml", "not UTF-8 at byte 3"])
        bytes_.write_bytes(b'personas: {a: [x], "\xff": [y]}\nprompts: [one, two]\n')
        self.refused("identity", TARGET, "--personas", bytes_, code=4, parts=["bytes.yaml", "not UTF-8"])
        texts = self.file("texts.yaml", "coding: [a, {b: c}]\n")
        self.refused("sweep", TARGET, "--prompts", texts, code=4, parts=["texts.yaml:1:", "category coding", "no text"])

    def test_a_prompt_counts_once(self):
        """The same text twice, whatever its white space, would be two items of what is one."""
        prompts = "prompts: {a: [one, two], b: [three, four]}\n"
        for name, text, parts in (
                ("p1", "coding: [write a loop, sort a list, write  a loop]\n", ["p1.yaml:1:37", "category coding", "the same text twice", "line 1"]),
                ("p2", "coding:\n- a b\nprose:\n- c\n- a b\n", ["p2.yaml:5:3", "category prose", '"a b" (category coding, line 2)'])):
            self.refused("sweep", TARGET, "--prompts", self.file(name + ".yaml", text), code=4, parts=parts)
        for name, text, parts in (
                ("i1", "personas: {a: [x, y], b: [z, z]}\n" + prompts, ["persona b", '"z"', "each text once"]),
                ("i2", "personas: {a: [x], b: [x]}\n" + prompts, ["persona b", "persona a, line 1"]),
                ("i3", "personas: {a: [x], b: [y]}\nprompts: {a: [one, two], b: [two, three]}\n", ["group b", "group a, line 2"]),
                ("i4", "personas: {a: [x], b: [y]}\nprompts: [one, two, one]\n", ["prompts: the same text twice"])):
            self.refused("identity", TARGET, "--personas", self.file(name + ".yaml", text), code=4, parts=parts)

    def test_stored_measurements_of_strangers_are_refused(self):
        """Lines of the features file that nothing measured: read past no array's end, named by file."""
        words = ("identity", TARGET, "--set", "identity.personas=eval/probes/nano_identity.yaml", "--set", "identity.recognition=false",
                 *QUICK_IDENTITY)
        self.ok(*words)
        file = self.out / "results/identity_signatures_nano-target_features.jsonl"
        head, first, *rest = file.read_text().splitlines()

        def changed(change):
            line = json.loads(first)
            change(line)
            return json.dumps(line)

        for line in ("[1]", "{}", changed(lambda m: m.update(id=5)), changed(lambda m: m.pop("keys")),
                     changed(lambda m: m["keys"].update(norm=[None])), changed(lambda m: m["values"]["norm"].pop()),
                     changed(lambda m: m["keys"]["mean"].append(0)), changed(lambda m: m["keys"]["norm"].__setitem__(0, 1e300)),
                     changed(lambda m: m.update(cache_tokens=-5))):
            file.write_text("\n".join([head, line, *rest]) + "\n")
            self.refused(*words, code=6, parts=["features.jsonl", "--restart"])

    def test_measurements_of_other_settings_are_kept(self):
        words = ("sweep", TARGET, "--input-only", "--set", "sweep.bootstrap=100", "--set", "sweep.permutations=99", "--limit")
        self.ok(*words, 2)
        file = self.out / "results/scale_sweep_nano-target_features.jsonl"
        two = file.read_text()
        _, err = self.ok(*words, 3)
        self.assertIn("features.other-1.jsonl", err)
        three = file.read_text()
        self.assertEqual(file.with_name(file.stem + ".other-1.jsonl").read_text(), two)
        # Each comes back for its settings, and nothing is measured again.
        self.ok(*words, 2)
        self.assertEqual(file.read_text(), two)
        self.ok(*words, 3)
        self.assertEqual(file.read_text(), three)

    def test_an_older_file_is_refused_before_the_work(self):
        for name, text, code in (("list.json", "[]", 4), ("none.json", '{"scales": {}}', 4), ("word.json", '{"scales": {"a": 5}}', 4),
                                 ("torn.json", '{"scales"', 6)):
            self.refused("sweep", TARGET, "--compare", self.file(name, text), code=code, parts=[name])
        self.refused("sweep", TARGET, "--compare", self.out / "no.json", code=4, parts=["no.json"])
        self.assertFalse((self.out / "results").exists())

    def test_a_model_that_fails_leaves_the_others(self):
        out, err = self.ok("sweep", SOURCE, "no/such-model", TARGET, "--json", "-", *QUICK_MODES, code=1)
        scales = json.loads(out)["scales"]
        self.assertIn("no/such-model", scales["such-model"]["error"])
        for name in ("nano-source", "nano-target"):
            self.assertNotIn("error", scales[name])
        self.assertIn("such-model", err)

    def test_killed_and_started_again_gives_the_same(self):
        identity = ["--set", "identity.personas=eval/probes/nano_identity.yaml", *QUICK_IDENTITY]
        for words in (["sweep", SOURCE, TARGET, *QUICK_MODES], ["identity", TARGET, *identity]):
            whole = json.loads(self.ok(*words, "--json", "-")[0])
            with tempfile.TemporaryDirectory() as folder:
                line = [PROGRAM, *map(str, words), "--out", folder, "--json", folder + "/result.json"]
                for delay in (0.15, 0.3, 0.5, 0.8):
                    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
                                               env={**os.environ, "OMP_NUM_THREADS": "1"})
                    time.sleep(delay * (1 + random.random()))
                    process.kill()
                    process.wait()
                self.assertEqual(run(*line[1:])[0], 0)
                again = json.loads(pathlib.Path(folder, "result.json").read_text())
            for result in (whole, again):
                result["metadata"].pop("timestamp"), result["metadata"]["environment"].pop("timestamp")
            self.assertEqual(again, whole)


if __name__ == "__main__":
    unittest.main()
