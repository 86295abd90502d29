"""Pulumi's engine, run from here: workspace, command, locks and events."""
