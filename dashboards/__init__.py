"""What people look at: dashboards, and rules for alerts. `python -m dashboards` writes `generated/`."""
