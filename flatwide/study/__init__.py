"""Studies: axes become runs, runs of one shape share a compiled program, and an executor trains the missing ones.

The run directories alone record what is done, so a study resumes after any kill, and grows with its axes.
"""
