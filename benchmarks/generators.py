"""Generators of others: speed and memory, side by side in one run.

    python benchmarks/generators.py [--nvidia DIR] [--rosinality DIR] [--resolution 256] [--device cpu]
    python benchmarks/generators.py --memory [--limit 14] [--precision bf16]

``DIR`` are checkouts of NVlabs/stylegan2-ada-pytorch and rosinality/stylegan2-pytorch, whose own code then draws the
same weights; what is drawn is held against ours first. Printed are milliseconds of a synthesis and of its gradient in w
at batches of 1 and 8, the least of five runs, and for diffusion models the time and the peak memory of one gradient
through all steps, with activations made again step by step and plainly kept. Networks have real sizes, random weights.
``--memory`` asks that of a model of Stable Diffusion 1.5's size at 512 px and of a StyleGAN2 at 1024 px alone; what
would take more than ``--limit`` GiB is given up, on a CPU by default more than 0.6 of what is available.
"""

import argparse
import ctypes
import pickle
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType

import psutil
import torch
from torch.utils import cpp_extension

from sia_gen.core.executors import resolve_device
from sia_gen.core.memory import hold_memory
from sia_gen.generators.foreign import diffusion, text_to_image
from sia_gen.generators.foreign.convert import convert
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from sia_gen.generators.foreign.text_to_image import TextToImage
from sia_gen.generators.load import load_generator

RUNS, BATCHES = 5, (1, 8)
FREE = 0.6  # of the memory that is available, what this process may take
ALIKE = 1e-4  # of pictures in [−1, 1]


def nvidia(place, resolution, folder):
    """NVIDIA's network, its function of w+, and the same as ours."""
    if "pkg_resources" not in sys.modules:  # it asks for versions there, of which setuptools no longer has any
        from packaging.version import parse

        sys.modules["pkg_resources"] = ModuleType("pkg_resources")
        sys.modules["pkg_resources"].parse_version = parse
    sys.path.insert(0, str(place))
    from training.networks import Generator

    sizes = {"channel_base": 16384, "channel_max": 512, "num_fp16_res": 0}
    theirs = Generator(512, 0, 512, resolution, 3, mapping_kwargs={"num_layers": 8}, synthesis_kwargs=sizes)
    (folder / "net.pkl").write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": theirs}))
    ours = convert(folder / "net.pkl", folder / "nvidia")
    return ours, lambda w: theirs.synthesis(w, noise_mode="const", force_fp32=True), theirs


def rosinality(place, resolution, folder):
    """The same for rosinality's, whose compiled parts a CPU does not need."""
    cpp_extension.load = lambda *given, **options: None
    sys.path.insert(0, str(place))
    from model import Generator

    theirs = Generator(resolution, 512, 8, channel_multiplier=1)
    torch.save({"g_ema": theirs.state_dict()}, folder / "net.pt")
    ours = convert(folder / "net.pt", folder / "rosinality")
    return ours, lambda w: theirs([w], input_is_latent=True, randomize_noise=False)[0], theirs


def timed(draw, w):
    """The least seconds of a picture and its gradient."""
    seconds = []
    for _ in range(RUNS):
        asked = w.clone().requires_grad_()
        start = time.perf_counter()
        draw(asked).square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def styles(family, place, resolution, device):
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        ours, theirs, network = family(place, resolution, Path(folder))
    network.eval().requires_grad_(False).to(device)
    ours.to(device)
    w = ours.sample([0]).to(device)
    with torch.no_grad():
        apart = (ours.synthesis(w) - theirs(w)).abs().max().item()
    print(f"\n{family.__name__} at {resolution} px: ours and theirs are {apart:.1e} apart")
    if apart > ALIKE:
        raise SystemExit(f"they draw different pictures, by {apart:.2g}: more than {ALIKE:g}")
    for batch in BATCHES:
        w = ours.sample(range(batch)).to(device)
        mine, other = timed(ours.synthesis, w), timed(theirs, w)
        print(
            f"  batch {batch}: ours {mine * 1e3:6.0f} ms, theirs {other * 1e3:6.0f} ms, {other / mine:.2f} times faster"
        )


class Peak:
    """How much more memory a block took at its peak than before it, in MiB."""

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        ctypes.CDLL(None).malloc_trim(0)  # what is kept for later is not in use
        self.before = self.most = resident()
        self.ends = threading.Event()
        self.watch = threading.Thread(target=self._watch)
        self.watch.start()
        return self

    def _watch(self):
        while not self.ends.wait(0.002):
            self.most = max(self.most, resident())

    def __exit__(self, *_):
        if self.device.type == "cuda":
            self.mib = (torch.cuda.max_memory_allocated() - self.before) / 2**20
            return
        self.ends.set()
        self.watch.join()
        self.mib = (self.most - self.before) / 2**20


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def gradient(generator, device, precision):
    """Seconds and MiB of one face and its gradient in h, or in w; None where it would take more than there is."""
    codes, space = generator.sample([0]), "h" if "h" in generator.edit_shapes else "w"
    edits = torch.zeros(1, *generator.edit_shapes[space], device=device, requires_grad=True)
    peak = Peak(device)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"), peak:
            start = time.perf_counter()
            generator.render(codes, edits, space).square().mean().backward()
            seconds = time.perf_counter() - start
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return None
    return seconds, peak.mib


def told(measured):
    return "more than there is" if measured is None else f"{measured[0]:6.2f} s {measured[1]:6.0f} MiB"


def diffused(name, generator, counts, device, precision):
    """One row a number of steps: each step made again, and all kept."""
    again = diffusion.checkpoint, text_to_image.checkpoint
    generator.to(device)
    print(f"\n{name}, {precision}, weights {weight(generator):.0f} MiB")
    print("seconds and MiB of a face and its gradient beside them, steps made again | kept")
    generator.schedule(generator.scheduler, counts[0], generator.acts)
    gradient(generator, device, precision)  # the first one takes longer
    for steps in counts:
        generator.schedule(generator.scheduler, steps, generator.acts)
        made = gradient(generator, device, precision)
        diffusion.checkpoint = text_to_image.checkpoint = lambda step, *given, use_reentrant: step(*given)
        kept = gradient(generator, device, precision)
        diffusion.checkpoint, text_to_image.checkpoint = again
        print(f"  {steps:2d} steps: {told(made)} | {told(kept)}", flush=True)


def weight(generator):
    """MiB of all weights."""
    return sum(each.numel() * each.element_size() for each in generator.parameters()) / 2**20


def limited(gib):
    """Let this process have no more than so many GiB: what asks for more fails, and nothing else on the machine."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)


def stylegan2(resolution):
    """A StyleGAN2 of NVIDIA's sizes with random weights."""
    channels = tuple(min(512, 32768 // (4 * 2**index)) for index in range(resolution.bit_length() - 2))
    made = StyleGAN2ADA(StyleGAN2ADAConfig(name="stylegan2", channels=channels))
    return made.still()


def stable_diffusion():
    """A model of Stable Diffusion 1.5's size with random weights and a prompt of zeros, at 512 px."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    class Silent(torch.nn.Module):
        def forward(self, tokens, output_hidden_states=False):
            return type("Said", (), {"last_hidden_state": torch.zeros(len(tokens), 77, 768, device=tokens.device)})()

    class Letters:
        model_max_length = 77

        def __call__(self, texts, **options):
            return type("Tokens", (), {"input_ids": torch.zeros(len(texts), 77, dtype=torch.int64)})()

    widths = (128, 256, 512, 512)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    decoder = AutoencoderKL(
        block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, sample_size=512,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing", clip_sample=False)
    made = TextToImage("sd", unet, scheduler, decoder, [(Letters(), Silent())], guidance=1.0)
    return made.eval().requires_grad_(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvidia", type=Path)
    parser.add_argument("--rosinality", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--memory", action="store_true", help="what one gradient of a large model takes, and no more")
    parser.add_argument("--limit", type=float, help="GiB that this process may take")
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.limit is None and options.memory and device.type == "cpu":
        options.limit = FREE * psutil.virtual_memory().available / 2**30
    if options.limit is not None:
        limited(options.limit)
    if options.memory:
        large = stylegan2(1024).to(device)
        print(f"StyleGAN2 at 1024 px, {options.precision}, weights {weight(large):.0f} MiB; a face and its gradient:")
        print(f"  {told(gradient(large, device, options.precision))}")
        diffused("Stable Diffusion's size at 512 px", stable_diffusion(), (1, 2, 4), device, options.precision)
        return
    hold_memory()  # as the command line does
    for family, place in ((nvidia, options.nvidia), (rosinality, options.rosinality)):
        if place is not None:
            styles(family, place, options.resolution, device)
    diffused("faces-ddpm", load_generator("faces-ddpm"), (1, 5, 10), device, options.precision)


if __name__ == "__main__":
    main()
