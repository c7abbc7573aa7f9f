"""Unconditional diffusion models in diffusers' folder format: start noise → face, through a few deterministic steps.

A step is DDIM's (Song et al., ICLR 2021): the network says the noise ε in x_t, from which follow the picture P that
lies beneath and the direction D back to the next x. Edits act as in Asyrp (Kwon et al., ICLR 2023): a change of the
network's middle block, "h", is felt by P alone, in the steps of a range, so that it does not undo itself. A latent
model's decoder rounds to its code book, past which gradients go straight.

Letters: B faces, C channels, h the shape of the middle block, R resolution.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import is_file, read_json
from sia_gen.core.foreign import first_line
from sia_gen.core.images import Images
from sia_gen.core.seeds import normals
from sia_gen.generators.generator import Codes

INDEX, UNET, SCHEDULER, DECODER = "model_index.json", "unet", "scheduler", "vqvae"
PIXELS, LATENTS = ("DDPMPipeline", "DDIMPipeline"), ("LDMPipeline",)
STEPS, ACTS = 10, (1.0, 0.4)  # from noise to face; an edit acts while so much of the noise is left


class Diffusion(nn.Module):
    """A generator whose codes are start noise ``[B, C, S, S]``, edited in "h" ``[C_h, S_h, S_h]``.

    ``steps`` are taken from noise to face; an edit acts in those whose time lies between the shares ``acts`` of the
    whole. Each step's activations are made again for the backward pass, so that memory does not grow with steps.
    """

    def __init__(
        self, name: str, unet: nn.Module, scheduler: Any, decoder: nn.Module | None = None, *, steps: int = STEPS,
        acts: tuple[float, float] = ACTS,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = unet.config.sample_size
        if not isinstance(shape, int) or unet.config.in_channels not in (3, 4):
            raise RequestError(
                f"'{name}' makes {unet.config.in_channels} × {shape}, which are no square colour pictures"
            )
        if unet.mid_block is None:
            raise RequestError(f"'{name}' has no middle block to edit; choose another model")
        most = scheduler.config.num_train_timesteps
        if not 1 <= steps <= most or not 0 <= acts[1] < acts[0] <= 1:
            raise RequestError(f"steps={steps} is outside 1…{most}, or acts={acts} are no falling shares of 1")
        self.name, self.unet, self.decoder, self.scheduler = name, unet, decoder, scheduler
        self.steps, self.acts = steps, acts
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.tolist()
        alphas, last = scheduler.alphas_cumprod.tolist(), float(scheduler.final_alpha_cumprod)
        stride = most // steps
        self.times = [
            (time, alphas[time], alphas[time - stride] if time >= stride else last, acts[1] <= time / most <= acts[0])
            for time in times
        ]
        self.start = torch.Size((unet.config.in_channels, shape, shape))
        with torch.no_grad():
            self.edit_shapes = {"h": self.middle(torch.zeros(1, *self.start), times[0]).shape[1:]}
            self.resolution = int(self._shown(torch.zeros(1, *self.start)).shape[-1])

    def sample(self, seeds: Sequence[int]) -> Codes:
        """Start noise of one face per seed, on this generator's device."""
        return normals(seeds, self.start, "face").to(next(self.parameters()).device)

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        """Images in [0, 1]; raises `RequestError` for an edit space that it does not have."""
        if edits is not None and space not in self.edit_shapes:
            raise RequestError(f"'{self.name}' cannot be edited in '{space}'; it has {', '.join(self.edit_shapes)}")
        x = codes * float(self.scheduler.init_noise_sigma)
        for time, here, there, acts in self.times:
            shift = edits if acts else None
            if torch.is_grad_enabled():
                x = checkpoint(self._step, x, time, here, there, shift, use_reentrant=False)
            else:
                x = self._step(x, time, here, there, shift)
        return (self._shown(x) * 0.5 + 0.5).clamp(0, 1)

    def _step(self, x: Tensor, time: int, here: float, there: float, shift: Tensor | None) -> Tensor:
        said = self.unet(x, time).sample
        beneath, noise = self._parts(x, said, here)
        if shift is not None:
            with shifted(self.unet.mid_block, shift):
                beneath, _ = self._parts(x, self.unet(x, time).sample, here)
        if self.scheduler.config.clip_sample:
            reach = self.scheduler.config.clip_sample_range
            beneath = beneath.clamp(-reach, reach)
        return there**0.5 * beneath + (1 - there) ** 0.5 * noise

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

    def middle(self, x: Tensor, time: int) -> Tensor:
        """What the middle block gives for noisy pictures ``[B, C, S, S]`` at a time, ``[B, *h]``."""
        seen: list[Tensor] = []
        hook = self.unet.mid_block.register_forward_hook(lambda block, given, output: seen.append(output))
        try:
            self.unet(x, time)
        finally:
            hook.remove()
        return seen[0]

    @torch.no_grad()
    def semantics(self, codes: Codes) -> Tensor:
        """The middle block of faces ``[B, *h]``, mean over the steps in which an edit acts."""
        x, found = codes * float(self.scheduler.init_noise_sigma), []
        for time, here, there, acts in self.times:
            if acts:
                found.append(self.middle(x, time))
            x = self._step(x, time, here, there, None)
        return torch.stack(found).mean(dim=0)


@contextmanager
def shifted(block: nn.Module, shift: Tensor) -> Iterator[None]:
    """Adds ``shift`` to what a block gives."""
    hook = block.register_forward_hook(lambda block, given, output: output + shift.to(output.dtype))
    try:
        yield
    finally:
        hook.remove()


def load_diffusion(folder: Path, *, steps: int = STEPS) -> Diffusion:
    """The model in a folder that ``DDPMPipeline.save_pretrained`` wrote, or DDIM's or LDM's: safetensors alone.

    Raises `RequestError` for another pipeline, `WorkError` for damaged files.
    """
    index = read_json(folder / INDEX)
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if kind not in (*PIXELS, *LATENTS):
        known = ", ".join((*PIXELS, *LATENTS))
        raise RequestError(f"'{folder}' holds a {kind}, not one of {known}; name another folder")
    for part in (UNET, *([DECODER] if kind in LATENTS else [])):
        if not is_file(folder / part / "diffusion_pytorch_model.safetensors"):
            raise RequestError(f"'{folder / part}' has no diffusion_pytorch_model.safetensors; save it as safetensors")
    from diffusers import DDIMScheduler, UNet2DModel, VQModel

    log = logging.getLogger("diffusers")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        given: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False}
        unet = UNet2DModel.from_pretrained(folder, subfolder=UNET, **given)
        decoder = VQModel.from_pretrained(folder, subfolder=DECODER, **given) if kind in LATENTS else None
        scheduler = DDIMScheduler.from_pretrained(folder, subfolder=SCHEDULER, local_files_only=True)
    except Exception as error:  # every reader beneath has its own
        raise WorkError(f"cannot load '{folder}' ({first_line(error)}); fetch the files again") from None
    finally:
        log.setLevel(before)
    if scheduler.config.prediction_type not in ("epsilon", "sample", "v_prediction") or scheduler.config.thresholding:
        raise RequestError(f"'{folder}' predicts {scheduler.config.prediction_type}, which has no such steps")
    made = Diffusion(folder.name, unet, scheduler, decoder, steps=steps)
    return made.eval().requires_grad_(False)
