"""Where joblib's maps run: in processes of this machine, or on the workers of a Ray cluster.

Ray's own joblib backend hands out no results before the last one is in, and gives up when a worker dies. This one does
neither. Its workers live as long as the notebook, so a model is loaded once in each.
"""

import os
import socket
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from queue import SimpleQueue

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase, get_active_backend

from lib.errors import BadInput
from lib.profiles import ROOT

RETRIES = 3  # of a job whose worker died; one that kills every worker must end some time


def require_ray():
    """Raises BadInput where ray is not installed, and where nothing answers at RAY_ADDRESS (ray tries for minutes)."""
    if find_spec("ray") is None:
        remedy = f"Install it: {sys.executable} -m pip install -r {ROOT / 'requirements-ray.txt'}"
        raise BadInput("--backend ray", "ray is not installed", remedy)
    host, _, port = os.environ.get("RAY_ADDRESS", "").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _nobody(error) from error


def use_ray():
    """From now on the maps of this thread run on the cluster that RAY_ADDRESS names, else on one of this machine.

    Raises BadInput as `require_ray`, and at the first map where there is no such cluster.
    """
    require_ray()
    parallel_config(backend=RayBackend())


def on_cluster() -> bool:
    """Whether this thread's maps run on a cluster."""
    return isinstance(get_active_backend()[0], RayBackend)


class Worker:
    """A process of the cluster. folder, paths: the caller's, for relative files and for imports."""

    def __init__(self, folder: str, paths: list[str]):
        os.chdir(folder)
        sys.path += [path for path in paths if path not in sys.path]

    def run(self, job):
        return job()


class RayBackend(ParallelBackendBase):
    """One worker a GPU of the cluster, or a CPU where it has no GPU, however many processes a map asks for.

    A job whose worker dies is done again by the worker that takes its place. Raises BadInput as `use_ray`.
    """

    supports_retrieve_callback = True  # and so results one by one
    threads: ThreadPoolExecutor | None = None  # one a worker, which waits for it

    def effective_n_jobs(self, n_jobs: int) -> int:
        if self.threads is None:
            self._start()
        return max(2, len(self.workers))  # the job of only one worker joblib would do in this process

    def _start(self):
        import ray

        _connect()
        found = ray.cluster_resources()
        unit = "GPU" if "GPU" in found else "CPU"
        options = {f"num_{unit.lower()}s": 1, "max_restarts": -1, "max_task_retries": RETRIES}
        start = ray.remote(**options)(Worker).remote
        self.workers = [start(os.getcwd(), sys.path) for _ in range(int(found[unit]))]
        self.idle = SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(len(self.workers))

    def submit(self, func, callback=None) -> Future:
        future = self.threads.submit(_run, self.idle, func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future):
        return out.result()

    def abort_everything(self, ensure_ready: bool = True):
        import ray

        if self.threads is None:  # there is nothing yet, or another map aborted
            return
        self.threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            ray.kill(worker)
        self.threads = None  # the next map starts others


def _run(idle: SimpleQueue, job):
    import ray

    worker = idle.get()
    try:
        return ray.get(worker.run.remote(job))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        idle.put(worker)


def _connect():
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports to its makers
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise _nobody(error) from error


def _nobody(error: OSError) -> BadInput:
    problem = f"there is no Ray cluster at {os.environ.get('RAY_ADDRESS')!r} ({error})"
    return BadInput("RAY_ADDRESS", problem, "Correct it, or unset it to use this machine alone")
