"""Traffic: clients of two regions, in shapes, what became of them, and how much of it the regions bear."""
