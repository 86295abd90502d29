"""`python -m dashboards`: writes what Grafana imports to `generated/`, one file a dashboard, and nothing else there."""

from __future__ import annotations

import sys

from dashboards.generate import BOARDS, GENERATED, text_of


def main() -> int:
    """Writes every file; whoever runs it commits them."""
    GENERATED.mkdir(exist_ok=True)
    for old in GENERATED.glob("*.json"):
        old.unlink()
    for board in BOARDS:
        path = GENERATED / f"{board.uid}.json"
        path.write_text(text_of(board), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
