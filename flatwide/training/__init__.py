"""One optimization step, many of them in one program, and the scores of a split; no config, no files."""
