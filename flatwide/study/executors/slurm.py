"""Workers as jobs of a Slurm cluster, submitted with submitit.

A job of several tasks, on one node or several, is one worker, whose tasks train each run together.
"""

import atexit
import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flatwide import config as configs
from flatwide import machine, processes
from flatwide.study.executors import placement, remote
from flatwide.study.executors.crew import Ended, Site, not_installed

_DEFAULTS = {"name": "flatwide", "timeout_min": 240, "nodes": 1, "tasks_per_node": 1}  # submitit's limit is 5 minutes
_FIRST_PORT, _NUM_PORTS = 61440, 4096  # of the processes of a job on this machine, as JAX chooses them on Slurm
_LOOK_SECONDS = 30.0  # between queries of Slurm; a job that ends by itself is noticed at once
_SAVE_SECONDS = 120.0  # for workers to see withdrawn orders through the caches of a network file system
_NO_WORKERS = (
    "config.study.workers=None: expected the number of jobs, which cannot be derived from this machine's cores."
)
# Slurm ends jobs in these states for reasons unrelated to the runs in training.
_BLAMELESS = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED")
_FORGOTTEN = "unknown to Slurm"  # it ended some minutes ago
_OVER = (*_BLAMELESS, "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT", _FORGOTTEN)
_INVALID = "submission failed: Invalid"  # a partition, an account, ...: the next job would be refused too
_ANSWER_SECONDS = 60.0  # of a busy controller


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
        parameters: dict[str, Any] = _DEFAULTS | {"cpus_per_task": site.threads} | _gpus(site.study) | converted
        srun_args = parameters.pop("slurm_srun_args", None) or ()
        if isinstance(srun_args, str):
            raise configs.ConfigError(
                f"config.study.slurm.slurm_srun_args={srun_args!r}: expected a list, such as ['--mpi=none']."
            )
        self._cluster = parameters.pop("cluster", "slurm")  # "local" uses processes of this machine as jobs
        self._site = site
        self._jobs: dict[str, Any] = {}
        self._refused: list[Ended] = []
        self._looked, self._states = time.monotonic(), dict[str, str]()  # by job, at the last look
        try:
            self._executor = submitit.AutoExecutor(site.orders.parents[1] / "slurm", cluster=self._cluster)
            self._executor.update_parameters(**parameters)
            cpus = self._executor.parameters.get("cpus_per_task")
            # srun of Slurm 22.05 to 23.02 does not read the CPUs of a task from sbatch.
            srun = ["--kill-on-bad-exit", *([] if cpus is None else [f"--cpus-per-task={cpus}"])]
            self._executor.update_parameters(slurm_srun_args=[*srun, *srun_args])
        except RuntimeError as error:
            raise configs.ConfigError(
                f"config.study.executor='slurm': {error} Start the study on a machine with sbatch and srun."
            ) from None
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise configs.ConfigError(f"config.study.slurm={dict(requested)!r}: {error}") from None
        _check_alone(site.group_size, self._executor.parameters)

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List faults: submitit is not installed, or a setting that Slurm needs is missing."""
        faults = not_installed("slurm", "submitit")
        if not isinstance(study["slurm"], Mapping):
            faults.append(f"config.study.slurm={study['slurm']!r}: expected a dict of submitit's parameters.")
        else:
            faults += _device_faults(study)
        return faults + ([_NO_WORKERS] if study["workers"] is None else [])

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Raise ConfigError: this machine cannot tell how many jobs may run at once, so the study must set it."""
        del study, threads
        raise configs.ConfigError(_NO_WORKERS)

    @staticmethod
    def share(study: Mapping[str, Any]) -> placement.Share:
        """Describe the devices of a job."""
        asked = {name: value for name, value in study["slurm"].items() if "gpu" in name or "gres" in name}
        named = ", ".join(f"{name}={value}" for name, value in (_gpus(study) | asked).items())
        return placement.Share(study["devices_per_run"], f"devices: {named} of each job" if named else "")

    def start(self, worker: str) -> None:
        """Submit a job; one that Slurm refuses counts as ended."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints the words of sbatch, and raises them
                self._jobs[worker] = self._executor.submit(_work, remote.assign(self._site, worker))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
            problem = f"Slurm refused the job: {' '.join(said) or error}"
            self._refused.append(Ended(worker, problem, is_fatal=_INVALID in problem))

    def ended(self) -> list[Ended]:
        """Look for result files, and from time to time query Slurm for jobs that died without one."""
        ended, self._refused = self._refused, []
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked, self._states = time.monotonic(), _states(self._jobs.values(), self._cluster)
        for worker, job in list(self._jobs.items()):
            state = self._states.get(job.job_id, "")
            if job.task(0).paths.result_pickle.exists() or state in _OVER:
                del self._jobs[worker]
                ended.append(_outcome(worker, job, state))
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
                if worker not in cancelled and (is_late or self._states.get(job.job_id) == "PENDING"):
                    job.cancel(check=False)
                    cancelled.add(worker)
                    self._looked -= _LOOK_SECONDS  # Slurm shows it at once
            if not self.ended():
                if is_late and not self._jobs.keys() - cancelled:
                    return  # no need to wait until Slurm shows it
                time.sleep(0.2)


def _gpus(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a job that trains each run on `devices_per_run` GPUs."""
    count = study.get("devices_per_run")
    return {"gpus_per_node": count} if count and not machine.is_cpu_only() else {}


def _device_faults(study: Mapping[str, Any]) -> list[str]:
    """List devices that a job cannot have as the study asks."""
    found, asked = [], study["slurm"]
    if placement.per_gpu(study) > 1:
        found.append(
            f"config.study.workers_per_gpu={placement.per_gpu(study)}: expected 1, since Slurm gives a GPU to one job; "
            "config.group_size=16 trains 16 small runs on it at once."
        )
    given = study["devices_per_run"]
    if given is not None and (
        named := [name for name in ("nodes", "tasks_per_node", "gpus_per_node") if name in asked]
    ):
        found.append(
            f"config.study.devices_per_run={given}: config.study.slurm sets {', '.join(named)}, which decides how many "
            "devices a job has; keep one of the two."
        )
    return found


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


def _check_alone(group_size: int, parameters: Mapping[str, Any]) -> None:
    """Raise ConfigError for groups of runs in one program, which several processes cannot share."""
    tasks_per_node = parameters.get("ntasks_per_node", parameters.get("tasks_per_node", 1))
    if group_size > 1 and (num_processes := parameters.get("nodes", 1) * tasks_per_node) > 1:
        raise configs.ConfigError(
            f"config.group_size={group_size} with {num_processes} tasks in a job (config.study.slurm.nodes × "
            "tasks_per_node): expected group_size=1 or one task. A group is many small runs on one device."
        )


def _work(assignment: remote.Assignment) -> Ended:
    """Follow orders in a process of the job itself.

    Slurm sends its signals to this process: SIGTERM on scancel, and before the time limit or a preemption the signal
    that submitit requests. submitit would ignore the first and requeue on the second; a worker saves and ends on both,
    and the study's command submits the next. A child process would receive neither signal, and would continue unnoticed
    if this process was killed.
    """
    from submitit import JobEnvironment

    job = JobEnvironment()
    number = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
    ended = remote.work(assignment, number, join=functools.partial(_join, job))
    if job.global_rank > 0:
        sys.exit(1 if ended.problem else 0)  # without a result: that of process 0 is the worker's
    if ended.problem and processes.count() < job.num_tasks:
        atexit.register(_exit_failed)  # it has not joined the others, which srun ends once this one has failed
    return ended


def _exit_failed() -> None:
    """End with exit code 1, once submitit has written the result and would exit with 0."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _join(job: Any) -> None:
    """Join the other tasks of a job, if it has several."""
    from flatwide.runs import jax_settings

    if job.num_tasks == 1:
        return
    advice = f"The logs of the tasks are {_logs_of_all(job)}; the study submits the next job by itself."
    if job.cluster == "slurm":
        jax_settings.start_processes(advice=advice)
    else:
        address = f"127.0.0.1:{_FIRST_PORT + int(job.job_id) % _NUM_PORTS}"
        jax_settings.start_processes(address, job.num_tasks, job.global_rank, advice=advice)


def _states(jobs: Collection[Any], cluster: str) -> dict[str, str]:
    """Ask Slurm for the state of each job; empty if it does not answer.

    The controller knows a job for minutes after its end; submitit asks the accounting, which not all clusters have.
    """
    if cluster != "slurm":
        return {job.job_id: job.state for job in jobs}
    command = ["squeue", "--noheader", "--states=all", "--format=%A %T", f"--user={os.getuid()}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.split() for line in done.stdout.splitlines()]
    known = {row[0]: row[1] for row in rows if len(row) == 2}
    return {job.job_id: known.get(job.job_id, _FORGOTTEN) for job in jobs}


def _outcome(worker: str, job: Any, state: str) -> Ended:
    first = job.task(0)
    paths = first.paths
    if paths.result_pickle.exists():
        failure = first.exception()
        if failure is not None:
            return Ended(worker, f"job {job.job_id}: {failure}")
        ended: Ended = first.result()
        if not ended.problem:
            each = [job.task(index).paths for index in range(job.num_tasks)]
            logs = [path for task in each for path in (task.stdout, task.stderr)]
            for path in (paths.submitted_pickle, paths.result_pickle, paths.submission_file, *logs):
                path.unlink(missing_ok=True)
            return ended
        return Ended(worker, f"job {job.job_id}: {ended.problem}")
    log = paths.stderr if os.path.exists(paths.stderr) else paths.folder
    if job.num_tasks > 1:  # any of them may have failed
        log = _logs_of_all(first)
    return Ended(worker, f"job {job.job_id} ended without a result ({state}); see {log}", state in _BLAMELESS)


def _logs_of_all(job: Any) -> Path:
    """Return a pattern for the files of errors of all tasks of a job, from its environment or from one of its tasks."""
    return job.paths.folder / f"{job.job_id}_*_log.err"
