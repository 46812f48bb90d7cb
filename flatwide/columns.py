"""The columns that a run's result adds to the table of runs, and what they mean."""

RESULT_FIELDS = {
    "status": 'finished, or diverged where the loss stopped being finite; in the table also "unfinished", "failed"'
    ' (its traceback is in error.txt), "damaged" (a file of the run cannot be read) and "mismatch" (its directory is'
    " named after another run)",
    "num_params": "entries of all trainable arrays",
    "num_nonzero_params": "unmasked kernel entries and all bias and norm entries",
    "epochs": "passes over the training examples that were done",
    "steps": "optimizer steps that were done",
    "seconds": "time spent in this run, over all its resumptions",
    "metric_name": "what the metric is, such as accuracy",
    "higher_is_better": "the direction of the metric",
    "train_loss": "mean loss over the training examples, in evaluation mode, at the end",
    "train_metric": "metric over the training examples, in evaluation mode, on the labels trained on, at the end",
    "test_loss": "mean loss over the test examples at the end",
    "test_metric": "metric over the test examples at the end",
    "test_metric_best": "best test metric of all evaluations; the first of equals",
    "best_epoch": "epoch of that evaluation",
    "validation_loss": "mean loss over the validation examples at the end",
    "validation_metric": "metric over the validation examples at the end",
    "test_metric_at_best_validation": "test metric of the evaluation with the best validation metric",
    "diverged_at_step": "first step whose loss was not finite",
    "device": "kind of device, with the model of a CPU: cpu: AMD EPYC 9554, or NVIDIA H100",
    "num_devices": "devices that shared each batch",
    "threads": "CPU threads that XLA used",
    "x64": "whether real numbers had 64 bits",
    "matmul_precision": "how exactly numbers of 32 bits were multiplied, in JAX's words",
    "versions": "versions of python, jax, jaxlib, flax, optax, numpy and flatwide",
    "started": "when the run first started, ISO 8601 in UTC",
    "finished": "when it ended",
}

FRACTION_METRICS = frozenset({"accuracy", "mean_average_precision"})  # percent in text and figures, never in files
