"""One run: its parts, its files and its training.

parts, build, experiment   data, model, objective and step of a config
identity                   the fields that identify a run, and the directory named after them
directory, checkpoints     files, which are written atomically
commands                   the commands that trained the runs, each with its config
recording, driver          training: rows, checkpoints and the result
results, resuming          the content of a result; what a run resumes from
records, table, load       output of runs: measurements, the table of all runs, a trained network
preview, timing, logs      descriptions of a run before it starts, and progress while it trains
"""
