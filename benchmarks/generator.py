"""How close a generator's faces are to renders: ``python benchmarks/generator.py [--renders DIR] [--faces 1200]``.

``DIR`` holds renders that the generator was not trained on, at least twice ``--faces`` of them drawn as people, by
default those that are shipped. In the verifier's features, as published for other ones: the Fréchet distance (Heusel et
al., NeurIPS 2017), and precision and recall (Kynkäänniemi et al., NeurIPS 2019). Each stands beside the floor: what two
sets of renders give. Also milliseconds a face and, with OpenCV, in how many frontal, well-lit faces its Haar cascade,
trained on photographs, finds one.
"""

import argparse
import time
from dataclasses import replace

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from sia_gen.core.executors import resolve_device
from sia_gen.core.files import pretrained_folder
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import FaceSpec
from sia_gen.studio.renders import read_renders
from sia_gen.studio.sampling import drawn_evenly, sample
from sia_gen.targets.verifier import load_verifier

NEIGHBOURS = 3
BATCH = 32
HAAR_FACES = 400
WELL_LIT = {"yaw": 10, "pitch": 10, "light_azimuth": 45, "light_strength": 0.7}  # at most, either way


def frechet(real, made):
    """Both are features already, so the metric's own network is none."""
    metric = FrechetInceptionDistance(feature=nn.Identity().requires_grad_(False), input_img_size=(real.shape[1],))
    metric.update(real, real=True)
    metric.update(made, real=False)
    return metric.compute().item()


def covered(inside, around):
    """Share of ``inside`` that lies within reach of some point ``around``: nearer than that one's third neighbour."""
    reach = torch.cdist(around, around).kthvalue(NEIGHBOURS + 1, dim=1).values
    return (torch.cdist(inside, around) <= reach).any(dim=1).float().mean().item()


def haar(images):
    import cv2

    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = 0
    for image in to_bytes(images):
        grey = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        grey = cv2.copyMakeBorder(grey, *[len(grey) // 8] * 4, cv2.BORDER_REPLICATE)
        side = 2 * 160
        found += len(cascade.detectMultiScale(cv2.resize(grey, (side, side)), 1.05, 3, minSize=(side // 4,) * 2)) > 0
    return found / len(images)


def well_lit(spec):
    chosen = spec["light_elevation"].clamp(0, 50) == spec["light_elevation"]
    for name, most in WELL_LIT.items():
        chosen &= spec[name].abs() <= most
    return chosen.nonzero().flatten()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", default=pretrained_folder() / "faces-renders")
    parser.add_argument("--generator", default="faces-stylegan2")
    parser.add_argument("--verifier", default="verifier")
    parser.add_argument("--faces", type=int, default=1200)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = str(resolve_device(options.device))
    generator, data = load_generator(options.generator, device), read_renders(options.renders)
    # The generator draws people, so they are held against renders of people.
    people = ~drawn_evenly(data.identity.tolist(), data.settings["spread"])
    fields = ("images", "values", "latents", "landmarks", "identity")
    data = replace(data, **{name: getattr(data, name)[people] for name in fields})
    if len(data) < 2 * options.faces:
        parser.error(
            f"--faces {options.faces} needs {2 * options.faces} renders; '{options.renders}' holds {len(data)}"
        )
    verifier = load_verifier(options.verifier, device)

    @torch.inference_mode()
    def of(count, picture):
        return torch.cat(
            [verifier.look(picture(part).to(device))[1].cpu() for part in torch.arange(count).split(BATCH)]
        )

    def sampled(part):
        return generator.render(generator.sample([10**9 + int(seed) for seed in part]))

    first = of(options.faces, lambda part: from_bytes(data.images[part]))
    second = of(options.faces, lambda part: from_bytes(data.images[part + options.faces]))
    made = of(options.faces, sampled)
    for name, other in (("generator", made), ("renders (the floor)", second)):
        distance = frechet(first, other)
        print(
            f"{name}: Fréchet {distance:.3f}, precision {covered(other, first):.3f}, recall {covered(first, other):.3f}"
        )

    single = generator.sample([0])
    times = []
    with torch.inference_mode():
        for _ in range(30):
            start = time.perf_counter()
            generator.render(single).sum().item()
            times.append(time.perf_counter() - start)
    print(f"one face: {1000 * sorted(times)[len(times) // 2]:.1f} ms")

    seeds = [2 * 10**9 + index for index in range(20 * HAAR_FACES)]
    chosen = well_lit(sample(seeds))[:HAAR_FACES].tolist()
    mine = well_lit(FaceSpec(data.values))[:HAAR_FACES]
    try:
        with torch.inference_mode():
            faces = generator.render(generator.sample([seeds[index] for index in chosen])).cpu()
        print(f"Haar cascade: {haar(faces):.1%} of {len(faces)} faces of the generator,", end=" ")
        print(f"{haar(from_bytes(data.images[mine])):.1%} of {len(mine)} renders")
    except ImportError:
        print("Haar cascade: not asked; pip install 'sia-gen[opencv]'")


if __name__ == "__main__":
    main()
