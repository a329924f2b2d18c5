#!/usr/bin/env python3
"""sound_test.py KVLINGUA: what people's machines, shells and files do to the program, on the embedded pair."""
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
import zipfile

program = str(pathlib.Path(sys.argv[1]).resolve())
root = pathlib.Path(__file__).resolve().parents[2]
nano = root / "checkpoints/nano"
if not (nano / "source/config.json").exists():
    print("SKIPPED: no embedded pair in checkpoints/nano")
    sys.exit(0)
env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*words, code=0, more=None, **how):
    done = subprocess.run([program, *map(str, words)], capture_output=True, cwd=folder, env={**env, **(more or {})}, **how)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert code is None or done.returncode == code, f"{words}: exit code {done.returncode} instead of {code}\n{text}"
    done.text = text
    return done


def preload(source):
    """A library that replaces a system call, as some file systems do."""
    (folder / "s.c").write_text(source)
    if subprocess.run(["cc", "-shared", "-fPIC", "-o", "s.so", "s.c"], cwd=folder).returncode != 0:
        return None
    return {"LD_PRELOAD": str(folder / "s.so")}


def tree(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file() and p.name not in (".lock", "metrics.jsonl")}


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / "tiny.yaml").write_text(f"""name: tiny
pair: {{source: {{name: {nano}/source}}, target: {{name: {nano}/target}}}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 120}}, max_length: 128, shard_bytes: 4MiB}}
projector: {{kind: mlp, ridge: {{lambda: [1e-4]}}, mlp: {{hidden: 16, depth: 1}}}}
train: {{stages: [ridge, regression], regression: {{optimizer: {{lr: 1e-3}}, batch: {{size: 64, steps: 30}}}}}}
checkpoint: {{every: 10, keep_last: 2}}
eval: {{families: [identity], items: 4, conditions: [baseline, full_text, ridge, mlp], gated: mlp}}
""")
    run("generate", "tiny.yaml", "--out", "o", "-q")
    run("train", "tiny.yaml", "--out", "o", "-q")
    tiny = folder / "o/checkpoints/tiny"

    # A finished stage and another recipe, other pairs: refused with the field and both ways on, and nothing is changed.
    before = tree(tiny)
    for key in ("train.regression.optimizer.lr=0.5", "train.regression.batch.steps=60", "projector.mlp.hidden=32"):
        said = run("train", "tiny.yaml", "--out", "o", "-q", "--set", key, code=4).text
        assert key.split("=")[0] + " differs" in said and "--restart" in said and "checkpoint.name" in said, said
    shutil.copytree(folder / "o", folder / "p", symlinks=True)
    run("generate", "tiny.yaml", "--out", "p", "-q", "--seed", "7", "--restart")
    said = run("train", "tiny.yaml", "--out", "p", "-q", code=4).text
    assert "other pairs" in said, said
    assert tree(tiny) == before, "a refusal changed the run"
    # Pairs made otherwise than the recipe says: said, and nothing was trained, so the run keeps its recipe.
    said = run("train", "tiny.yaml", "--out", "o", "--set", "data.max_length=64").text
    assert "data.max_length 128" in said, said
    assert tree(tiny) == before, "a run that trained nothing changed its folder"
    # A seed of the data that changed: named where nothing was made anew, and where the pairs were.
    said = run("train", "tiny.yaml", "--out", "o", "--set", "data.seed=9").text
    assert "data.seed 1, the recipe says 9" in said, said
    run("generate", "tiny.yaml", "--out", "p", "-q", "--set", "data.seed=9", "--restart")
    said = run("train", "tiny.yaml", "--out", "p", "-q", "--set", "data.seed=9", code=4).text
    assert "other pairs: their hash differs, data.seed was 1 and is 9" in said, said
    run("train", "tiny.yaml", "--out", "o", "-q")
    # Judged by another recipe, or unfinished: the report says so.
    run("evaluate", "tiny.yaml", "--out", "o", "-q", "--set", "projector.mlp.hidden=32", code=None)
    report = json.loads((tiny / "eval/report.json").read_text())
    assert any(f["name"] == "recipe_differs" and "projector.mlp.hidden" in f["text"] for f in report["findings"]), report["findings"]
    shutil.copytree(folder / "o", folder / "u", symlinks=True)
    unfinished = folder / "u/checkpoints/tiny"
    shutil.rmtree(unfinished / os.readlink(unfinished / "regression"))
    run("evaluate", "tiny.yaml", "--out", "u", "-q", code=None)
    report = json.loads((unfinished / "eval/report.json").read_text())
    assert any(f["name"] == "stage_not_finished" and "step 30 of 30" not in f["text"] and "of 30" in f["text"] for f in report["findings"]), report["findings"]

    # Answers are kept, however the folder is spelled and wherever the run went.
    answers = (tiny / "eval/generations.jsonl").read_bytes()
    (folder / "moved").mkdir()
    shutil.move(folder / "o", folder / "moved/o")
    said = run("evaluate", "tiny.yaml", "--out", folder / "moved" / "." / "o", "--set", "projector.mlp.hidden=32", code=None).text
    assert "another evaluation" not in said, said
    assert "moved/o/checkpoints/tiny/ridge" in run("train", "tiny.yaml", "--out", "moved/o", "-q").text
    assert (folder / "moved/o/checkpoints/tiny/eval/generations.jsonl").read_bytes() == answers
    run("evaluate", "tiny.yaml", "--out", "moved/o", "-q", "--set", "eval.items=3", code=None)
    aside = folder / "moved/o/checkpoints/tiny/eval/generations.other-1.jsonl"
    assert aside.read_bytes() == answers, "answers of another evaluation were not kept"
    shutil.move(folder / "moved/o", folder / "o")

    # Descriptors 0 to 2 closed: no log line ends up in a file.
    shutil.rmtree(folder / "p")
    shutil.copytree(folder / "o/datasets", folder / "p/datasets")
    assert subprocess.run(["bash", "-c", f"'{program}' train tiny.yaml --out p --set train.log_every=1 <&- >&- 2>&-"], cwd=folder, env=env).returncode == 0
    for line in (folder / "p/checkpoints/tiny/metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert (folder / "p/checkpoints/tiny/.lock").read_bytes() == b""

    # A closed terminal saves and stops; a closed log pipe stops nothing.
    shutil.rmtree(folder / "p/checkpoints")
    long = ["--set", "train.regression.batch.steps=100000", "--set", "train.log_every=1"]
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen([program, "train", "tiny.yaml", "--out", "p", *long], cwd=folder, env=env, stdout=log, stderr=log)
        while b"step 5/" not in (folder / "log").read_bytes():
            assert running.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        running.send_signal(signal.SIGHUP)
        assert running.wait(60) == 75, (folder / "log").read_text()
    assert "saved" in (folder / "log").read_text()
    shutil.rmtree(folder / "p/checkpoints")
    done = subprocess.run(["bash", "-c", f"('{program}' train tiny.yaml --out p --set train.log_every=1 2>&1; echo $? > rc) | head -1 > /dev/null; cat rc"], cwd=folder, env=env, capture_output=True, text=True)
    assert done.stdout.strip() in ("0", "1"), done.stdout  # 1: its own result line found nobody
    assert (folder / "p/checkpoints/tiny/regression").exists()

    # No locks, no symbolic links.
    for errno in (37, 95, 38):
        library = preload(f"#include <errno.h>\nint flock(int a,int b){{errno={errno};return -1;}}\n")
        if library is None:
            break
        run("verify", "o/datasets/tiny", more=library)
    # A file system that maps no files: the weights are read instead.
    library = preload("""#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
void* mmap(void* a, size_t n, int p, int f, int d, off_t o) {
  static void* (*real)(void*, size_t, int, int, int, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "mmap");
  char name[64], file[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", d);
  const ssize_t length = d < 0 ? -1 : readlink(name, file, sizeof file - 1);
  file[length > 0 ? length : 0] = 0;
  if (strstr(file, ".safetensors")) return errno = ENODEV, MAP_FAILED;
  return real(a, n, p, f, d, o);
}
void* mmap64(void* a, size_t n, int p, int f, int d, off_t o) { return mmap(a, n, p, f, d, o); }
""")
    if library is not None:
        run("inspect", nano / "source", "--prompt", "hi", "-q", "--dump", "plain.safetensors")
        run("inspect", nano / "source", "--prompt", "hi", "-q", "--dump", "copied.safetensors", "--layer-streaming", more=library)
        assert (folder / "plain.safetensors").read_bytes() == (folder / "copied.safetensors").read_bytes()
    library = preload("#include <errno.h>\nint symlink(const char*a,const char*b){errno=EPERM;return -1;}\n")
    if library is not None:
        shutil.rmtree(folder / "p/checkpoints")
        run("train", "tiny.yaml", "--out", "p", "-q", more=library)
        assert not (folder / "p/checkpoints/tiny/ridge").is_symlink()
        run("evaluate", "tiny.yaml", "--out", "p", "-q", "--checkpoint", "p/checkpoints/tiny/ridge", "--set", "eval.gated=ridge", code=None, more=library)
        run("verify", "p/checkpoints/tiny/latest", more=library)

    # A pair set that is not finished is not clean, and a damaged manifest is named once.
    shutil.copytree(folder / "o/datasets/tiny", folder / "half")
    manifest = (folder / "half/manifest.json").read_text().splitlines()
    above = "\n".join(line for line in manifest[:-1] if not line.startswith('{"path":')) + "\n"
    (folder / "half/manifest.json").write_text(above + '"sha256_of_lines_above": "' + hashlib.sha256(above.encode()).hexdigest() + '"}\n')
    assert run("verify", "half").text.splitlines()[-1] == f"half: whole so far, not finished: generate goes on"
    (folder / "half/manifest.json").write_text("{}")
    assert "half/half" not in run("verify", "half", code=6).text

    # A file of escapes is not obeyed.
    shutil.copytree(folder / "o/checkpoints/tiny" / os.readlink(tiny / "ridge"), folder / "c")
    text = (folder / "c/projector.json").read_text().replace('"ridge"', '"\\u001b[2J\\u202eridge\\nkvlingua: c: clean"', 1)
    (folder / "c/projector.json").write_text(text)
    said = run("verify", "c", code=6).text
    assert "\x1b" not in said and "\u202e" not in said and "\nkvlingua: c: clean" not in said, repr(said)
    for deep in ('{"0":{"1":{"0":' + "[" * 100000 + "]" * 100000 + "}}}", "[" * 1000000):
        (folder / "w").mkdir(exist_ok=True)
        (folder / "w/projector_config.json").write_text(deep)
        (folder / "w/projector_0.json").write_text("{}")
        (folder / "w/projector_0.pt").write_bytes(b"")
        said = run("import", "c2c", "w", "x", code=6).text
        assert "nested deeper" in said, said

    # A small archive whose names share one tensor does not become a large one.
    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def number(n):
        return b"J" + struct.pack("<i", n)

    shared = b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(1 << 18) + b"tQ" + number(0) + b"(" + number(1 << 18) + b"t(" + number(1) + b"t\x89ccollections\nOrderedDict\n)RtR"
    names = b"".join(text(f"k{i}") + b"h\x01" for i in range(20000))
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R(" + text("a") + shared + b"q\x01" + names + b"u."
    (folder / "b").mkdir()
    with zipfile.ZipFile(folder / "b/projector_0.pt", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("projector_0/data.pkl", pickled)
        archive.writestr("projector_0/data/0", bytes(1 << 20))
    args = {"source_dim": 4, "target_dim": 4, "source_num_heads": 1, "target_num_heads": 1, "hidden_dim": 4, "intermediate_dim": 4, "num_layers": 3}
    (folder / "b/projector_0.json").write_text(json.dumps({"class": "C2CProjector", "init_args": args}))
    (folder / "b/projector_config.json").write_text('{"0":{"1":{"0":[[0,0]]}}}')
    # An address sanitizer maps more than any limit.
    limit = "" if b"__asan_init" in pathlib.Path(program).read_bytes() else "ulimit -v 6000000; "
    limited = subprocess.run(["bash", "-c", f"{limit}exec '{program}' import c2c b y"], cwd=folder, env=env, capture_output=True, text=True)
    assert limited.returncode in (4, 6) and "memory" not in limited.stderr, (limited.returncode, limited.stderr)

    # Names: a slash at the end, the user's own files, two of one name.
    (folder / "mine.partial").mkdir()
    (folder / "mine.partial/notes.txt").write_text("mine")
    run("export", "safetensors", tiny / "ridge", "mine")
    assert (folder / "mine.partial/notes.txt").read_text() == "mine"
    run("export", "safetensors", tiny / "ridge", "out/")
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["SHA256SUMS", "projector.json", "projector.safetensors"]
    (folder / "r/datasets/tiny").mkdir(parents=True)
    (folder / "r/datasets/tiny/shard-notes.txt").write_text("mine")
    run("generate", "tiny.yaml", "--out", "r", "--restart", "--limit", "1", "-q")
    assert (folder / "r/datasets/tiny/shard-notes.txt").read_text() == "mine"

    # A run without its log of losses goes on; what has the name of a file and is none is not waited for.
    shutil.copytree(folder / "o", folder / "n", symlinks=True)
    run_folder = folder / "n/checkpoints/tiny"
    shutil.rmtree(run_folder / os.readlink(run_folder / "regression"))
    (run_folder / "metrics.jsonl").unlink()
    said = run("train", "tiny.yaml", "--out", "n").text
    assert "what was measured before is not in it" in said, said
    shutil.rmtree(run_folder / os.readlink(run_folder / "regression"))
    (run_folder / "metrics.jsonl").unlink()
    os.mkfifo(run_folder / "metrics.jsonl")
    assert "a FIFO" in run("train", "tiny.yaml", "--out", "n", "-q", code=4, timeout=60).text

    # A limit on the size of files is a full disk.
    limited = subprocess.run(["bash", "-c", f"ulimit -f 100; exec '{program}' generate tiny.yaml --out l -q"], cwd=folder, env=env, capture_output=True, text=True)
    assert limited.returncode == 7 and "ulimit" in limited.stderr, (limited.returncode, limited.stderr)

    # Small things of the command line.
    (folder / "p.txt").write_bytes(b"\xef\xbb\xbfhello\r\nthere\r\n")
    prompts = [p["prompt"] for p in json.loads(run("inspect", nano / "source", "--prompts", "p.txt", "-q", "--json", "-").stdout)["prompts"]]
    assert prompts == ["hello", "there"], prompts
    (folder / "real.json").write_text("x")
    (folder / "link.json").symlink_to("real.json")
    run("inspect", nano / "source", "--prompt", "hi", "-q", "--json", "link.json")
    assert (folder / "link.json").is_symlink() and json.loads((folder / "real.json").read_text())
    for seed in ("-1", "18446744073709551615", "x"):
        said = run("generate", "tiny.yaml", "--out", "s", "--seed", seed, code=2).text
        assert "9223372036854775807" in said, said
    for limit in ("-1", "0", "99999999999999999999", "2x"):
        said = run("generate", "tiny.yaml", "--out", "s", "--limit", limit, code=2).text
        assert "from 1 to 9223372036854775807" in said, said
    said = run("generate", "tiny.yaml", "--out", "s", "--set", os.fsdecode(b"pair.source.name=m\xff"), code=2).text
    assert "UTF-8" in said, said
    (folder / "e.yaml").write_text("")
    assert "pair.source.name is missing" in run("recipe", "check", "e.yaml", code=2).text
    assert "Note: be brief" in run("recipe", "show", "tiny.yaml", "--set", "pair.source.system=Note: be brief").text
    assert "is a folder" in run("recipe", "check", "r", code=2).text
    assert "is a folder" in run("ask", tiny / "regression", "--context", "r", "who?", code=4).text
    gone = subprocess.run(["bash", "-c", f"mkdir gone && cd gone && rmdir ../gone && exec '{program}' verify /"], cwd=folder, env=env, capture_output=True, text=True)
    assert gone.returncode == 4 and "working folder" in gone.stderr, (gone.returncode, gone.stderr)
    assert "neither a pair set" in run("verify", nano / "source", code=4).text
    assert "KVLINGUA_ROOT" in run("recipe", "ls", code=2, more={"KVLINGUA_ROOT": "/nonexistent"}).text
    os.mkfifo(folder / "pipe.jsonl")
    said = run("generate", "tiny.yaml", "--out", "s", "--set", "data.kind=jsonl", "--set", "data.files=[pipe.jsonl]", code=4, timeout=60).text
    assert "regular file" in said, said

    # Conversations that a template alters are skipped like malformed ones, and named by file and line.
    good = '{"conversations":null,"messages":[{"role":"user","content":"hello there"},{"role":"assistant","content":"hi you"}]}'
    think = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"<think>\\nhm\\n</think>\\n\\nb"}]}'
    (folder / "c.jsonl").write_text(think + "\n" + good + "\n")
    chat = ["generate", "tiny.yaml", "--out", "q", "--set", "data.kind=chat", "--set", "data.files=[c.jsonl]", "--set", "data.split=all", "--set", "data.validation=0"]
    assert "c.jsonl:1: " in run(*chat, "-q", code=4).text
    done = json.loads(run(*chat, "--skip-bad", "--json", "-").stdout)
    assert done["samples"] == 1 and done["skipped_documents"] == 1, done

    # Control tokens written in a text: said, and text where the recipe asks for it.
    (folder / "t.jsonl").write_text('{"text":"Tode lives in Bakar. <|im_end|>\\n<|im_start|>system\\nmore"}\n')
    texts = ["generate", "tiny.yaml", "--set", "data.kind=jsonl", "--set", "data.files=[t.jsonl]", "--set", "data.split=all", "--set", "data.validation=0"]
    assert "control tokens" in run(*texts, "--out", "t").text
    assert "control tokens" not in run(*texts, "--out", "t2", "--set", "data.split_control_tokens=true").text

    # Models: a revision, a head of their own, a file cut while it is read.
    hub = folder / "hub/models--Org--Nano"
    for revision, commit in (("main", "a" * 40), ("v2", "b" * 40)):
        shutil.copytree(nano / "source", hub / "snapshots" / commit)
        (hub / "refs").mkdir(exist_ok=True)
        (hub / "refs" / revision).write_text(commit + "\r\n")
    (hub / "snapshots" / ("b" * 40) / "notes.md").symlink_to("gone")  # a file nobody needs
    config = json.loads((hub / "snapshots" / ("b" * 40) / "config.json").read_text())
    config["rope_theta"] = 20000.0
    (hub / "snapshots" / ("b" * 40) / "config.json").write_text(json.dumps(config))
    cache = {"HF_HUB_CACHE": "$KVLINGUA_TEST_FOLDER/hub", "KVLINGUA_TEST_FOLDER": str(folder)}
    for revision, code in (("v2", 0), ("nonexistent", 4)):
        shutil.rmtree(folder / "h", ignore_errors=True)
        run("generate", "tiny.yaml", "--out", "h", "-q", "--limit", "2", "--set", "pair.source.name=Org/Nano", "--set", f"pair.source.revision={revision}", code=code, more=cache)
    shutil.copytree(nano / "source", folder / "m")
    reading = subprocess.Popen([program, "inspect", "m", "--prompt", "hello", "--determinism", "4000", "--layer-streaming"], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(2)
    os.truncate(folder / "m/model.safetensors", 100000)
    said = reading.communicate(timeout=120)[1].decode()
    assert reading.returncode in (4, 6) and "model.safetensors" in said, (reading.returncode, said)
print("ok")
