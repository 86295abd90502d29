"""The `holdfast` command line: the front door for people and for scripts."""
