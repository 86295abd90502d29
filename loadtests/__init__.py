"""Load: what the system takes, and what it costs."""
