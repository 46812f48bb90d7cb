"""Workers as tasks of a Ray cluster."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from flatwide import config as configs
from flatwide import machine
from flatwide.study.executors import placement, remote
from flatwide.study.executors.crew import STOP_SECONDS, Ended, Site, not_installed
from flatwide.study.executors.local import LocalCrew

_STORE_BYTES = 100_000_000  # of a Ray that flatwide starts; workers return only how they ended
_ANSWER_SECONDS = 10.0
_HEALTH_SECONDS = 60.0  # in which a process imports Ray on a busy machine, and asks


class RayCrew:
    """Workers as Ray tasks, each in a separate process; Ray does not retry them, since the study does."""

    outlives_command = False

    def __init__(self, site: Site):
        """Join the cluster, or start a Ray on this machine.

        Raises: ConfigError if no cluster answers, or none of its nodes has enough CPUs.
        """
        import ray

        self._site = site
        self._tasks: dict[str, Any] = {}
        self._is_ours = _join(site.study.get("address"))
        gpus = _gpus_of_worker(site.study) if _has_gpus() else 0
        if faults := _too_large(site, gpus):
            self.stop()
            raise configs.ConfigError(faults)
        self._remote = ray.remote(
            num_cpus=site.threads, num_gpus=gpus, max_retries=0, max_calls=1, retry_exceptions=False
        )(remote.work)

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List faults: Ray is not installed, or cannot place the GPUs of a worker."""
        faults = not_installed("ray", "ray")
        if placement.per_run(study) > 1 and placement.per_gpu(study) > 1:
            faults.append(
                f"config.study.workers_per_gpu={placement.per_gpu(study)} with devices_per_run="
                f"{placement.per_run(study)}: on Ray a worker has parts of one GPU or several whole ones; set one to 1."
            )
        return faults + (placement.faults(study) if study["address"] is None else [])

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Count the workers that the cluster's GPUs allow, or else its CPUs; as locally for a Ray started here.

        Raises: ConfigError if no cluster answers.
        """
        if study["address"] is None:
            return LocalCrew.capacity(study, threads)
        import ray

        _join(study["address"])
        resources = ray.cluster_resources()
        if _has_gpus():
            return max(1, int(resources["GPU"] / _gpus_of_worker(study)))
        return max(1, int(resources.get("CPU", 0) // threads))

    @staticmethod
    def share(study: Mapping[str, Any]) -> placement.Share:
        """Describe the devices of a worker; whether the cluster has GPUs shows when it is joined."""
        if study["address"] is None:
            return placement.share(study)
        count = placement.per_run(study)
        return placement.Share(
            num_devices=count, text=f"devices: {_gpus_of_worker(study):g} GPU(s) a worker, if there are any"
        )

    def start(self, worker: str) -> None:
        """Submit a task to Ray, which starts it where CPUs are free."""
        self._tasks[worker] = self._remote.remote(remote.assign(self._site, worker))

    def ended(self) -> list[Ended]:
        """Fetch the results of finished tasks, or Ray's errors for those that did not return."""
        import ray

        if not self._tasks:
            return []
        names = {reference: worker for worker, reference in self._tasks.items()}
        done, _ = ray.wait(list(names), num_returns=len(names), timeout=0)
        ended = []
        for reference in done:
            del self._tasks[names[reference]]
            ended.append(_outcome(names[reference], reference))
        return ended

    def stop(self) -> None:
        """Interrupt all tasks, which save, and wait until they have ended."""
        import ray

        for reference in self._tasks.values():
            ray.cancel(reference)  # a task hears it as Ctrl-C
        deadline = time.monotonic() + STOP_SECONDS
        while self._tasks and time.monotonic() < deadline:
            self.ended()
            time.sleep(0.05)
        for reference in self._tasks.values():
            ray.cancel(reference, force=True)
        self._tasks.clear()
        if self._is_ours:
            ray.shutdown()


def _join(address: str | None) -> bool:
    """Connect this process to Ray without its log messages; return whether it was not yet connected."""
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": address}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"address": "local", "num_cpus": machine.available(), "object_store_memory": _STORE_BYTES}
        options["include_dashboard"] = False
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None and address[-1:].isdecimal():
            _check_answers(address)
        # No runtime environment: nothing needs copying, since all nodes see the same files.
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise configs.ConfigError(
            f"config.study.address={address!r}: expected HOST:PORT of a Ray cluster, or 'auto' on one of its nodes "
            f"({error}). One that requires a token needs RAY_AUTH_MODE=token here; None starts a local Ray."
        ) from None
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, handler)  # Ray's handler would end the command before its runs are saved
    return True


def _check_answers(address: str) -> None:
    """Raise OSError if no Ray answers at HOST:PORT, where `ray.init` would retry for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", f"--address={address}"]
    try:
        subprocess.run(command, capture_output=True, timeout=_HEALTH_SECONDS, check=True)
    except subprocess.SubprocessError:
        raise OSError("what listens there does not answer as a Ray") from None


def _has_gpus() -> bool:
    import ray

    return ray.cluster_resources().get("GPU", 0) >= 1 and not machine.is_cpu_only()


def _gpus_of_worker(study: Mapping[str, Any]) -> float:
    """Return the GPUs of a task in Ray's count; a part of one if workers share it."""
    return placement.per_run(study) / placement.per_gpu(study)


def _too_large(site: Site, gpus: float) -> list[str]:
    """List what a worker needs and no node of the cluster has."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs: dict[str, tuple[str, int, float]] = {
        "CPU": ("config.threads", site.threads, site.threads),
        "GPU": ("config.study.devices_per_run", placement.per_run(site.study), gpus),
    }
    found = []
    for kind, (field, value, needed) in needs.items():
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if most < needed:
            found.append(f"{field}={value}: no node of the Ray cluster has so many {kind}s; the largest has {most:g}.")
    if not gpus and placement.per_gpu(site.study) > 1:
        found.append(
            f"config.study.workers_per_gpu={placement.per_gpu(site.study)}: the Ray cluster has no GPU; set 1."
        )
    return found


def _outcome(worker: str, reference: Any) -> Ended:
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.TaskCancelledError:
        return Ended(worker, was_stopped=True)
    except exceptions.NodeDiedError as error:
        return Ended(worker, _first_line(error), was_stopped=True)
    except exceptions.RayError as error:
        return Ended(worker, _first_line(error))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
