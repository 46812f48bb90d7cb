"""A study that steers itself: it screens settings, compares the finalists on fresh seeds, and stops when it knows.

`course` decides, as a pure function of results; `design` says among what; `command` lets the study train what it asks
for; `replay` follows the same course through a table of runs; `simulate` through noise.
"""
