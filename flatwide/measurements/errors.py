"""Errors of measurements, apart from what measures, which imports SciPy: training needs only the errors."""


class MeasurementError(RuntimeError):
    """Some measurements of a run failed; their tracebacks are in `measurements/error.txt` beside it."""


class WaitingError(MeasurementError):
    """A measurement needs another run that is not finished yet; `waits_for` is the name of that run."""

    def __init__(self, message: str, *, waits_for: str):
        super().__init__(message)
        self.waits_for = waits_for


class NotApplicableError(ValueError):
    """A measurement does not apply to this kind of run: the reason is recorded without values, and it is no failure."""
