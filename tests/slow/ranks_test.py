#!/usr/bin/env python3
"""ranks_test.py KVLINGUA: processes of one training run where noticing takes long: one that dies or freezes while the others
wait for each other or train, and the other ways to start under torchrun (the quick ones are tests/cli/ranks_test.py)."""
import os
import pathlib
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import ranks  # noqa: E402

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())


class Processes(ranks.Case):
    program = PROGRAM

    def test_torchrun_static(self):
        code, said = self.under_torchrun("static", "--nnodes=1", "--master-addr=127.0.0.1", f"--master-port={ranks.free_port()}")
        self.assertEqual(code, 0, said)
        self.folder.check_losses("static")

    def test_torchrun_c10d(self):
        code, said = self.under_torchrun("c10d", "--nnodes=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{ranks.free_port()}",
                                         "--rdzv-id=a-run")
        self.assertEqual(code, 0, said)
        self.folder.check_losses("c10d")

    def test_torchrun_two_agents(self):
        # As on two machines: an agent each, one process each, rendezvous at the first one's port.
        options = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{ranks.free_port()}", "--rdzv-id=two",
                   "--local-addr=127.0.0.1"]
        codes = {}

        def agent(i):
            codes[i] = ranks.under_torchrun(self.folder, "agents", *options, processes=1)
        agents = [threading.Thread(target=agent, args=(i,)) for i in range(2)]
        for one in agents:
            one.start()
        for one in agents:
            one.join()
        if codes[0][0] is None:
            self.skipTest("no torchrun: " + codes[0][1])
        self.assertEqual([codes[0][0], codes[1][0]], [0, 0], codes)
        self.folder.check_losses("agents")

    def test_torchrun_ends_when_a_process_is_killed(self):
        ended = {}

        def agent():
            ended["result"] = ranks.under_torchrun(self.folder, "agent", "--standalone", more=ranks.LONG)
            ended["at"] = time.monotonic()
        watched = threading.Thread(target=agent)
        watched.start()
        end = time.monotonic() + 60
        while len(self.folder.steps("agent")) < 5 and time.monotonic() < end and watched.is_alive():
            time.sleep(0.05)
        victims = ranks.processes_with("checkpoint.name=agent", program=PROGRAM, RANK="1")
        if victims:
            killed = time.monotonic()
            os.kill(victims[0], signal.SIGKILL)
        watched.join()
        code, said = ended["result"]
        if code is None:
            self.skipTest("no torchrun: " + said)
        self.assertEqual(len(victims), 1, said)
        self.assertEqual(code, 1, said)
        self.assertLess(ended["at"] - killed, ranks.END_WITHIN)
        self.assertEqual(ranks.processes_with("checkpoint.name=agent", program=PROGRAM), [])

    def test_a_peer_that_dies_at_rendezvous(self):
        # Of three processes the last never comes; one of the two that wait dies.
        for victim in (1, 0):
            with ranks.Ranks(self.folder, f"early-{victim}", size=3) as run:
                run.start(0, 1)
                run.wait_for(lambda: all("waiting at" in run.said(r) for r in (0, 1)))
                self.assertIn("waiting at 127.0.0.1", run.said(1))
                run.kill(victim)
                self.assertEqual(run.end(1 - victim), [1], run.said(1 - victim))
                self.assert_named(run, 1 - victim, f"process {victim} has come and gone")
                if victim != 0:
                    self.assertFalse((self.folder.run(run.name) / ".ranks.pem").exists(), "the secret was left behind")

    def test_a_signal_ends_the_wait_for_others(self):
        with ranks.Ranks(self.folder, "told", size=3) as run:
            run.start(0, 1)
            run.wait_for(lambda: all("waiting at" in run.said(r) for r in (0, 1)))
            for rank in (0, 1):
                run.kill(rank, signal.SIGTERM)
            self.assertEqual(run.end(0, 1, seconds=5), [75, 75])

    def test_a_frozen_peer_is_given_up(self):
        for victim in (1, 0):
            with ranks.Ranks(self.folder, f"frozen-{victim}", more=ranks.LONG) as run:
                run.start(0, 1)
                run.wait_for_step(5)
                run.kill(victim, signal.SIGSTOP)
                self.assertEqual(run.end(1 - victim), [1], run.said(1 - victim))
                self.assert_named(run, 1 - victim, f"process {victim}", "it has not answered for 15 s")

    def test_four_processes_lose_one(self):
        with ranks.Ranks(self.folder, "four", size=4, more=ranks.LONG) as run:
            run.start(0, 1, 2, 3)
            run.wait_for_step(5)
            run.kill(2)
            self.assertEqual(run.end(0, 1, 3), [1, 1, 1])
            for rank in (0, 1, 3):
                self.assert_named(run, rank, "process 2")


if __name__ == "__main__":
    unittest.main()
