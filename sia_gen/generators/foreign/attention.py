"""How a diffusion model's attention is computed: by torch, by xformers, or step by step."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

import torch

from sia_gen.core.errors import RequestError

Attention: TypeAlias = Literal["auto", "sdpa", "xformers", "math"]


def attend(unet: Any, wish: Attention) -> str:
    """Set how ``unet`` attends, and give what it does in fact: "sdpa", "xformers", "math" or, of several, all of them.

    "auto" is "xformers" where that is installed beside a GPU, else "sdpa", torch's own. One warning is logged where
    some layers attend otherwise than was wished, for to set a way is ignored by layers of a kind of their own. Raises
    `RequestError` for another wish, and for xformers where there is no GPU or no xformers.
    """
    if wish not in get_args(Attention):
        raise RequestError(f"attention={wish} is none of {', '.join(get_args(Attention))}; choose one of these")
    able = torch.cuda.is_available() and find_spec("xformers") is not None
    if wish == "xformers" and not able:
        lacking = "a GPU" if not torch.cuda.is_available() else "xformers (pip install 'sia-gen[xformers]')"
        raise RequestError(f"attention=xformers needs {lacking}; choose sdpa or math")
    if wish == "auto":
        wish = "xformers" if able else "sdpa"
    from diffusers.models import attention_processor as kinds

    ways = {"sdpa": kinds.AttnProcessor2_0, "xformers": kinds.XFormersAttnProcessor, "math": kinds.AttnProcessor}
    if wish == "xformers":
        unet.enable_xformers_memory_efficient_attention()
    else:
        unet.set_attn_processor(ways[wish]())
    found = {type(processor) for processor in unet.attn_processors.values()}
    names = {kind: name for name, kind in ways.items()}
    told = ", ".join(sorted(names.get(kind, kind.__name__) for kind in found)) or wish
    if told != wish:
        logging.getLogger(__name__).warning("attention=%s was wished, but layers attend by %s", wish, told)
    return told
