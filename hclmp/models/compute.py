"""How torch computes in every training: device, threads and memory."""

import ctypes
import logging

import torch

from hclmp.errors import UserError, join_some

log = logging.getLogger(__name__)

# glibc's <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST, MOST_OF_OLD = 2**30, 2**25  # bytes; the second is the most that older releases accept


def prepare(threads: int, *, deterministic: bool) -> None:
    """Set up torch for a training: number of threads, and whether runs give equal results."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    # Deterministic algorithms would also fill new memory, which nothing here reads unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def device_of(name: str) -> torch.device:
    """The device that the configuration names: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: no such device on this machine.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    available = ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "auto":
        name = gpus[0] if gpus else "cpu"
    chosen = "cuda:0" if name == "cuda" else name
    if chosen not in available:
        built = "" if torch.version.cuda else ", and this torch is built without CUDA"
        raise UserError(
            f"`training.device: {name}`: no such device here; there is {join_some(available)}"
            f"{built}. `auto` takes a GPU where there is one."
        )
    device = torch.device(chosen)
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    log.info("computing on %s%s", device, gpu)
    return device


def _keep_freed_memory() -> None:
    """Let glibc keep the memory that a training step frees for the next step.

    By default it returns large blocks to the system and gets them again page by page, filled with
    zeros, which takes a fifth to a third of a step of three members. Without glibc this does
    nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    # Setting the second alone would freeze the first at its small default.
    if mallopt(M_MMAP_THRESHOLD, MOST) or mallopt(M_MMAP_THRESHOLD, MOST_OF_OLD):
        mallopt(M_TRIM_THRESHOLD, MOST)
