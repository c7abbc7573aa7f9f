"""From a checkpoint of others to a folder of ours: their names and gains, once and for all.

Read: NVIDIA's pickles of StyleGAN2, StyleGAN2-ADA and StyleGAN3 in PyTorch ("G_ema"), and rosinality's ``.pt`` of
StyleGAN2 ("g_ema").
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar
from uuid import uuid4

import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError, named_file
from sia_gen.core.files import is_file, writable_folder
from sia_gen.core.foreign import first_line
from sia_gen.generators.foreign.mapped import Mapped
from sia_gen.generators.foreign.pickles import Stub, read_pickle
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from sia_gen.generators.foreign.stylegan3 import LayerConfig, StyleGAN3, StyleGAN3Config

NVIDIA = "NVIDIA Source Code License: research and evaluation only, not for commercial use"
UNKNOWN = "unknown: ask whoever trained it"
SAVED = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # how files begin: a zip, and before torch 1.6
Family = TypeVar("Family", bound=Mapped)
ROSINALITY_LR = 0.01  # of the mapping network's weights, which the file does not say


def convert(checkpoint: str | Path, out: str | Path, name: str | None = None) -> Mapped:
    """Convert ``checkpoint`` (``.pkl`` or ``.pt``) into the folder ``out``, new or empty, and give the generator.

    ``name`` is the generator's, by default that of the folder. Nothing in the checkpoint is run. Raises `RequestError`
    for a file of another kind and where ``out`` holds something, its `DamageError` for a damaged one.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if not checkpoint.is_file():
        raise RequestError(f"'{checkpoint}' is no file; name a StyleGAN's, NVIDIA's .pkl or rosinality's .pt")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    name = re.sub(r"[^\w-]+", "-", name or out.resolve().name)
    made: Mapped
    with named_file():
        try:
            if saved_by_torch(checkpoint):
                made = of_rosinality(read_pt(checkpoint), name, {"sha256": digest, "licence": UNKNOWN})
            else:
                made = of_nvidia(read_pickle(checkpoint)["G_ema"], name, {"sha256": digest, "licence": NVIDIA})
        except (RequestError, WorkError):
            raise
        except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise WorkError(f"'{checkpoint}' is damaged ({first_line(error)}); fetch it again") from None
    folder = writable_folder(out)
    if any(folder.iterdir()):
        raise RequestError(f"'{folder}' is not empty; choose another folder")
    made.save(folder)
    return made


def converted(checkpoint: Path) -> Path:
    """The folder of a checkpoint that was converted once and kept, under ``SIA_GEN_CACHE`` or the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("SIA_GEN_CACHE") or Path(home) / "sia-gen")
    with checkpoint.open("rb") as file:
        folder = cache / "converted" / f"{checkpoint.stem}-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if not is_file(folder / "model.safetensors"):
        made = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
        convert(checkpoint, made, folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def saved_by_torch(path: Path) -> bool:
    """Whether a file is what `torch.save` writes, whatever its name."""
    with path.open("rb") as file:
        return file.read(16).startswith(SAVED)


def read_pt(path: Path) -> dict[str, Any]:
    """What a ``.pt`` holds, tensors and plain values alone; raises `WorkError` for a damaged one or anything else."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise WorkError(f"'{path}' is damaged, or holds more than tensors and numbers; fetch it again") from None
    except Exception as error:  # torch has a kind of its own for each fault
        raise WorkError(f"cannot read '{path}' ({first_line(error)}); fetch the file again") from None
    if not isinstance(found, dict) or not isinstance(found.get("g_ema"), Mapping):
        raise RequestError(f"'{path}' holds no 'g_ema'; name a checkpoint of rosinality's StyleGAN2")
    return found


def of_nvidia(network: Stub, name: str, source: dict[str, str]) -> Mapped:
    """NVIDIA's generator; raises `RequestError` for one of another family, `WorkError` where parts are missing."""
    mapping, synthesis = network.part("mapping"), network.part("synthesis")
    fully = [part for part in mapping["_modules"] if re.fullmatch(r"fc\d+", part)]
    c_dim = int(network.get("c_dim", 0))
    common: dict[str, Any] = {
        "name": name,
        "z_dim": int(network.get("z_dim", 512)),
        "w_dim": int(network.get("w_dim", 512)),
        "c_dim": c_dim,
        "mapping": tuple(mapping.part(f"fc{index}").tensors()["weight"].shape[0] for index in range(len(fully))),
        "embed": mapping.part("embed").tensors()["weight"].shape[0] if c_dim else 0,
        "source": source,
    }
    found: dict[str, Tensor] = {"mean": mapping.tensors().get("w_avg", torch.zeros(common["w_dim"]))}
    for index in range(len(fully)):
        found |= _linear(f"mapping.layers.{index}", mapping.part(f"fc{index}"))
    if c_dim:
        found |= _linear("mapping.embed", mapping.part("embed"))
    return (_stylegan3 if "input" in synthesis["_modules"] else _stylegan2)(network.kind, synthesis, common, found)


def _stylegan2(kind: str, synthesis: Stub, common: dict[str, Any], found: dict[str, Tensor]) -> StyleGAN2ADA:
    sizes = sorted(int(part[1:]) for part in synthesis["_modules"] if re.fullmatch(r"b\d+", part))
    if not sizes or sizes != [4 * 2**index for index in range(len(sizes))]:
        raise RequestError(f"a {kind} with layers {', '.join([*synthesis['_modules']][:3])} … is no StyleGAN")
    blocks = [synthesis.part(f"b{size}") for size in sizes]
    last = blocks[-1].part("torgb").tensors()["weight"]
    if last.shape[0] != 3:
        raise RequestError(f"the network draws {last.shape[0]} channels, not 3; take one of colour pictures")
    second = blocks[-1].part("conv1")
    filtered = blocks[-1].tensors().get("resample_filter")
    config = StyleGAN2ADAConfig(
        **common,
        channels=tuple(block.part("conv1").tensors()["weight"].shape[0] for block in blocks),
        architecture=blocks[-1].plain("architecture", str, "skip"),
        clamp=second.plain("conv_clamp", int | float, None),
        filter=(1.0, 3.0, 3.0, 1.0) if filtered is None else tuple(_taps(filtered).tolist()),
        noisy=bool(second.get("use_noise", True)),
    )
    for index, block in enumerate(blocks):
        place, own = f"blocks.{index}", block.tensors()
        if not index:
            found[f"{place}.start"] = own["const"]
        for part, theirs in (("first", "conv0"), ("second", "conv1")):
            if theirs in block["_modules"]:
                found |= _layer(f"{place}.{part}", block.part(theirs), config.noisy)
        if "torgb" in block["_modules"]:
            found |= _picture(f"{place}.picture", block.part("torgb"))
        if "skip" in block["_modules"]:
            weight = block.part("skip").tensors()["weight"]
            found[f"{place}.skip.weight"] = weight / math.sqrt(weight[0].numel())
    return _filled(StyleGAN2ADA(config), found)


def _stylegan3(kind: str, synthesis: Stub, common: dict[str, Any], found: dict[str, Tensor]) -> StyleGAN3:
    first, names = synthesis.part("input"), [name for name in synthesis["_modules"] if re.match(r"L\d+_", name)]
    layers = [synthesis.part(name) for name in sorted(names, key=lambda name: int(name[1:].split("_")[0]))]
    if not layers:
        raise RequestError(f"a {kind} without layers is no StyleGAN3; take another checkpoint")
    own = first.tensors()
    found |= _linear("sines.affine", first.part("affine"))
    found |= {"sines.frequencies": own["freqs"], "sines.phases": own["phases"], "sines.transform": own["transform"]}
    found["sines.weight"] = own["weight"] / math.sqrt(len(own["weight"]))
    parts = []
    for index, layer in enumerate(layers):
        place, own, shown = f"layers.{index}", layer.tensors(), bool(layer["is_torgb"])
        weight = own["weight"]
        raised, lowered = own.get("up_filter", torch.ones(1)), own.get("down_filter", torch.ones(1))
        before, after = (int(end) for end in layer["padding"][:2])
        outputs, inputs, kernel = weight.shape[:3]
        parts.append(
            LayerConfig(
                inputs=inputs,
                outputs=outputs,
                kernel=kernel,
                side=int(layer["out_size"][0]),
                up=int(layer["up_factor"]),
                down=int(layer["down_factor"]),
                taps=(len(raised), len(lowered)),
                padding=(before, after),
                radial=lowered.ndim == 2,
                shown=shown,
                clamp=layer.plain("conv_clamp", int | float, None),
            )
        )
        gain = 1 / math.sqrt(weight[0].numel()) if shown else 1.0
        found |= _linear(f"{place}.affine", layer.part("affine"), gain)
        size = 1.0 if shown else weight.square().mean((1, 2, 3), keepdim=True).sqrt()
        found |= {f"{place}.weight": weight / size, f"{place}.bias": own["bias"]}
        found |= {f"{place}.gain": own["magnitude_ema"].rsqrt(), f"{place}.raised": raised, f"{place}.lowered": lowered}
    config = StyleGAN3Config(
        **common,
        side=int(first["size"][0]),
        rate=float(first["sampling_rate"]),
        band=float(first["bandwidth"]),
        synthesis=tuple(parts),
        scale=float(synthesis.get("output_scale", 1.0)),
    )
    return _filled(StyleGAN3(config), found)


def _taps(filtered: Tensor) -> Tensor:
    """The taps of a filter that is given along both axes."""
    return filtered if filtered.ndim == 1 else filtered.sum(dim=0)


def _linear(place: str, layer: Stub, gain: float = 1.0) -> dict[str, Tensor]:
    """Weights and bias as they are used, with their gain and learning rate multiplied in."""
    own = layer.tensors()
    weight = own["weight"] * float(layer.get("weight_gain", 1 / math.sqrt(own["weight"].shape[1])))
    bias = own.get("bias", torch.zeros(len(weight))) * float(layer.get("bias_gain", 1.0))
    return {f"{place}.weight": weight * gain, f"{place}.bias": bias * gain}


def _layer(place: str, layer: Stub, noisy: bool) -> dict[str, Tensor]:
    own = layer.tensors()
    found = {f"{place}.conv.weight": own["weight"], f"{place}.bias": own["bias"]}
    found |= _linear(f"{place}.conv.affine", layer.part("affine"))
    if noisy:
        found |= {f"{place}.noise": own["noise_const"], f"{place}.strength": own["noise_strength"]}
    return found


def _picture(place: str, layer: Stub) -> dict[str, Tensor]:
    own = layer.tensors()
    gain = 1 / math.sqrt(own["weight"][0].numel())
    return {
        f"{place}.conv.weight": own["weight"],
        f"{place}.bias": own["bias"],
        **_linear(f"{place}.conv.affine", layer.part("affine"), gain),
    }


def of_rosinality(checkpoint: Mapping[str, Any], name: str, source: dict[str, str]) -> StyleGAN2ADA:
    """rosinality's generator, its sizes told from its tensors; raises `WorkError` where parts are missing."""
    state: Mapping[str, Tensor] = checkpoint["g_ema"]
    try:
        count = 1 + sum(1 for key in state if re.fullmatch(r"to_rgbs\.\d+\.bias", key))
        layers = sorted({int(match[1]) for key in state if (match := re.match(r"style\.(\d+)\.weight$", key))})
        first = state["conv1.conv.weight"]
        channels = [first.shape[1], *(state[f"convs.{2 * index}.conv.weight"].shape[1] for index in range(count - 1))]
        config = StyleGAN2ADAConfig(
            name=name,
            channels=tuple(channels),
            z_dim=state[f"style.{layers[0]}.weight"].shape[1],
            w_dim=state["conv1.conv.modulation.weight"].shape[1],
            mapping=tuple(state[f"style.{layer}.weight"].shape[0] for layer in layers),
            source=source,
        )
        mean = checkpoint.get("latent_avg")
        found: dict[str, Tensor] = {"mean": torch.zeros(config.w_dim) if mean is None else mean.reshape(-1)}
        for index, layer in enumerate(layers):
            weight = state[f"style.{layer}.weight"]
            found[f"mapping.layers.{index}.weight"] = weight * (ROSINALITY_LR / math.sqrt(weight.shape[1]))
            found[f"mapping.layers.{index}.bias"] = state[f"style.{layer}.bias"] * ROSINALITY_LR
        found["blocks.0.start"] = state["input.input"][0]
        found |= _theirs("blocks.0.second", state, "conv1", 0) | _theirs_shown("blocks.0.picture", state, "to_rgb1")
        for index in range(1, count):
            found |= _theirs(f"blocks.{index}.first", state, f"convs.{2 * index - 2}", 2 * index - 1)
            found |= _theirs(f"blocks.{index}.second", state, f"convs.{2 * index - 1}", 2 * index)
            found |= _theirs_shown(f"blocks.{index}.picture", state, f"to_rgbs.{index - 1}")
    except (KeyError, IndexError, AttributeError) as error:
        raise WorkError(f"the checkpoint lacks {error}; it is none of rosinality's StyleGAN2, or damaged") from None
    return _filled(StyleGAN2ADA(config), found)


def _theirs(place: str, state: Mapping[str, Tensor], layer: str, number: int) -> dict[str, Tensor]:
    weight, modulation = state[f"{layer}.conv.weight"][0], state[f"{layer}.conv.modulation.weight"]
    found = {
        f"{place}.conv.weight": weight / math.sqrt(weight[0].numel()),
        f"{place}.conv.affine.weight": modulation / math.sqrt(modulation.shape[1]),
        f"{place}.conv.affine.bias": state[f"{layer}.conv.modulation.bias"],
        f"{place}.bias": state[f"{layer}.activate.bias"].reshape(-1),
        f"{place}.strength": state[f"{layer}.noise.weight"].reshape(()),
    }
    noise = state.get(f"noises.noise_{number}")
    side = 4 * 2 ** int(place.split(".")[1])
    return found | {f"{place}.noise": torch.zeros(side, side) if noise is None else noise[0, 0]}


def _theirs_shown(place: str, state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    weight, modulation = state[f"{layer}.conv.weight"][0], state[f"{layer}.conv.modulation.weight"]
    return {
        f"{place}.conv.weight": weight / math.sqrt(weight[0].numel()),
        f"{place}.conv.affine.weight": modulation / math.sqrt(modulation.shape[1]),
        f"{place}.conv.affine.bias": state[f"{layer}.conv.modulation.bias"],
        f"{place}.bias": state[f"{layer}.bias"].reshape(-1),
    }


def _filled(model: Family, found: Mapping[str, Tensor]) -> Family:
    """The network with these tensors, as a generator is loaded."""
    try:
        model.load_state_dict({name: value.detach().float() for name, value in found.items()})
    except RuntimeError as error:
        raise WorkError(f"the network's parts do not fit together ({first_line(error)}); it is damaged") from None
    return model.still()
