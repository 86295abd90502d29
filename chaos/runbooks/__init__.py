"""Runbooks: pages that operators read and drills execute, and what was measured when they did.

`page` is the format, `player` executes a page as an operator would, `results` is the table of what was measured,
`gameday` injects a fault and tells only of its symptoms.
"""
