import platform
import subprocess
import sys

import pytest

PASSES = """
import resource
import torch
from sia_gen.core.memory import hold_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
hold_memory()
faults()
print(usual, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_what_a_pass_frees_is_there_for_the_next_one():
    if tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35):
        pytest.skip("this glibc allows no more than it does by default")
    run = subprocess.run([sys.executable, "-c", PASSES], capture_output=True, text=True, check=True)
    usual, held = map(int, run.stdout.split())
    assert held < usual / 10
