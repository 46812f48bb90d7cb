"""One run: its pieces, its files on the disk, and what trains it.

parts, build, experiment   a config turned into data, model, objective, step: the pieces of a run
identity                   what makes a run this run, and the directory that is named after it
directory, checkpoints     files that are whole or not there
commands                   what trained the runs: each command with its config
recording, driver          rows, checkpoints and the result while a run trains
records, table, load       what runs left: measurements, the table of all runs, a trained network
preview, logs              what a run would do, and what it says while it runs
"""
