"""The durable index of accepted runs: a start is acknowledged when its row is committed."""

from run_index.index import Acceptance, IndexedRun, IndexUnavailableError, NotStorableError, RunIndex

__all__ = ["Acceptance", "IndexUnavailableError", "IndexedRun", "NotStorableError", "RunIndex"]
