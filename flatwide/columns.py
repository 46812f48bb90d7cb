"""The columns that a run's result adds to the table of runs, and their meaning."""

from typing import NamedTuple


class ResultField(NamedTuple):
    """A field of `result.json`: its meaning, and the types that it may have beside null."""

    text: str
    kind: type | tuple[type, ...]
    is_required: bool = False  # in a finished run


_NUMBER = (int, float)

RESULT_FIELDS = {
    "status": ResultField(
        'finished, or diverged if the loss became non-finite; in the table also "unfinished", "failed"'
        ' (the traceback is in error.txt), "damaged" (a file of the run is incomplete or was changed), "unreadable" (a'
        ' file cannot be read, for example for lack of permission) and "mismatch" (the directory is named after another'
        " run)",
        str,
        True,
    ),
    "num_params": ResultField("entries of all trainable arrays", int, True),
    "num_nonzero_params": ResultField("unmasked kernel entries and all bias and norm entries", int, True),
    "epochs": ResultField("completed passes over the training examples", _NUMBER, True),
    "steps": ResultField("completed optimizer steps", int, True),
    "num_gradients": ResultField(
        "batch gradients that these steps computed; with group_size above 1 two at every step of SAM; empty if a SAM "
        "variant decides this at each step",
        int,
    ),
    "seconds": ResultField("time spent in this run, over all its resumptions", _NUMBER, True),
    "metric_name": ResultField("name of the metric, such as accuracy", str, True),
    "higher_is_better": ResultField("the direction of the metric", bool, True),
    "train_loss": ResultField("mean loss over the training examples, in evaluation mode, at the end", _NUMBER, True),
    "train_metric": ResultField(
        "metric over the training examples, in evaluation mode, on the labels trained on, at the end", _NUMBER
    ),
    "test_loss": ResultField("mean loss over the test examples at the end", _NUMBER, True),
    "test_metric": ResultField("metric over the test examples at the end", _NUMBER),
    "test_metric_best": ResultField("best test metric of all evaluations; the first of equal ones", _NUMBER),
    "best_epoch": ResultField("epoch of that evaluation", _NUMBER),
    "validation_loss": ResultField("mean loss over the validation examples at the end", _NUMBER),
    "validation_metric": ResultField("metric over the validation examples at the end", _NUMBER),
    "test_metric_at_best_validation": ResultField(
        "test metric of the evaluation with the best validation metric", _NUMBER
    ),
    "test_loss_average": ResultField("as `test_loss`, of the averaged weights", _NUMBER),
    "test_metric_average": ResultField("as `test_metric`, of the averaged weights", _NUMBER),
    "validation_loss_average": ResultField("as `validation_loss`, of the averaged weights", _NUMBER),
    "validation_metric_average": ResultField("as `validation_metric`, of the averaged weights", _NUMBER),
    "test_chance_metric": ResultField(
        "test metric of the best constant prediction, such as the most frequent class",
        _NUMBER,
    ),
    "num_test_items": ResultField("number of items that the test metric counts: labels, or words of texts", int),
    "diverged_at_step": ResultField("first step whose loss was not finite", int),
    "device": ResultField("kind of device, with the model of a CPU: cpu: AMD EPYC 9554, or NVIDIA H100", str),
    "num_devices": ResultField("devices that shared each batch", int),
    "threads": ResultField("CPU threads that XLA used", int),
    "x64": ResultField("whether real numbers had 64 bits", bool),
    "matmul_precision": ResultField("precision of products of 32-bit numbers, as JAX names it", str),
    "versions": ResultField("versions of python, jax, jaxlib, flax, optax, numpy and flatwide", dict),
    "started": ResultField("when the run first started, ISO 8601 in UTC", str),
    "finished": ResultField("when the run ended", str),
}

COLLAPSED = "is_collapsed"  # a column that the analysis adds: whether a run is no better than chance

DONE = ("finished", "diverged")  # the statuses of a run that is over; `result.json` has one of them
FRACTION_METRICS = frozenset({"accuracy", "mean_average_precision"})  # percent in text and figures, never in files
