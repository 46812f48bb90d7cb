"""Workers as jobs of a Slurm cluster, submitted with submitit."""

import os
import signal
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from flatwide import config as configs
from flatwide.study.executors import remote
from flatwide.study.executors.crew import Ended, Site, not_installed

_DEFAULTS = {"name": "flatwide", "timeout_min": 240}  # submitit's own limit is 5 minutes
_ONE = ("nodes", "tasks_per_node")  # a worker is one process
_LOOK_SECONDS = 30.0  # between queries of Slurm's accounting; a job that ends by itself is noticed at once
_SAVE_SECONDS = 120.0  # for workers to see withdrawn orders through the caches of a network file system
_NO_WORKERS = (
    "config.study.workers=None: expected the number of jobs, which cannot be derived from this machine's cores."
)
# Slurm ends jobs in these states for reasons unrelated to the runs in training.
_BLAMELESS = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED")


class SlurmCrew:
    """Workers as separate jobs; submitit's result file or Slurm's state shows how each ended.

    The files of jobs are in `workdir/study/slurm`; those of a failed job stay there.
    """

    outlives_command = True

    def __init__(self, site: Site):
        """Check the parameters of jobs.

        Raises: ConfigError.
        """
        submitit = _submitit()
        requested = site.study.get("slurm", {})
        converted = {name: list(value) if isinstance(value, tuple) else value for name, value in requested.items()}
        parameters: dict[str, Any] = _DEFAULTS | {"cpus_per_task": site.threads} | converted
        cluster = parameters.pop("cluster", "slurm")  # "local" uses processes of this machine as jobs
        self._site = site
        self._jobs: dict[str, Any] = {}
        self._refused: list[Ended] = []
        self._looked = time.monotonic()
        wrong = {name: parameters[name] for name in _ONE if parameters.get(name, 1) != 1}
        if wrong:
            raise configs.ConfigError(
                [
                    f"config.study.slurm.{name}={value!r}: expected 1; set study.workers."
                    for name, value in wrong.items()
                ]
            )
        try:
            self._executor = submitit.AutoExecutor(site.orders.parents[1] / "slurm", cluster=cluster)
            self._executor.update_parameters(**parameters)
        except RuntimeError as error:
            raise configs.ConfigError(
                [f"config.study.executor='slurm': {error} Start the study on a machine with sbatch and srun."]
            ) from None
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise configs.ConfigError([f"config.study.slurm={dict(requested)!r}: {error}"]) from None

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List faults: submitit is not installed, or a setting that Slurm needs is missing."""
        faults = not_installed("slurm", "submitit")
        if not isinstance(study["slurm"], Mapping):
            faults.append(f"config.study.slurm={study['slurm']!r}: expected a dict of submitit's parameters.")
        return faults + ([_NO_WORKERS] if study["workers"] is None else [])

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Raise ConfigError: this machine cannot tell how many jobs may run at once, so the study must set it."""
        del study, threads
        raise configs.ConfigError([_NO_WORKERS])

    def start(self, worker: str) -> None:
        """Submit a job; one that Slurm refuses counts as ended."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            self._jobs[worker] = self._executor.submit(_work, remote.assign(self._site, worker))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            self._refused.append(Ended(worker, f"Slurm refused the job: {error}"))

    def ended(self) -> list[Ended]:
        """Look for result files, and from time to time query Slurm for jobs that died without one."""
        must_ask = time.monotonic() - self._looked > _LOOK_SECONDS
        ended, self._refused = self._refused, []
        for worker, job in list(self._jobs.items()):
            if job.done(force_check=must_ask):
                del self._jobs[worker]
                ended.append(_outcome(worker, job))
            must_ask, self._looked = False, time.monotonic() if must_ask else self._looked  # one query covers all jobs
        return ended

    def stop(self) -> None:
        """Cancel pending jobs, and give the others time to save before cancelling them."""
        deadline = time.monotonic() + _SAVE_SECONDS
        cancelled: set[str] = set()
        self._looked -= _LOOK_SECONDS  # query now which jobs are pending
        self.ended()
        while self._jobs:
            is_late = time.monotonic() > deadline
            for worker, job in self._jobs.items():
                if worker not in cancelled and (is_late or job.state == "PENDING"):
                    job.cancel(check=False)
                    cancelled.add(worker)
            if not self.ended():
                if is_late and not self._jobs.keys() - cancelled:
                    return  # no need to wait until Slurm's accounting shows it
                time.sleep(0.2)


def _submitit() -> ModuleType:
    """Import submitit without its logging, which would close the handlers of this process and print each line twice."""
    before = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
    try:
        import submitit
    finally:
        del os.environ["SUBMITIT_LOG_LEVEL"]
        if before is not None:
            os.environ["SUBMITIT_LOG_LEVEL"] = before
    return submitit


def _work(assignment: remote.Assignment) -> Ended:
    """Follow orders in the process of the job itself.

    Slurm sends its signals to this process: SIGTERM on scancel, and before the time limit or a preemption the signal
    that submitit requests. submitit would ignore the first and requeue on the second; a worker saves and ends on both,
    and the study's command submits the next. A child process would receive neither signal, and would continue unnoticed
    if this process was killed.
    """
    from submitit import JobEnvironment

    return remote.work(assignment, getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))


def _outcome(worker: str, job: Any) -> Ended:
    paths = job.paths
    if paths.result_pickle.exists():
        failure = job.exception()
        if failure is not None:
            return Ended(worker, f"job {job.job_id}: {failure}")
        ended: Ended = job.result()
        if not ended.problem:
            for path in (
                paths.submitted_pickle,
                paths.result_pickle,
                paths.submission_file,
                paths.stdout,
                paths.stderr,
            ):
                path.unlink(missing_ok=True)
            return ended
        return Ended(worker, f"job {job.job_id}: {ended.problem}")
    state = job.state.split()[0]  # "CANCELLED by 1000"
    log = paths.stderr if os.path.exists(paths.stderr) else paths.folder
    return Ended(worker, f"job {job.job_id} ended without a result ({state}); see {log}", state in _BLAMELESS)
