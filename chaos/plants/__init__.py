"""Bugs that the bench plants into a deployment of its own, to show that a checker catches them.

Each is a folder with a `sitecustomize.py`, which Python loads where PYTHONPATH names the folder: in the processes of
the deployment, and in those that provision it. Product code carries no switch for a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plant:
    """A bug, what it breaks, and the checker that is expected to catch it in an experiment.

    `stalled` is for how many seconds before the fault nothing of the active region's database reaches the standby.
    """

    name: str
    breaks: str
    caught_by: str
    experiment: str = "region-loss"
    stalled: float = 0.0

    @property
    def folder(self) -> Path:
        """The folder for PYTHONPATH."""
        return Path(__file__).parent / self.name.replace("-", "_")


PLANTS = {
    plant.name: plant
    for plant in (
        Plant("recovery-sweep-off", "after a failover nobody wakes the open runs", "K1"),
        Plant("acknowledged-before-committed", "a start is acknowledged before its row is committed", "K1"),
        Plant("no-idempotency-key", "every attempt at an effect carries a key of its own", "K2"),
        Plant("key-of-the-process", "an effect's key names the process that sends it", "K2"),
        Plant("effect-runs-twice", "a refund is sent twice, under two keys", "K2"),
        Plant("effect-before-record", "an effect is applied long before its key is remembered", "K2"),
        Plant("answered-before-applied", "a tool answers before its effect is applied", "K2"),
        Plant("asynchronous-replication", "a commit doesn't wait for the standby", "K3", stalled=3.0),
        Plant("old-region-goes-on", "a region that is active no more stops nothing", "K4", "switchover"),
        Plant("fencing-off", "the old region goes on, and its late effects are taken", "K4", "switchover"),
        Plant("recover-heeded-twice", "a run heeds every call to recover", "K5"),
        Plant("random-identifiers", "the workflow's code makes other identifiers at each replay", "K6"),
        Plant("timers-not-reissued", "after a failover no timer is set again", "K7"),
        Plant(
            "decision-given-late", "a decision is acknowledged before its run has it", "K8", "approval-during-failover"
        ),
        Plant("decision-given-twice", "a decision is given to its run twice", "K8", "approval-during-failover"),
        Plant("swallowed-model-error", "a run whose model fails is completed, with the error inside", "K10"),
        Plant("wrong-root", "the standby trusts another root", "K10"),
        Plant("signatures-off", "histories are not signed", "K11"),
    )
}
