"""Ray itself: starting it or connecting to it, and how many workers its machines hold."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import ray
from segcore_plugin_predict import Job

from segcore import OptionValueError, PluginError

STORE = 2**28  # bytes of shared memory for lists of paths; images never pass through Ray
PER_IMAGE = 512
STARTS = 3
QUIET = logging.ERROR  # Ray speaks of itself otherwise


@dataclass(frozen=True, slots=True)
class Plan:
    """How the work is spread.

    Attributes:
        workers: processes.
        threads: CPU threads of each.
        cpus: what each asks of Ray.
        gpus: what each asks of Ray.
    """

    workers: int
    threads: int
    cpus: float
    gpus: float


@contextlib.contextmanager
def connected(address: str | None, images: int) -> Iterator[None]:
    """Use the Ray that this process is connected to; else connect to a cluster, or start one on this machine.

    Args:
        address: of a cluster, ``"auto"`` for that of this machine, or ``"local"`` to start one; None for the variable
            ``RAY_ADDRESS``, and without it to start one.
        images: how many will be listed.

    Raises:
        OptionValueError: there is no cluster at the address.
        PluginError: Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise OptionValueError(
            f"address {address!r} is that of a Ray client. Start the program on a machine of the cluster, with "
            f"RAY_ADDRESS=auto, or with ray job submit."
        )
    if address == "local":
        start(STORE + PER_IMAGE * images)
    else:
        try:
            ray.init(address, log_to_driver=False, logging_level=QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise OptionValueError(
                f"there is no Ray at address {address!r}: {reason}. Start it with 'ray start --head', or leave "
                f"RAY_ADDRESS out to use this machine alone."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def start(store: int, cpus: int | None = None) -> None:
    """Start Ray on this machine; a busy one may be too slow for the time that Ray gives itself.

    Args:
        store: bytes of shared memory.
        cpus: how many it may use; None for all.

    Raises:
        PluginError: it does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=store,
                log_to_driver=False,
                logging_level=QUIET,
            )
        except Exception as error:  # Ray raises it bare
            ray.shutdown()
            if not left:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                raise PluginError(
                    f"Ray does not start on this machine: {reason}. Its logs are in /tmp/ray/session_latest/logs.",
                    distribution="segcore-plugin-ray",
                ) from error
        else:
            return


def plan(job: Job, images: int) -> Plan:
    """Return how a job of some images is spread over the connected machines.

    A worker asks Ray for half of the CPUs that it uses. Workers that ask for all leave none for Ray Data itself, which
    then waits for ever (ray-project/ray#44687).

    Raises:
        OptionValueError: there are not enough CPUs or GPUs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    threads = job.threads or 1
    cpus = [float(node.get("CPU", 0)) for node in nodes]
    room = sum(math.floor(count / threads) for count in cpus)
    gpus = _gpus(job, nodes)
    workers = job.workers or max(1, math.floor(gpus) if gpus else room)
    if workers > room:
        raise OptionValueError(
            f"--workers {workers} with {threads} CPU threads each do not fit the {len(nodes)} machines of Ray, which "
            f"have {' + '.join(f'{count:g}' for count in cpus)} CPUs: there is room for {room}. "
            + ("Use fewer, or fewer --threads." if room else f"Use --threads {max(1, math.floor(max(cpus)))} or fewer.")
        )
    workers = min(workers, images)
    share = min(1.0, 1 / math.ceil(workers / math.floor(gpus))) if gpus else 0.0
    return Plan(workers, threads, threads / 2, share)


def _gpus(job: Job, nodes: list[dict[str, float]]) -> float:
    """Return how many GPUs the workers share, 0 if they use none."""
    total = math.floor(sum(node.get("GPU", 0) for node in nodes))
    name = job.device or ("cuda" if total else "cpu")
    if name.partition(":")[0] != "cuda":
        return 0
    if name != "cuda":
        raise OptionValueError(f"--device {name!r}: Ray chooses the GPU of each worker. Use --device cuda.")
    if not total:
        raise OptionValueError("--device 'cuda': no machine of Ray has a GPU. Use --device cpu.")
    return total
