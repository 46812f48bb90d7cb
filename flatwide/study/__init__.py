"""Many runs with one command: axes become runs, runs of one shape share a program, an executor trains what is missing.

What is done is known by the run directories alone, so a study goes on after any kill, and grows with its axes.
"""
