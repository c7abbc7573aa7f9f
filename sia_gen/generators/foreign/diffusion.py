"""Unconditional diffusion models in diffusers' folder format: start noise → face, through a few deterministic steps.

A step is DDIM's (Song et al., ICLR 2021): the network says the noise ε in x_t, from which follow the picture P that
lies beneath and the direction D back to the next x. Edits act as in Asyrp (Kwon et al., ICLR 2023): a change of the
network's middle block, "h", is felt by P alone, in the steps of a range, so that it does not undo itself. A latent
model's decoder rounds to its code book, past which gradients go straight. A model that was taught what its faces show
takes L latents beside the noise, added to what it is told of the time.

Letters: B faces, C channels, h the shape of the middle block, L latents, R resolution.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, read_config, read_json
from sia_gen.core.foreign import first_line, quiet_transformers
from sia_gen.core.images import Images
from sia_gen.core.population import Population
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Codes

INDEX, UNET, SCHEDULER, DECODER = "model_index.json", "unet", "scheduler", "vqvae"
PIXELS, LATENTS = ("DDPMPipeline", "DDIMPipeline"), ("LDMPipeline",)
STEPS, ACTS = 10, (1.0, 0.4)  # from noise to face; an edit acts while so much of the noise is left
OURS, ARCHITECTURE = "config.json", "diffusion"  # beside the index, where a model is told what its faces show


@dataclass(frozen=True)
class Told:
    """What a model takes beside noise: so many ``latents``, which a ``population`` says how to draw."""

    latents: int
    population: Population


class Diffusion(nn.Module):
    """A generator whose codes are start noise ``[B, C, S, S]``, edited in "h" ``[C_h, S_h, S_h]``.

    Where it is ``told`` what faces show, codes are ``[B, L + C · S · S]``, and it can be edited in these latents, too:
    "z" ``[L]``. ``steps`` are taken from noise to face; an edit of h acts in those whose time lies between the shares
    ``acts`` of the whole. Each step's activations are made again for the backward pass, so that memory does not grow
    with steps.
    """

    def __init__(
        self, name: str, unet: nn.Module, scheduler: Any, decoder: nn.Module | None = None, *, steps: int = STEPS,
        acts: tuple[float, float] = ACTS, told: Told | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = unet.config.sample_size
        if not isinstance(shape, int) or unet.config.in_channels not in (3, 4):
            raise RequestError(
                f"'{name}' makes {unet.config.in_channels} × {shape}, which are no square colour pictures"
            )
        if unet.mid_block is None:
            raise RequestError(f"'{name}' has no middle block to edit; choose another model")
        self.name, self.unet, self.decoder = name, unet, decoder
        self.told, self.given = told, "z"
        self.latents = 0 if told is None else told.latents
        self.schedule(scheduler, steps, acts)
        self.register_buffer("where", torch.empty(0), persistent=False)  # is on this generator's device
        width = unet.time_embedding.linear_2.out_features
        if (unet.config.class_embed_type, unet.config.num_class_embeds) != (told and "identity", None):
            raise RequestError(f"'{name}' is told classes besides noise, which is not supported; choose another model")
        if self.latents > width:
            raise RequestError(f"'{name}' takes {width} latents at the most, not {self.latents}; choose another model")
        self.start = torch.Size((unet.config.in_channels, shape, shape))
        self.edit_shapes = {} if told is None else {"z": torch.Size((told.latents,))}
        with torch.no_grad():
            nothing = None if told is None else torch.zeros(1, told.latents)
            self.edit_shapes["h"] = self.middle(torch.zeros(1, *self.start), self.times[0][0], nothing).shape[1:]
            self.resolution = int(self._shown(torch.zeros(1, *self.start)).shape[-1])

    def schedule(self, scheduler: Any, steps: int, acts: tuple[float, float]) -> None:
        """Take ``steps`` from noise to face, in those between the shares ``acts`` of which edits act; or in the one."""
        most = scheduler.config.num_train_timesteps
        if not 1 <= steps <= most:
            raise RequestError(f"steps={steps} is outside 1…{most}; give a number in that range")
        if not 0 <= acts[1] < acts[0] <= 1:
            raise RequestError(f"acts={acts} are no falling shares of 1; give two, as (1.0, 0.4)")
        self.scheduler, self.steps, self.acts = scheduler, steps, acts
        scheduler.set_timesteps(steps)
        alphas, last = scheduler.alphas_cumprod.tolist(), float(scheduler.final_alpha_cumprod)
        stride = most // steps
        self.times = [
            (time, alphas[time], alphas[time - stride] if time >= stride else last, acts[1] <= time / most <= acts[0])
            for time in scheduler.timesteps.tolist()
        ]
        if steps == 1:  # whose time a scheduler may put outside of what it acts in
            self.times = [(*self.times[0][:3], True)]

    def sample(self, seeds: Sequence[int]) -> Codes:
        """One face per seed, on this generator's device; a model that is told draws as the studio draws people."""
        device = self.where.device
        if self.told is None:
            return normals(seeds, self.start, "face").to(device)
        return self.codes(self.told.population.draw(normals(seeds, (self.latents,), "face")).to(device), seeds)

    def codes(self, z: Tensor, seeds: Sequence[int] | None = None) -> Codes:
        """Latents ``[B, L]`` with the start noise of ``seeds``, by default 0, 1, …, of a model that takes latents."""
        noise = normals(range(len(z)) if seeds is None else seeds, self.start, "noise")
        return torch.cat([z, noise.flatten(1).to(z)], dim=1)

    def _apart(self, codes: Codes) -> tuple[Tensor, Tensor | None]:
        """The start noise ``[B, C, S, S]`` and the latents ``[B, L]`` in codes."""
        if self.told is None:
            return codes * float(self.scheduler.init_noise_sigma), None
        return codes[:, self.latents :].view(-1, *self.start), codes[:, : self.latents]

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        """Images in [0, 1]; raises `RequestError` for an edit space that it does not have."""
        if edits is not None and space not in self.edit_shapes:
            raise RequestError(f"'{self.name}' cannot be edited in '{space}'; it has {', '.join(self.edit_shapes)}")
        x, z = self._apart(codes)
        if edits is not None and z is not None and space == self.given:
            z, edits = z + edits, None
        for time, here, there, acts in self.times:
            shift = edits if acts else None
            if torch.is_grad_enabled():
                x = checkpoint(self._step, x, z, time, here, there, shift, use_reentrant=False)
            else:
                x = self._step(x, z, time, here, there, shift)
        return (self._shown(x) * 0.5 + 0.5).clamp(0, 1)

    def _step(self, x: Tensor, z: Tensor | None, time: int, here: float, there: float, shift: Tensor | None) -> Tensor:
        said = self._said(x, z, time)
        beneath, noise = self._parts(x, said, here)
        if shift is not None:
            with shifted(self.unet.mid_block, shift):
                beneath, _ = self._parts(x, self._said(x, z, time), here)
        if self.scheduler.config.clip_sample:
            reach = self.scheduler.config.clip_sample_range
            beneath = beneath.clamp(-reach, reach)
        return there**0.5 * beneath + (1 - there) ** 0.5 * noise

    def _said(self, x: Tensor, z: Tensor | None, time: int) -> Tensor:
        """What the network says of noisy pictures ``[B, C, S, S]`` at a time, in their shape."""
        told = {} if z is None else {"class_labels": padded(z, self.unet)}
        return self.unet(x, time, **told).sample

    def _parts(self, x: Tensor, said: Tensor, here: float) -> tuple[Tensor, Tensor]:
        """The picture beneath the noise and the noise, by what the network says, which is either or a mixture."""
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return (x - (1 - here) ** 0.5 * said) / here**0.5, said
        if kind == "sample":
            return said, (x - here**0.5 * said) / (1 - here) ** 0.5
        return here**0.5 * x - (1 - here) ** 0.5 * said, here**0.5 * said + (1 - here) ** 0.5 * x

    def _shown(self, x: Tensor) -> Tensor:
        if self.decoder is None:
            return x
        return self.decoder.decode(x / self.decoder.config.scaling_factor).sample

    def middle(self, x: Tensor, time: int, z: Tensor | None) -> Tensor:
        """What the middle block gives for noisy pictures ``[B, C, S, S]`` and latents at a time, ``[B, *h]``."""
        seen: list[Tensor] = []
        hook = self.unet.mid_block.register_forward_hook(lambda block, given, output: seen.append(output))
        try:
            self._said(x, z, time)
        finally:
            hook.remove()
        return seen[0]

    @torch.no_grad()
    def semantics(self, codes: Codes) -> Tensor:
        """The middle block of faces ``[B, *h]``, mean over the steps in which an edit acts."""
        (x, z), found = self._apart(codes), []
        for time, here, there, acts in self.times:
            if acts:
                found.append(self.middle(x, time, z))
            x = self._step(x, z, time, here, there, None)
        return torch.stack(found).mean(dim=0)


def padded(z: Tensor, unet: nn.Module) -> Tensor:
    """Latents ``[B, L]`` as wide as what a network is told of the time, to which they are added."""
    return F.pad(z, (0, unet.time_embedding.linear_2.out_features - z.shape[1]))


@contextmanager
def shifted(block: nn.Module, shift: Tensor) -> Iterator[None]:
    """Adds ``shift`` to what a block gives."""
    hook = block.register_forward_hook(lambda block, given, output: output + shift.to(output.dtype))
    try:
        yield
    finally:
        hook.remove()


def load_diffusion(folder: Path, *, steps: int | None = None) -> Diffusion:
    """The unconditional model in a folder that ``DDPMPipeline.save_pretrained`` wrote, or DDIM's or LDM's.

    Its weights are read from safetensors alone. What it is told, and how many ``steps`` it takes unless given, stands
    in a ``config.json`` beside, where there is one; else it is told nothing and takes ten. Raises `RequestError` for
    another pipeline, `WorkError` for damaged files.
    """
    kind = kind_of(folder)
    if kind not in (*PIXELS, *LATENTS):
        known = ", ".join((*PIXELS, *LATENTS))
        raise RequestError(f"'{folder}' holds a {kind}, not one of {known}; name another folder")
    require_safetensors(folder, (UNET, *([DECODER] if kind in LATENTS else [])), "diffusion_pytorch_model")
    with quiet_diffusers(folder):
        from diffusers import DDIMScheduler, UNet2DModel, VQModel

        given: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False}
        unet = UNet2DModel.from_pretrained(folder, subfolder=UNET, **given)
        decoder = VQModel.from_pretrained(folder, subfolder=DECODER, **given) if kind in LATENTS else None
        scheduler = DDIMScheduler.from_pretrained(folder, subfolder=SCHEDULER, local_files_only=True)
    if scheduler.config.prediction_type not in ("epsilon", "sample", "v_prediction") or scheduler.config.thresholding:
        raise RequestError(f"'{folder}' predicts {scheduler.config.prediction_type}, which has no such steps")
    told, usual, acts = _ours(folder)
    made = Diffusion(
        folder.name, unet, scheduler, decoder, steps=usual if steps is None else steps, acts=acts, told=told
    )
    return made.eval().requires_grad_(False)


def kind_of(folder: Path) -> str | None:
    """The class of the pipeline that diffusers saved in a folder."""
    index = read_json(folder / INDEX)
    return index.get("_class_name") if isinstance(index, dict) else None


def require_safetensors(folder: Path, parts: Sequence[str], name: str) -> None:
    """Raise `RequestError` unless each part's weights are there as safetensors, in one file or in several."""
    for part in parts:
        if not any(is_file(folder / part / f"{name}.safetensors{more}") for more in ("", ".index.json")):
            raise RequestError(f"'{folder / part}' has no {name}.safetensors; save it as safetensors")


@contextmanager
def quiet_diffusers(folder: Path) -> Iterator[None]:
    """Keeps diffusers from talking while it loads ``folder``; whatever it raises becomes one line."""
    log = logging.getLogger("diffusers")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with quiet_transformers():
            yield
    except (RequestError, WorkError):
        raise
    except Exception as error:  # every reader beneath has its own
        raise WorkError(f"cannot load '{folder}' ({first_line(error)}); fetch the files again") from None
    finally:
        log.setLevel(before)


def _ours(folder: Path) -> tuple[Told | None, int, tuple[float, float]]:
    """What the model in a folder is told, its steps, and when edits act; raises `WorkError` for a damaged file."""
    path = folder / OURS
    if not is_file(path) or read_config(path)["sia_gen"].get("architecture") != ARCHITECTURE:
        return None, STEPS, ACTS
    entries = read_config(path)
    try:
        told = Told(int(entries["latents"]), Population.from_json(entries["population"]))
        high, low = entries["acts"]
        return told, int(entries["steps"]), (float(high), float(low))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkError(f"'{path}' is damaged ({first_line(error)}); fetch it again") from None
