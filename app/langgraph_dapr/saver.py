"""What a node that was interrupted has done so far, as data: its next execution goes on from there."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol

Kept = list[list[Any]]


def memory_saver(serde: SerializerProtocol, kept: Kept | None = None) -> InMemorySaver:
    """A checkpointer in memory, with what `contents` gave."""
    saver = InMemorySaver(serde=serde)
    for config, checkpoint, metadata, parent, writes in kept or []:
        place = {key: one for key, one in config["configurable"].items() if key != "checkpoint_id"}
        saver.put(parent or {"configurable": place}, checkpoint, metadata, checkpoint["channel_versions"])
        of_task: dict[str, list[tuple[str, Any]]] = {}
        for task_id, channel, value in writes:
            of_task.setdefault(task_id, []).append((channel, value))
        for task_id, task_writes in of_task.items():
            saver.put_writes(config, task_writes, task_id)
    return saver


def contents(saver: BaseCheckpointSaver[Any]) -> Kept:
    """Everything that a checkpointer has, the oldest first."""
    found = [
        [
            one.config,
            one.checkpoint,
            one.metadata,
            one.parent_config,
            [list(write) for write in one.pending_writes or []],
        ]
        for one in saver.list(None)
    ]
    return found[::-1]
