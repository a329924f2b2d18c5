#!/usr/bin/env python3
"""contract_test.py KVLINGUA: what the command line promises of every verb, and what hostile files in a run's folders do, on the
embedded pair: one JSON document on stdout, a stop that is heard, every path looked at, words of our own."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "KVLINGUA_ROOT": str(ROOT)}
SOURCE, TARGET = ROOT / "checkpoints/nano/source", ROOT / "checkpoints/nano/target"
RECIPE = f"""name: tiny
pair: {{source: {{name: {SOURCE}}}, target: {{name: {TARGET}}}}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 60}}, max_length: 128, shard_bytes: 2MiB}}
projector: {{kind: ridge, ridge: {{lambda: [1e-3]}}}}
train: {{stages: [ridge]}}
eval: {{families: [identity], items: 3, conditions: [baseline, full_text, ridge], gated: ridge, bootstrap: 100, cases: false, latency: false}}
"""
DEEP = "[" * 100000 + "]" * 100000


def seal(folder):
    """Hashes and sizes of a folder's manifest, written anew after a file was changed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256_of_lines_above"]
    for entry in manifest["entries"]:
        data = (folder / entry["path"]).read_bytes()
        entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    text = '{"kvlingua_manifest": 1,\n"attributes": ' + json.dumps(manifest["attributes"]) + ',\n"entries": [\n'
    text += ",\n".join(json.dumps(entry) for entry in manifest["entries"]) + "\n],\n"
    path.write_text(text + '"sha256_of_lines_above": "' + hashlib.sha256(text.encode()).hexdigest() + '"}\n')


class Contract(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kept = tempfile.TemporaryDirectory()
        whole = pathlib.Path(cls.kept.name) / "whole"
        whole.mkdir()
        (whole / "tiny.yaml").write_text(RECIPE)
        for verb in ("generate", "train"):
            made = subprocess.run([PROGRAM, verb, "tiny.yaml", "--out", ".", "-q"], cwd=whole, env=ENV, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
        cls.whole = whole

    @classmethod
    def tearDownClass(cls):
        cls.kept.cleanup()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name) / "o"
        shutil.copytree(self.whole, self.out, symlinks=True)
        self.pairs, self.run_folder = self.out / "datasets/tiny", self.out / "checkpoints/tiny"

    def run_it(self, *words, code=0, env=None, **more):
        more = {"stdin": subprocess.DEVNULL, "timeout": 120, **more}
        done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, cwd=self.out, env={**ENV, **(env or {})}, **more)
        done.out, done.err = done.stdout.decode(), done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, f"{words}: {done.err[-2000:]}")
        return done

    def refused(self, *words, code, parts, **more):
        done = self.run_it(*words, code=code, **more)
        lines = [line for line in done.err.splitlines() if line.startswith("kvlingua: ")]
        self.assertEqual(len(lines), 1, done.err)
        for part in parts:
            self.assertIn(part, lines[0])
        return done

    def evaluate(self, *words):
        return ["evaluate", "tiny.yaml", "--out", ".", "-q", *words]

    def test_json_is_one_document_of_every_verb(self):
        for words in (["sweep", SOURCE, "--dry-run"], ["sweep", "tiny.yaml", "--dry-run", "--set", f"sweep.pairs=['{SOURCE} -> {TARGET}']"],
                      ["identity", SOURCE, "--dry-run"], ["identity", "tiny.yaml", "--dry-run"], ["sweep"],
                      ["generate", "tiny.yaml", "--dry-run"], ["train", "tiny.yaml", "--dry-run"], ["evaluate", "tiny.yaml", "--dry-run"],
                      ["export", "safetensors", self.run_folder, self.out / "x"], ["verify", self.pairs],
                      ["ask", self.run_folder, "--context", "My name is Lemo.", "What is your name?"]):
            done = self.run_it(*words, "--out", ".", "--json", "-")
            with self.subTest(words):
                json.loads(done.out)
        self.assertEqual([s["scale"] for s in json.loads(self.run_it("sweep", "--json", "-").out)["scales"]][:2], ["0.5B", "0.6B"])
        design = json.loads(self.run_it("sweep", SOURCE, "--dry-run", "--json", "-").out)
        self.assertEqual((len(design["categories"]), design["models"][0]["scale"]), (13, "custom"))

    def test_import_and_export_say_what_they_made(self):
        done = self.run_it("export", "safetensors", self.run_folder, "x")
        self.assertRegex(done.out, r"^x: 3 files, .*\n$")
        made = json.loads(self.run_it("export", "safetensors", self.run_folder, "y", "--json", "-").out)
        self.assertEqual([f["file"] for f in made["files"]], ["SHA256SUMS", "projector.json", "projector.safetensors"])
        for file in made["files"]:
            self.assertEqual((self.out / "y" / file["file"]).stat().st_size, file["bytes"])
        kept = (self.run_folder / "ridge/projector.safetensors").read_bytes()
        self.assertEqual((self.out / "y/projector.safetensors").read_bytes(), kept)

    def test_export_on_a_full_disk_is_7_in_our_words(self):
        for operation in range(1, 40):
            done = self.run_it("export", "safetensors", self.run_folder, "x", code=7, env={"KVLINGUA_FAULT": f"enospc@{operation}"})
            self.assertNotIn("filesystem error", done.err)
            if "projector.safetensors: cannot be written" in done.err:
                break
        self.assertRegex(done.err, r"projector\.safetensors: cannot be written: got No space left on device \(\d+ bytes needed, \d+ free\)")
        self.assertEqual([p.name for p in self.out.iterdir() if "partial" in p.name or p.name == "x"], [])

    def test_verify_looks_at_every_path(self):
        shard = next(self.pairs.glob("shard-*.h5"))
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        done = self.run_it("verify", self.run_folder, "nowhere", self.pairs, code=6)
        self.assertIn(f"{shard}: ", done.out)
        self.assertIn("ridge_aligned: clean", done.out)
        self.assertIn("kvlingua: ", done.err)
        self.assertIn("nowhere: neither a pair set", done.err)
        self.refused("verify", self.run_folder, "nowhere", code=4, parts=["nowhere"])
        listed = json.loads(self.run_it("verify", "nowhere", self.pairs, "--json", "-", code=6).out)
        self.assertEqual([bool(r["problems"]) for r in listed], [True, True])

    def test_a_set_that_no_recipe_knows_is_refused_everywhere(self):
        for words in (["inspect", SOURCE, "--prompt", "hi"], ["verify", self.pairs], ["export", "safetensors", self.run_folder, "x"],
                      ["import", "c2c", self.run_folder, "x"]):
            self.refused(*words, "--set", "data.max_lenght=3", code=2, parts=["--set data.max_lenght=3", "did you mean max_length?"])

    def test_words_of_our_own(self):
        for words, part in ((["ask"], "RECIPE|CHECKPOINT QUESTION is required"), (["import", "c2c"], "FORMAT FROM TO"),
                            (["generate", "a", "b"], "expected RECIPE"), (["train", "tiny.yaml", "--json"], "--json: expected FILE|-"),
                            (["train", "tiny.yaml", "--stgae", "ridge"], "did you mean --stage?")):
            done = self.refused(*words, code=2, parts=[part])
            self.assertNotRegex(done.err, r"At Most|required but|_")
        self.assertNotIn("did you mean", self.refused("generate", "tiny.yaml", "--frob", code=2, parts=["unknown option --frob"]).err)
        (self.out / "empty.txt").write_text("\n\n")
        self.refused("inspect", SOURCE, "--prompts", "empty.txt", code=4, parts=["empty.txt", "holds no prompt"])

    def test_seed_stands_in_what_is_shown_and_kept(self):
        shown = self.run_it("recipe", "show", "tiny.yaml", "--seed", "5").out
        self.assertIn("seeds: [5]", shown)
        self.assertEqual(shown, self.run_it("recipe", "show", "tiny.yaml", "--set", "data.seed=5", "--set", "train.seed=5", "--set", "eval.seeds=[5]",
                                            "--set", "sweep.seed=5", "--set", "identity.seed=5").out)
        self.assertIn(shown, self.run_it("train", "tiny.yaml", "--dry-run", "--out", ".", "--seed", "5").out)
        self.run_it("train", "tiny.yaml", "--out", ".", "--restart", "-q", "--seed", "5")
        kept = (self.run_folder / "ridge/recipe.yaml").read_text()
        self.assertIn("\n  seed: 5\n", kept.split("\ntrain:")[1].split("\ncheckpoint:")[0])
        self.run_it("train", "tiny.yaml", "--out", ".", "-q", "--seed", "5")  # the same again: done already

    def test_a_stage_without_the_one_before_it_is_said(self):
        shutil.rmtree(self.run_folder)
        words = ["train", "tiny.yaml", "--out", ".", "-q", "--stage", "regression", "--set", "train.stages=[ridge,regression]",
                 "--set", "projector.kind=mlp", "--set", "train.regression.batch.steps=2"]
        self.assertIn("regression begins with an untrained map: ridge has not run", self.run_it(*words).err)
        self.assertNotIn("untrained", self.run_it(*words).err)

    def until_it_watches(self, child):
        """Signals are blocked, and waited for, from the moment the library is there; before that they end the process."""
        end = time.time() + 60
        while time.time() < end and child.poll() is None:
            status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            if int(status.split("SigBlk:")[1].split()[0], 16) & 1 << (signal.SIGTERM - 1):
                return
            time.sleep(0.05)
        self.fail("it never watched for signals")

    def test_verify_and_inspect_hear_a_signal(self):
        for words in (["inspect", SOURCE, "--prompt", "hi", "--determinism", 10**6], ["verify", *[self.run_folder] * 20000]):
            for sent, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
                # In the background of a shell SIGINT may be ignored on purpose.
                child = subprocess.Popen([PROGRAM, *map(str, words)], cwd=self.out, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
                self.until_it_watches(child)
                child.send_signal(sent)
                _, err = child.communicate(timeout=60)
                self.assertEqual(child.returncode, code, err)
                self.assertIn(b"stopped by", err)

    def test_why_there_is_no_verdict_is_said(self):
        done = self.run_it(*self.evaluate(), code=3)
        self.assertRegex(done.out, r"(?m)^identity: inconclusive \(exploratory\): \d\.\d+ \[.*\] against 0\.9, \d+ items$")
        self.assertRegex(done.out, r"(?m)^parametric_knowledge: inconclusive \(exploratory\): 0 items$")
        self.assertRegex(done.out, r"(?m)^withheld: .*noise, shuffled, averaged and wrong_text not among eval\.conditions$")

    def test_a_fifo_is_no_ledger_and_no_shard(self):
        os.mkfifo(self.run_folder / "looks.jsonl")
        self.refused(*self.evaluate(), code=4, parts=["looks.jsonl"])
        shard = next(self.pairs.glob("shard-*.h5"))
        shard.unlink()
        os.mkfifo(shard)
        self.assertIn(f"{shard}: ", self.run_it("verify", self.pairs, code=6).out)
        self.refused("train", "tiny.yaml", "--out", ".", "--restart", "-q", code=6, parts=[shard.name])

    def test_a_damaged_training_state_is_6_and_names_its_field(self):
        """Hashes that fit, and numbers or tensors that no run has written: file, field, got, expected, remedy."""
        words = ["train", "tiny.yaml", "--out", ".", "-q", "--set", "train.stages=[ridge,regression]", "--set", "projector.kind=mlp",
                 "--set", "train.regression.batch.steps=4", "--set", "checkpoint.every=2"]
        self.run_it(*words, "--restart")
        shutil.rmtree(self.run_folder / os.readlink(self.run_folder / "regression"))
        step = max(self.run_folder.glob("step-*"))
        state, tensors = (step / name for name in ("state.json", "optimizer.safetensors"))
        kept = {path: path.read_bytes() for path in (state, tensors)}
        result = json.loads(kept[state])["results"][0]
        for field, change in (("rate", {"rate": 2**62}), ("rate", {"rate": 0}), ("step", {"step": 2**62}), ("seconds", {"seconds": "x"}),
                              ("global_step", {"global_step": -1}), ("metrics_bytes", {"metrics_bytes": 1e300}), ("best_step", {"best_step": 9}),
                              ("loss_scale.finite_steps", {"loss_scale": {"factor": 1, "finite_steps": 2**40, "skipped": 0}}),
                              ("results[0].tokens", {"results": [{**result, "tokens": 1.5}]}), ("stage_finished", {"stage_finished": 2})):
            state.write_text(json.dumps({**json.loads(kept[state]), **change}))
            seal(step)
            with self.subTest(field):
                done = self.refused(*words, "--json", "-", code=6, parts=[f"state.json: {field}: ", "got ", "expected ", "; use an older checkpoint"])
                told = json.loads(done.out)
                self.assertEqual((told["exit_code"], told["error"]["where"].split("state.json: ")[1]), (6, field))
                self.assertIn(f"state.json: {field}: ", self.run_it("verify", step, code=6).out)
        state.write_bytes(kept[state])
        length = struct.unpack("<Q", kept[tensors][:8])[0]
        header, data = json.loads(kept[tensors][8:8 + length]), kept[tensors][8 + length:]
        for name, change, value in (("first_moment", {}, b"\x00\x00\xc0\x7f"), ("second_moment", {}, b"\x00\x00\x80\x7f"),
                                    ("second_moment", {}, b"\x00\x00\x80\xbf"), ("first_moment", {"dtype": "I32"}, b""),
                                    ("second_moment", {"shape": [1, *header["second_moment"]["shape"]]}, b""),
                                    ("steps", {"dtype": "F64"}, b""), ("steps", {}, struct.pack("<q", 2**62))):
            begin = header[name]["data_offsets"][0]
            text = json.dumps({**header, name: {**header[name], **change}}).encode()
            tensors.write_bytes(struct.pack("<Q", len(text)) + text + data[:begin] + value + data[begin + len(value):])
            seal(step)
            with self.subTest(name, change=change, value=value):
                self.refused(*words, code=6, parts=[f"optimizer.safetensors: tensor {name}: ", "; use an older checkpoint"])
        tensors.write_bytes(kept[tensors])
        seal(step)
        self.run_it(*words)

    def test_deep_json_is_a_damaged_file(self):
        looks = self.run_folder / "looks.jsonl"
        looks.write_text('{"look": ' + DEEP + "}\n")
        # What cannot be read was a look all the same: counted, and the run goes on.
        looked = json.loads(self.run_it(*self.evaluate("--json", "-"), code=3).out)["looks"]
        self.assertEqual(len(looks.read_text().splitlines()), 2)
        self.assertEqual(looked["of_the_run"], 2)
        checkpoint = (self.run_folder / "ridge").resolve()
        state = checkpoint / "state.json"
        state.write_text('{"stage": ' + DEEP + "}")
        seal(checkpoint)
        for words in (["verify", checkpoint], self.evaluate("--checkpoint", checkpoint), ["train", "tiny.yaml", "--out", ".", "-q"]):
            done = self.run_it(*words, code=6)
            self.assertIn("state.json", done.out + done.err)

    def test_a_context_of_windows_and_of_a_pipe(self):
        asked = ["ask", self.run_folder, "-q", "--context"]
        question = "What is your name?"
        direct = self.run_it(*asked, "My name is Lemo.", question).out
        marked = self.out / "bom.txt"
        marked.write_bytes("\ufeffMy name is Lemo.\r\n".encode())
        self.assertEqual(self.run_it(*asked, marked, question).out, direct)
        with marked.open("rb") as stream:
            self.assertEqual(self.run_it(*asked, "-", question, stdin=stream).out, direct)
        words = " ".join(map(str, asked))
        done = subprocess.run(["bash", "-c", f'{PROGRAM} {words} <(printf "My name is Lemo.\\n") "{question}"'], cwd=self.out, env=ENV,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, direct), done.stderr)


if __name__ == "__main__":
    unittest.main()
