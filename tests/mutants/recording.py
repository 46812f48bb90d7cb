"""Breaks between training and what is kept of it: rows, results, checkpoints, groups, measurements."""

from mutant import Mutant
from training import ADAM, ADAMW, HELD

MUTANTS = (
    # What is recorded.
    Mutant(
        "validation columns hold the test split, in segments",
        '"validation": built.validation, "test": built.test}',
        '"validation": built.test, "test": built.test}',
        (ADAMW,),
    ),
    Mutant(
        "validation columns hold the test split, in whole epochs",
        '{"validation": self.validation, "test": self.test}',
        '{"validation": self.validation and self.test, "test": self.test}',
        (ADAM,),
    ),
    Mutant(
        "a higher loss is better", "sign = 1 if higher_is_better else -1", "sign = 1", ("tests/runs/test_directory.py",)
    ),
    Mutant(
        "a higher metric is better whatever the objective says",
        "higher_is_better=objective.higher_is_better)",
        "higher_is_better=True)",
        ("tests/test_wiring.py::test_the_best_epoch_is_that_of_the_lowest_metric_where_lower_is_better",),
    ),
    Mutant(
        "early stopping by the test split",
        '_best(rows, "validation_metric", higher_is_better)',
        '_best(rows, "test_metric", higher_is_better)',
        (ADAMW, "tests/runs/test_directory.py"),
    ),
    Mutant(
        "epochs are off by a step",
        '"epoch": taken.step / built.steps_per_epoch,',
        '"epoch": (taken.step - 1) / built.steps_per_epoch,',
        (ADAM,),
    ),
    Mutant(
        "the running loss is that of all epochs",
        "self._memory._replace(loss_total=0.0, loss_count=0)",
        "self._memory",
        (ADAM,),
    ),
    Mutant(
        "no evaluation at the end",
        "step % self._built.eval_every_steps == 0 or step == self._built.num_steps",
        "step % self._built.eval_every_steps == 0",
        (ADAMW,),
    ),
    Mutant(
        "the training split is scored at every evaluation",
        'return None if name == "train" and not is_last else',
        "return None if False else",
        (ADAM,),
    ),
    Mutant(
        "snapshots an epoch late",
        "steps = {epoch * steps_per_epoch for epoch in",
        "steps = {(epoch + 1) * steps_per_epoch for epoch in",
        ("tests/runs/test_recording.py::test_a_snapshot_is_the_network_at_the_end_of_its_epoch",),
    ),
    Mutant(
        "a resumed run has a fresh optimizer",
        "return newest.tree, memory, rows.Digest(content)",
        "return newest.tree._replace(optimizer=state.optimizer), memory, rows.Digest(content)",
        ("tests/training/test_compiled_epochs.py::test_it_goes_on_in_the_middle_of_an_epoch",),
    ),
    Mutant(
        "a resumed run forgets its losses",
        "memory = Memory(**newest.extra)._replace(identity=identity)",
        "memory = Memory(started=now(), identity=identity)",
        ("tests/training/test_compiled_epochs.py::test_it_goes_on_in_the_middle_of_an_epoch",),
    ),
    # Runs that advance together.
    Mutant(
        "a group trains with the values of its first run",
        "_stack([member.values for member in filled])",
        "_stack([filled[0].values for member in filled])",
        ("tests/runs/test_groups.py::test_ten_steps_agree_with_the_runs_alone",),
    ),
    Mutant(
        "a group trains on the examples of its first run",
        "_joined([member.train for member in filled],",
        "_joined([filled[0].train for member in filled],",
        ("tests/runs/test_groups.py::test_ten_steps_agree_with_the_runs_alone",),
    ),
    Mutant(
        "a group shares the label noise of its first run",
        '*(set(arrays) - {"targets"} if is_whole else ())',
        "*(set(arrays) if is_whole else ())",
        ("tests/runs/test_groups.py::test_ten_steps_agree_with_the_runs_alone",),
    ),
    # Measurements.
    Mutant(
        "measured examples ignore the seed",
        'streams.generator(int(values.seed), "measurement")',
        'streams.generator(0, "measurement")',
        (HELD,),
    ),
    Mutant(
        "measured examples are augmented",
        "lambda batch: prepare(batch, None, train=False)",
        "lambda batch: prepare(batch, jax.random.key(0), train=True)",
        (HELD,),
    ),
    Mutant(
        "measured in training mode",
        '"""Compute the loss: sum of losses / sum of weights."""\n',
        '""""""\n        key = jax.random.key(0)\n'
        "        return workloads.loss(self.workload, params, batch, stats=stats, train=True, key=key)[0]\n",
        (HELD,),
    ),
    Mutant(
        "a measurement's chance ignores the seed",
        'streams.key(saved.built.config["seed"], f"measurement {catalogue.word(wanted.name)}")',
        'streams.key(0, f"measurement {catalogue.word(wanted.name)}")',
        (HELD,),
    ),
    Mutant(
        "as many examples as by default are measured",
        "open_run(directory, num_examples=wanted.num_examples)",
        "open_run(directory, num_examples=1000)",
        (HELD,),
    ),
    Mutant(
        "a loaded network is in training mode",
        "model.apply(params, stats, inputs, train=False, key=None)[0]\n\n    return jax.jit(apply)",
        "model.apply(params, stats, inputs, train=True, key=jax.random.key(0))[0]\n\n    return jax.jit(apply)",
        (HELD,),
    ),
    Mutant(
        "a network is compared with itself instead of its base run",
        'changes = {"rho": 0.0, "seed": seed}',
        'changes = {"seed": seed}',
        ("tests/measurements/test_all.py::test_a_run_waits_for_its_counterpart_and_is_measured_by_the_same_command",),
    ),
    Mutant(
        "training losses are those of labels without noise",
        'splits = {"train": built.scored_train,',
        'splits = {"train": built.data.train,',
        (ADAM,),
    ),
    Mutant(
        "rows have the peak learning rate",
        '"learning_rate": taken.learning_rate,',
        '"learning_rate": built.config["learning_rate"],',
        (ADAM,),
    ),
    Mutant(
        "the result is that of the first evaluation",
        "{name: last[name] for name in columns}",
        "{name: rows[0][name] for name in columns}",
        (ADAM,),
    ),
)
