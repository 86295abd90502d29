"""The durable index of accepted runs: a start is acknowledged when its row is committed.

Beside the runs it holds what must be in both regions as well: the record of epochs, and the audit log.
"""

from run_index.audit import AuditEntry, AuditLog, Deed
from run_index.database import Database, IndexUnavailableError, NotStorableError
from run_index.epochs import Epoch, Epochs, epoch_at
from run_index.index import Acceptance, IndexedRun, RunIndex

__all__ = [
    "Acceptance",
    "AuditEntry",
    "AuditLog",
    "Database",
    "Deed",
    "Epoch",
    "Epochs",
    "IndexUnavailableError",
    "IndexedRun",
    "NotStorableError",
    "RunIndex",
    "epoch_at",
]
