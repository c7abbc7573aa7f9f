"""Text-to-image diffusion in diffusers' folder format: Stable Diffusion 1.x, 2.x and XL, and their few-step versions.

The parts are called directly: text encoders once, then a few deterministic steps of the UNet, then the decoder. Codes
are start noise; the prompt is the same for all faces and is edited as a whole ("text"), as is the middle block ("h").

Letters: B faces, C channels, S side of the latents, T tokens, D width of a token's vector, E numbers of a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file
from sia_gen.generators.foreign.attention import Attention, attend
from sia_gen.generators.foreign.diffusion import ACTS, Diffusion, quiet_diffusers, require_safetensors

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "LatentConsistencyModelPipeline",
)
PROMPT = "a portrait photograph of a person, face in the middle, plain background"
STEPS, FEW = 8, 4  # from noise to face; of a model that was taught to take few
GUIDANCE = 5.0  # how much further from the empty prompt the prompt's picture is taken; a few-step model knows


class TextToImage(Diffusion):
    """A generator of what ``prompt`` says; codes are start noise ``[B, C, S, S]``.

    Edited in "text" ``[E]``, what is added to the prompt as it is encoded (T · D numbers, of XL those of the whole
    prompt, too), and in "h". ``guidance`` 1 asks the network once a step, more asks it of the empty prompt besides.
    """

    def __init__(
        self, name: str, unet: nn.Module, scheduler: Any, decoder: nn.Module, encoders: Sequence[tuple[Any, nn.Module]],
        *, prompt: str = PROMPT, guidance: float | None = None, steps: int | None = None,
        attention: Attention = "auto", acts: tuple[float, float] = ACTS,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        config = unet.config
        if config.in_channels != decoder.config.latent_channels or not isinstance(config.sample_size, int):
            raise RequestError(f"'{name}' draws from more than a prompt and noise; choose a plain text-to-image model")
        # A few-step model is told the guidance (latent consistency), or was made for none (turbo).
        distilled = config.time_cond_proj_dim is not None or "turbo" in name.lower()
        guidance = (1.0 if distilled else GUIDANCE) if guidance is None else guidance
        if not 1 <= guidance <= 30:
            raise RequestError(f"guidance={guidance:g} is outside 1…30; give a number in that range")
        self.name, self.unet, self.decoder, self.prompt = name, unet, decoder, prompt
        self.tokenizers, self.encoders = [one for one, _ in encoders], nn.ModuleList(model for _, model in encoders)
        self.large = len(encoders) == 2
        self.told, self.latents, self.given = None, 0, "text"
        self.schedule(scheduler, (FEW if distilled else STEPS) if steps is None else steps, acts)
        self.start = torch.Size((config.in_channels, config.sample_size, config.sample_size))
        self.resolution = config.sample_size * 2 ** (len(decoder.config.block_out_channels) - 1)
        self.attention = attend(unet, attention)
        self.register_buffer("where", torch.empty(0), persistent=False)
        self.guidance = guidance
        self.register_buffer("asked", self.encode([prompt])[0], persistent=False)  # [E]
        self.register_buffer("unasked", self.encode([""])[0] if self._twice else None, persistent=False)
        middle = config.sample_size // 2 ** (len(config.block_out_channels) - 1)
        self.edit_shapes = {
            "text": self.asked.shape,
            "h": torch.Size((config.block_out_channels[-1], middle, middle)),
        }

    @property
    def _twice(self) -> bool:
        """Whether the network is asked of the empty prompt besides."""
        return self.guidance > 1 and self.unet.config.time_cond_proj_dim is None

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts → ``[len(texts), E]``, as an edit in "text" adds to: each one's tokens, of XL also the whole of it."""
        found, whole = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            tokens = tokenizer(
                list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                return_tensors="pt",
            ).input_ids.to(self.where.device)  # fmt: skip
            said = encoder(tokens, output_hidden_states=self.large)
            found.append(said.hidden_states[-2] if self.large else said.last_hidden_state)  # [n, T, D]
            whole = said[0] if self.large else None  # of XL's second encoder
        self.shape = torch.Size((found[0].shape[1], sum(part.shape[2] for part in found)))
        every = torch.cat(found, dim=2).flatten(1)
        return every if whole is None else torch.cat([every, whole], dim=1)

    def _apart(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        return codes * float(self.scheduler.init_noise_sigma), self.asked.expand(len(codes), -1)

    def _said(self, x: Tensor, z: Tensor | None, time: int) -> Tensor:
        assert z is not None
        said = self._of_prompt(x, z, time)
        if not self._twice:
            return said
        without = self._of_prompt(x, self.unasked.expand(len(x), -1), time)
        return without + self.guidance * (said - without)

    def _of_prompt(self, x: Tensor, prompt: Tensor, time: int) -> Tensor:
        """What the network says of noisy latents ``[B, C, S, S]`` with these prompts ``[B, E]``."""
        tokens, width = self.shape
        context, whole = prompt[:, : tokens * width].unflatten(1, self.shape), prompt[:, tokens * width :]
        told: dict[str, Any] = {}
        if self.large:
            side = float(self.resolution)
            sizes = x.new_tensor([side, side, 0.0, 0.0, side, side]).expand(len(x), -1)  # as if it were not cropped
            told["added_cond_kwargs"] = {"text_embeds": whole, "time_ids": sizes}
        if self.unet.config.time_cond_proj_dim is not None:
            told["timestep_cond"] = _waves(self.guidance - 1, self.unet.config.time_cond_proj_dim, x).expand(len(x), -1)
        return self.unet(x, time, encoder_hidden_states=context, **told).sample

    def _shown(self, x: Tensor) -> Tensor:
        latents = x / self.decoder.config.scaling_factor

        def decode(latents: Tensor) -> Tensor:
            return self.decoder.decode(latents).sample

        return checkpoint(decode, latents, use_reentrant=False) if torch.is_grad_enabled() else decode(latents)


def _waves(guidance: float, width: int, like: Tensor) -> Tensor:
    """How a latent consistency model is told its guidance, ``[1, width]``: sines and cosines of falling frequency."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / (half - 1)))
    angles = 1000.0 * guidance * rates
    return torch.cat([angles.sin(), angles.cos()])[None].to(like.dtype)


def load_text_to_image(folder: Path, kind: str, **options: Any) -> TextToImage:
    """The model in a folder that ``StableDiffusionPipeline.save_pretrained`` wrote, or XL's: safetensors alone.

    ``options`` are `TextToImage`'s. Raises `RequestError` for what is missing, `WorkError` for damaged files.
    """
    large = "XL" in kind
    encoders = ("text_encoder", "text_encoder_2") if large else ("text_encoder",)
    require_safetensors(folder, ("unet", "vae"), "diffusion_pytorch_model")
    require_safetensors(folder, encoders, "model")
    for part in (name.replace("text_encoder", "tokenizer") for name in encoders):
        if not any(is_file(folder / part / name) for name in ("vocab.json", "tokenizer.json")):
            raise RequestError(f"'{folder / part}' has no vocab.json; fetch the model with its tokenizer")
    with quiet_diffusers(folder):
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        given: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        whole: dict[str, Any] = given | {"low_cpu_mem_usage": False, "torch_dtype": torch.float32}
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **whole)
        decoder = AutoencoderKL.from_pretrained(folder, subfolder="vae", **whole)
        scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
        read = []
        for number, part in enumerate(encoders):
            family = CLIPTextModelWithProjection if number else CLIPTextModel
            model = family.from_pretrained(folder, subfolder=part, dtype=torch.float32, **given)
            tokenizer = part.replace("text_encoder", "tokenizer")
            read.append((CLIPTokenizer.from_pretrained(folder, subfolder=tokenizer, local_files_only=True), model))
        read = [(tokenizer, model.eval()) for tokenizer, model in read]
        made = TextToImage(folder.name, unet.eval(), scheduler, decoder.eval(), read, **options)
    return made.eval().requires_grad_(False)
