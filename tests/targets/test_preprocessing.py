"""Against transformers' own image processors, on an image with fine detail. B images."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    LevitImageProcessor,
    MobileViTImageProcessor,
    ViTImageProcessor,
)

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.targets.formats.preprocessing import BOX, NEAREST, Preprocessing, of_timm, resampling

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
    "efficientnet": (EfficientNetImageProcessor, {"size": {"height": 50, "width": 50}}),
    "rescale-offset": (EfficientNetImageProcessor, {"size": {"height": 50, "width": 50}, "rescale_offset": True}),
    "mobilevit-bgr": (
        MobileViTImageProcessor,
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 36, "width": 36}},
    ),
    "levit-margin": (LevitImageProcessor, {"size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}}),
    "nearest": (ViTImageProcessor, {"size": {"height": 40, "width": 52}, "resample": 0}),
    "lanczos": (ViTImageProcessor, {"size": {"height": 40, "width": 52}, "resample": 1}),
    "box": (ViTImageProcessor, {"size": {"height": 40, "width": 52}, "resample": 4}),
    "hamming": (ViTImageProcessor, {"size": {"height": 40, "width": 52}, "resample": 5}),
    "shortest-and-longest": (ViTImageProcessor, {"size": {"shortest_edge": 40, "longest_edge": 60}}),
    "within-bounds": (ViTImageProcessor, {"size": {"max_height": 40, "max_width": 60}}),
    "one-mean": (ViTImageProcessor, {"size": {"height": 40, "width": 40}, "image_mean": 0.5, "image_std": 0.25}),
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
    with pytest.raises(RequestError, match=r"^resizing to \{'longest_side': 9\} is not supported; wrap the model as"):
        Preprocessing({"do_resize": True, "size": {"longest_side": 9}})
    with pytest.raises(RequestError, match=r"^resample=9 is none of PIL's filters 0 to 5; wrap the"):
        Preprocessing({"resample": 9})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_resize": True, "size": 0}, "size={'shortest_edge': 0} is not sides of 1 to 4096 pixels"),
        ({"do_resize": True, "size": {"height": 8, "width": "8"}}, "is not sides of 1 to 4096 pixels"),
        ({"do_resize": True, "size": {"height": 10**9, "width": 8}}, "is not sides of 1 to 4096 pixels"),
        ({"do_resize": True, "size": [8, 8]}, "is not sides of 1 to 4096 pixels"),
        ({"do_center_crop": True, "crop_size": {"height": -1, "width": 8}}, "crop_size="),
        ({"do_normalize": True}, "image_std=None is not three numbers above 0"),
        (
            {"do_normalize": True, "image_mean": [0.5, 0.5], "image_std": 1},
            "image_mean=[0.5, 0.5] is not three numbers;",
        ),
        ({"do_normalize": True, "image_mean": "half", "image_std": 1}, "image_mean='half' is not three numbers;"),
        ({"do_normalize": True, "image_mean": 0.5, "image_std": [0.2, 0, 0.2]}, "image_std=[0.2, 0, 0.2] is not three"),
        ({"do_normalize": True, "image_mean": [float("nan")], "image_std": 1}, "image_mean=[nan] is not three"),
        ({"rescale_factor": "1/255"}, "rescale_factor='1/255' is not a number above 0"),
        ({"crop_pct": 0}, "crop_pct=0 is not a share"),
    ],
)
def test_damaged_settings_are_named(settings, message):
    with pytest.raises(WorkError) as caught:
        Preprocessing(settings)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; fetch its file again")


def test_nearest_and_box_pick_the_pixels_that_pil_picks():
    for mode in (NEAREST, BOX):
        for side in range(5, 60, 7):
            row = Image.fromarray((torch.arange(side)[None] * 4).to(torch.uint8).numpy())
            for size in range(3, 90, 5):
                theirs = torch.tensor(np.array(row.resize((size, 1), mode))[0]).float()
                ours = resampling(side, size, mode) @ (torch.arange(side).float() * 4)
                assert (ours - theirs).abs().max() <= (0 if mode == NEAREST else 0.51), (mode, side, size)


def test_a_timm_model_is_prepared_for_as_its_config_says():
    given = {
        "input_size": [3, 36, 36],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    processor = BitImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 36, "width": 36}, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    image = to_pil(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    preprocessing = of_timm({"pretrained_cfg": given})
    assert ((preprocessing(from_pil(image)[None]) - theirs) / preprocessing.scale).abs().max() <= 1.2 / 255
    assert (
        of_timm({"pretrained_cfg": given | {"interpolation": ""}}).filter == of_timm({"pretrained_cfg": given}).filter
    )
    with pytest.raises(RequestError, match="crop_mode=squash is not supported"):
        of_timm({"pretrained_cfg": given | {"crop_mode": "squash"}})
    with pytest.raises(RequestError, match="resample=random is none of PIL's filters"):
        of_timm({"pretrained_cfg": given | {"interpolation": "random"}})
    with pytest.raises(WorkError, match="pretrained_cfg="):
        of_timm({"pretrained_cfg": "vit"})
