"""A study that steers itself: it screens settings, compares the finalists on fresh seeds, and stops when it knows.

`course` decides, as a pure function of results; `design` says among what; `command` lets the study train what it asks
for, and replays a table of runs; `simulate` draws noise.
"""

from flatwide.decide.command import dry_run, replay, run

__all__ = ["dry_run", "replay", "run"]
