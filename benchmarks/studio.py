"""How many faces a second the studio renders, on all cores of a CPU or on a GPU, and within a process as audits do.

python benchmarks/studio.py [--makehuman DIR] [--device cuda] [--faces 256]
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from sia_gen.core.executors import resolve_device
from sia_gen.studio.renders import BATCH, CHUNK
from sia_gen.studio.sampling import sample
from sia_gen.studio.studio import Studio


def start(makehuman, resolution, device, threads):
    global studio, batch
    if threads:
        torch.set_num_threads(threads)
    studio = Studio(makehuman, resolution, device)
    batch = BATCH if device == "cpu" else CHUNK
    render(range(batch))


def render(seeds):
    device = studio.landmarks.device
    for begin in range(0, len(seeds), batch):
        made = studio.render(sample(seeds[begin : begin + batch]).to(device))
    made.images[0, 0, 0, 0].item()  # waits for the device
    return time.perf_counter()


def beside(event):
    """Keep a core busy until the event."""
    torch.set_num_threads(1)
    while not event.is_set():
        torch.rand(256, 256) @ torch.rand(256, 256)


def in_process(makehuman, resolution, faces):
    """On one thread of this process, as failures are confirmed: alone, and beside a busy process."""
    start(makehuman, resolution, "cpu", 1)
    print(f"{resolution:4d} px on one thread, the machine's load being {os.getloadavg()[0]:.1f}:")
    for busy in (False, True):
        event = get_context("spawn").Event()
        if busy:
            get_context("spawn").Process(target=beside, args=(event,), daemon=True).start()
            time.sleep(5)  # until it computes
        began, used = time.perf_counter(), time.process_time()
        render(range(faces))
        rates = faces / (time.perf_counter() - began), faces / (time.process_time() - used)
        event.set()
        print(
            f"{'beside a busy process' if busy else 'alone':>24}: {rates[0]:.1f} faces/s, {rates[1]:.1f} a CPU second"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--makehuman", help="a MakeHuman folder; by default what is installed of it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128])
    options = parser.parse_args()
    options.device = str(resolve_device(options.device))
    workers = len(os.sched_getaffinity(0)) if options.device == "cpu" else 1
    options.faces = max(options.faces, workers)
    print(f"{options.faces} faces, {workers} process(es), device {options.device}")
    for resolution in options.resolutions:
        settings = (options.makehuman, resolution, options.device, 1 if options.device == "cpu" else 0)
        with ProcessPoolExecutor(workers, get_context("spawn"), start, settings) as pool:
            shares = [range(worker, options.faces, workers) for worker in range(workers)]
            list(pool.map(render, [range(BATCH)] * workers))  # every process has started and is warm
            began = time.perf_counter()
            ended = max(pool.map(render, shares))
        print(f"{resolution:4d} px: {options.faces / (ended - began):7.1f} faces/s")
    if options.device == "cpu":
        in_process(options.makehuman, options.resolutions[-1], max(1, options.faces // 4))


if __name__ == "__main__":
    main()
