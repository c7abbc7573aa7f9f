"""Against transformers' own image processors, on an image with fine detail. B images."""

import logging

import pytest
import torch
from transformers import BitImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from sia_gen.core.errors import RequestError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.targets.preprocessing import Preprocessing

logging.getLogger("transformers").setLevel(logging.CRITICAL)

PROCESSORS = {
    "square-bilinear": (ViTImageProcessor, {"size": {"height": 40, "width": 40}, "resample": 2}),
    "square-bicubic": (ViTImageProcessor, {"size": {"height": 40, "width": 40}, "resample": 3}),
    "oblong": (ViTImageProcessor, {"size": {"height": 30, "width": 50}, "resample": 2}),
    "shortest-edge": (BitImageProcessor, {"size": {"shortest_edge": 40}, "do_center_crop": False}),
    "centre-crop": (BitImageProcessor, {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 36}}),
    "crop-beyond": (BitImageProcessor, {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 36}}),
    "crop-fraction": (ConvNextImageProcessor, {"size": {"shortest_edge": 40}, "crop_pct": 0.9}),
    "warp": (ConvNextImageProcessor, {"size": {"shortest_edge": 384}}),
    "no-rescale": (ViTImageProcessor, {"size": {"height": 40, "width": 40}, "do_rescale": False}),
    "as-is": (ViTImageProcessor, {"do_resize": False, "do_normalize": False}),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("shape", [(64, 64), (24, 24), (57, 90)], ids=str)
def test_equals_the_image_processor(name, shape):
    kind, settings = PROCESSORS[name]
    processor = kind(**{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], **settings})
    torch.manual_seed(0)
    image = to_pil(torch.rand(3, *shape))
    theirs = processor(image, return_tensors="pt")["pixel_values"]  # [1, 3, h, w]
    preprocessing = Preprocessing(processor.to_dict())
    ours = preprocessing(from_pil(image)[None])
    assert ours.shape == theirs.shape
    # PIL rounds to 8 bits after each of its two passes, and bicubic weights add up to 1.25 in magnitude.
    assert ((ours - theirs) / preprocessing.scale).abs().max() <= 1.2 / 255


def test_passes_gradients():
    preprocessing = Preprocessing({"do_resize": True, "size": {"height": 5, "width": 7}, "resample": 3}).double()
    torch.manual_seed(0)
    image = (0.3 + 0.4 * torch.rand(1, 3, 8, 8, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(preprocessing, (image,))


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_black_and_white_keep_their_gradient(resample, level):
    preprocessing = Preprocessing({"do_resize": True, "size": {"height": 37, "width": 37}, "resample": resample})
    image = torch.full((1, 3, 64, 64), level, requires_grad=True)
    preprocessing(image).sum().backward()
    assert image.grad.sum().item() == pytest.approx(3 * 37 * 37, rel=1e-4)


def test_a_row_does_not_depend_on_its_batch():
    preprocessing = Preprocessing({"do_resize": True, "size": {"shortest_edge": 20}, "crop_pct": 0.8, "resample": 3})
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(preprocessing(images)[2:3], preprocessing(images[2:3]))


def test_refuses_what_it_does_not_do():
    with pytest.raises(RequestError, match=r"^resizing to \{'longest_edge': 9\} is not supported; wrap the model as"):
        Preprocessing({"do_resize": True, "size": {"longest_edge": 9}})
    with pytest.raises(RequestError, match=r"^resample=1 is not 2 \(bilinear\) or 3 \(bicubic\); wrap the"):
        Preprocessing({"resample": 1})
