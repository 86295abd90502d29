"""A region's HTTP API, and the worker that executes its agent runs."""
