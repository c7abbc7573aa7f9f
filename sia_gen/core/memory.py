"""How this process holds on to memory."""

from __future__ import annotations

import ctypes
import platform

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
HELD = 2**30  # bytes: blocks below are reused


def hold_memory() -> None:
    """Keep freed memory for the next pass instead of handing it back, where the C library is glibc.

    It hands back blocks above 32 MiB at once by default, as the activations of a batch are, and the kernel then clears
    the same memory again in every pass: an audit on two cores takes a fifth longer. This is for the main thread of a
    process that computes on the CPU. A glibc before 2.35 allows no more than its default, and is left as it is.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        if library.mallopt(M_MMAP_THRESHOLD, HELD):
            library.mallopt(M_TRIM_THRESHOLD, HELD)
