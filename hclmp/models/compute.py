"""How torch computes in every training: on what, with how many threads, and memory kept."""

import ctypes
import logging

import torch

from hclmp.errors import UserError, join_some

log = logging.getLogger(__name__)

# glibc's <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST, MOST_OF_OLD = 2**30, 2**25  # bytes; what older releases take at most


def prepare(threads: int, *, deterministic: bool) -> None:
    """Set up torch for a training on so many threads; ``deterministic``: the same at every run."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    # It would also fill all memory before it is written to; nothing here reads it before.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def device_of(name: str) -> torch.device:
    """The device that the configuration names: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: there is none of that name here.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there = ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
    if name == "auto":
        name = gpus[0] if gpus else "cpu"
    chosen = "cuda:0" if name == "cuda" else name
    if chosen not in there:
        built = "" if torch.version.cuda else ", and this torch is built without CUDA"
        raise UserError(
            f"`training.device: {name}`: no such device here; there is {join_some(there)}{built}. "
            "`auto` takes a GPU where there is one."
        )
    device = torch.device(chosen)
    called = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    log.info("computing on %s%s", device, called)
    return device


def _keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next one.

    It would else give large blocks back to the system and be handed them anew, page by page and
    filled with zeros: a fifth to a third of a step of three members. Elsewhere nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    # The second without the first would freeze that at its small default.
    if mallopt(M_MMAP_THRESHOLD, MOST) or mallopt(M_MMAP_THRESHOLD, MOST_OF_OLD):
        mallopt(M_TRIM_THRESHOLD, MOST)
