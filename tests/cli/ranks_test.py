#!/usr/bin/env python3
"""ranks_test.py KVLINGUA: two processes of one training run: under the real torchrun, with strangers at their ports, and when
one of them is killed. tests/slow/ranks_test.py goes on where waiting takes longer."""
import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import ranks  # noqa: E402

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())


class TwoProcesses(ranks.Case):
    program = PROGRAM

    def test_the_real_torchrun(self):
        # Its agent serves the store: nobody of ours may listen there.
        code, said = self.under_torchrun("standalone", "--standalone")
        self.assertEqual(code, 0, said)
        self.folder.check_losses("standalone")

    def test_strangers_neither_stop_nor_enter_a_run(self):
        with ranks.Ranks(self.folder, "visited") as run, ranks.Strangers() as strangers:
            run.start(0)
            run.wait_for_port()
            strangers.visit(run.port)
            time.sleep(0.5)
            self.assertIsNone(run.processes[0].poll(), run.said(0))
            self.assertEqual(self.folder.steps("visited"), [])
            run.start(1)
            self.assertEqual(run.end(0, 1, seconds=60), [0, 0], run.said(0) + run.said(1))
        self.folder.check_losses("visited")

    def test_strangers_at_the_ports_of_a_run_in_its_steps(self):
        with ranks.Ranks(self.folder, "stepping", more=ranks.LONG) as run, ranks.Strangers() as strangers:
            run.start(0, 1)
            run.wait_for_step(3)
            self.assertNotIn(run.port, run.listening(0), "the store's port is open though all have met")
            for port in run.listening(0) | run.listening(1):
                strangers.visit(port)
            now = len(self.folder.steps("stepping"))
            run.wait_for_step(now + 20)
            run.kill(1, signal.SIGTERM)  # one is told: both save and stop
            self.assertEqual(run.end(0, 1), [75, 75], run.said(0) + run.said(1))

    def test_a_peer_killed_in_mid_step(self):
        for victim in (1, 0):
            name = f"killed-{victim}"
            with ranks.Ranks(self.folder, name, more=ranks.LONG) as run:
                run.start(0, 1)
                run.wait_for_step(5)
                run.kill(victim)
                self.assertEqual(run.end(1 - victim), [1], run.said(1 - victim))
                self.assert_named(run, 1 - victim, "another process of this run has stopped", f"process {victim}")

    def test_a_peer_killed_before_the_last_barrier(self):
        held = ranks.stopper(self.folder, ranks.LAST_CHECKPOINT)
        if held is None:
            self.skipTest("no C compiler")
        for victim in (1, 0):
            name = f"barrier-{victim}"
            with ranks.Ranks(self.folder, name) as run:
                run.start(0, env=held)  # stops before its last checkpoint is in place; process 1 waits for it
                run.start(1)
                run.wait_for(lambda: ranks.is_stopped(run.processes[0]))
                time.sleep(0.5)
                run.kill(victim)
                run.kill(0, signal.SIGCONT)
                self.assertEqual(run.end(1 - victim), [1], run.said(1 - victim))
                self.assert_named(run, 1 - victim, "another process of this run has stopped", f"process {victim}")
            # What was saved is whole, and one process alone goes on from it.
            self.folder.alone(name)
            self.folder.check_losses(name)


if __name__ == "__main__":
    unittest.main()
