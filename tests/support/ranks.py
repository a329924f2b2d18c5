"""Several processes of one training run on this machine, for tests: by hand and under torchrun; strangers at their ports; a
process that stops itself at a chosen moment."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STARTERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE", "SLURM_PROCID", "SLURM_NTASKS")
END_WITHIN = 30  # seconds that a run may last after one of its processes has gone

RECIPE = f"""name: tiny
pair: {{source: {{name: {ROOT}/checkpoints/nano/source}}, target: {{name: {ROOT}/checkpoints/nano/target}}}}
data: {{kind: synthetic, synthetic: {{style: nano, documents: 40}}, max_length: 64, batch_tokens: 512}}
projector: {{kind: mlp, ridge: {{lambda: [1e-4]}}, mlp: {{hidden: 16, depth: 1}}}}
train: {{stages: [ridge, regression], log_every: 1, regression: {{optimizer: {{lr: 1e-3}}, batch: {{size: 64, steps: 20}}}}}}
checkpoint: {{every: 1000}}
"""
LAST_CHECKPOINT = "step-000021"  # one step of ridge, twenty of regression
LONG = ("--set", "train.regression.batch.steps=1000000")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if k not in STARTERS}
    return {**clean, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


class Folder:
    """A recipe, its pairs, and the losses of one process that trains alone."""

    def __init__(self, program, path):
        self.program, self.path = program, pathlib.Path(path)
        (self.path / "tiny.yaml").write_text(RECIPE)
        self.words = [program, "train", str(self.path / "tiny.yaml"), "--out", str(self.path)]
        subprocess.run([program, "generate", *self.words[2:], "-q"], check=True, env=environment(), stdout=subprocess.DEVNULL)
        self.alone("one")
        self.expected = self.losses("one")
        assert len(self.expected) == 20, self.expected

    def command(self, name, *more):
        return [*self.words, "--set", f"checkpoint.name={name}", *more]

    def alone(self, name):
        done = subprocess.run(self.command(name), env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self, name):
        return self.path / "checkpoints" / name

    def steps(self, name):
        try:
            lines = (self.run(name) / "metrics.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if '"loss"' in line and line.endswith("}")]

    def losses(self, name):
        return [json.loads(line)["loss"] for line in self.steps(name)]

    def check_losses(self, name):
        """Those of one process up to the order of additions."""
        mine = self.losses(name)
        assert len(mine) == len(self.expected), f"{name}: {len(mine)} steps instead of {len(self.expected)}"
        for a, b in zip(mine, self.expected):
            assert abs(a - b) <= 1e-5 * abs(b), f"{name}: loss {a} instead of {b}"


class Ranks:
    """Processes that are started one by one, as an environment of torchrun's would."""

    def __init__(self, folder, name, size=2, more=()):
        self.folder, self.name, self.size, self.more = folder, name, size, more
        self.port, self.processes = free_port(), {}

    def __enter__(self):
        return self

    def __exit__(self, *what):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    def log(self, rank):
        return self.folder.path / f"{self.name}.{rank}.log"

    def said(self, rank):
        return self.log(rank).read_text(errors="replace")

    def start(self, *ranks, env=None):
        for rank in ranks:
            with open(self.log(rank), "wb") as log:
                self.processes[rank] = subprocess.Popen(
                    self.folder.command(self.name, *self.more), stdout=log, stderr=log,
                    env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(self.size), MASTER_ADDR="127.0.0.1",
                                    MASTER_PORT=str(self.port), **(env or {})))

    def wait_for(self, what, seconds=60):
        end = time.monotonic() + seconds
        while not what():
            for rank, process in self.processes.items():
                assert process.poll() is None, f"process {rank} ended with {process.returncode}: {self.said(rank)}"
            assert time.monotonic() < end, "waited in vain: " + "\n".join(self.said(r) for r in self.processes)
            time.sleep(0.01)

    def wait_for_step(self, step):
        self.wait_for(lambda: len(self.folder.steps(self.name)) >= step)

    def wait_for_port(self):
        def open_port():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        self.wait_for(open_port)

    def kill(self, rank, how=signal.SIGKILL):
        self.processes[rank].send_signal(how)

    def end(self, *ranks, seconds=END_WITHIN):
        """The exit codes; all must end within `seconds` from now."""
        end = time.monotonic() + seconds
        codes = []
        for rank in ranks:
            try:
                codes.append(self.processes[rank].wait(max(0.1, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"process {rank} still runs after {seconds} s: {self.said(rank)}") from None
        return codes

    def listening(self, rank):
        """Ports at which a process listens."""
        inodes = set()
        for file in pathlib.Path(f"/proc/{self.processes[rank].pid}/fd").iterdir():
            try:
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(file)))
            except OSError:
                pass
        ports = set()
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and words[9] in inodes:
                    ports.add(int(words[1].split(":")[1], 16))
        return ports


class Case(unittest.TestCase):
    """Tests of processes in one folder; `program` is set by the file that holds them."""
    program = None

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Folder(cls.program, cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def assert_named(self, run, rank, *parts):
        """The last line that a process said is its error, and names these."""
        last = run.said(rank).strip().splitlines()[-1]
        for part in parts:
            self.assertIn(part, last)

    def under_torchrun(self, name, *options, **how):
        code, said = under_torchrun(self.folder, name, *options, **how)
        if code is None:
            self.skipTest("no torchrun: " + said)
        return code, said


class Strangers:
    """Who has no business at a port: one asks for a page, one sends noise, one zeros without end, one half a message of the
    store's own protocol and then nothing, one says nothing at all, one hangs up at once."""

    # c10d's TCPStore: VALIDATE (1 byte, 3) and its magic number; SET is 0 and a length of eight bytes follows.
    VALIDATE = bytes([3]) + (0x3C85F7CE).to_bytes(4, "little")
    HALF_SET = bytes([0]) + (1 << 20).to_bytes(8, "little") + b"hello/1"

    def __init__(self):
        self.sockets, self.running, self.threads = [], True, []

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.running = False
        for s in self.sockets:
            s.close()
        for thread in self.threads:
            thread.join()

    def connect(self, port):
        s = socket.create_connection(("127.0.0.1", port), 5)
        s.settimeout(0.2)
        self.sockets.append(s)
        return s

    def send(self, port, data):
        try:
            self.connect(port).sendall(data)
        except OSError:
            pass  # hung up on

    def flood(self, port):
        def work(s):
            while self.running:
                try:
                    s.send(bytes(1 << 16))
                except TimeoutError:
                    pass
                except OSError:
                    return
                time.sleep(0.01)
        self.threads.append(threading.Thread(target=work, args=(self.connect(port),)))
        self.threads[-1].start()

    def visit(self, port):
        self.send(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        self.send(port, os.urandom(1 << 18))
        self.send(port, self.VALIDATE + self.HALF_SET)
        self.send(port, self.VALIDATE[:3])
        self.connect(port)
        self.connect(port).close()
        self.flood(port)


# The first rename() to a name with $STOP_AT in it stops the process, until somebody lets it go on.
STOPPER = """#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int rename(const char* a, const char* b) {
  static int (*real)(const char*, const char*);
  if (!real) real = dlsym(RTLD_NEXT, "rename");
  const char* at = getenv("STOP_AT");
  static int stopped;
  if (at && !stopped && strstr(b, at)) stopped = 1, kill(getpid(), SIGSTOP);
  return real(a, b);
}
"""


def stopper(folder, at):
    """Variables under which a process stops itself at that moment; None where there is no compiler."""
    (folder.path / "stop.c").write_text(STOPPER)
    if subprocess.run(["cc", "-shared", "-fPIC", "-o", "stop.so", "stop.c"], cwd=folder.path).returncode != 0:
        return None
    return {"LD_PRELOAD": str(folder.path / "stop.so"), "STOP_AT": at}


def is_stopped(process):
    return pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def torchrun():
    """Command and variables of a torchrun; None, and why, where there is none."""
    for site in (os.environ.get("KVLINGUA_TORCH_ROOT", "") + "/..", str(ROOT / ".deps/site"), *sys.path):
        if pathlib.Path(site, "torch/distributed/run.py").exists():
            return [sys.executable, "-m", "torch.distributed.run", "--no-python"], environment(PYTHONPATH=site)
    return None, "no torch with Python in KVLINGUA_TORCH_ROOT, .deps or python3"


def under_torchrun(folder, name, *options, processes=2, more=(), seconds=120):
    """(exit code, what was said) of a real torchrun with so many processes; None for a code where it cannot run, and why."""
    command, env = torchrun()
    if command is None:
        return None, env
    done = subprocess.run([*command, *options, f"--nproc-per-node={processes}", *folder.command(name, *more)], env=env, capture_output=True,
                          text=True, timeout=seconds)
    if "ModuleNotFoundError" in done.stderr:
        return None, done.stderr.strip().splitlines()[-1]
    return done.returncode, done.stdout + done.stderr


def processes_with(word, program, **variables):
    """Numbers of the running processes of a program that have this word in their command and these variables."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            theirs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0] == program and word in words and all(f"{k}={v}" in theirs for k, v in variables.items()):
            found.append(int(folder.name))
    return found
