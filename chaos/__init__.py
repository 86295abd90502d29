"""The bench: faults, experiments, checkers, and the verdict with its report."""
