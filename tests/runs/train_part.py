"""Run by test_sharding.py in a process of its own: train a run, or stop it after some segments and print its result."""

import itertools
import json
import sys

from flatwide import config, runner
from flatwide.runs.recording import Stopped

workdir, fields, num_segments = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
asked = itertools.count()
try:
    result = runner.run(config.resolve(fields), workdir, should_stop=lambda: next(asked) == num_segments, quiet=True)
except Stopped as stopped:
    result = {"status": str(stopped)}
sys.stdout.write(json.dumps(result))
