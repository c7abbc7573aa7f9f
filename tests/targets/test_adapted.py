"""Pictures in another form, against the same arithmetic written out. B images."""

import pytest
import torch
from torch.nn import functional as F

from sia_gen import load_target
from sia_gen.core.errors import RequestError
from sia_gen.core.locate import lasting
from sia_gen.targets.adapted import Form, asked_as, parted

MEAN, SD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL = F.interpolate(IMAGES, (8, 8), mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Form(), IMAGES),
        (Form(channels="bgr"), IMAGES[:, [2, 1, 0]]),
        (Form(high=255), IMAGES * 255),
        (Form(low=-1), IMAGES * 2 - 1),
        (Form(imagenet=True), (IMAGES - MEAN.view(3, 1, 1)) / SD.view(3, 1, 1)),
        (Form(size=8), SMALL),
        (Form(crop=0.5, size=8), IMAGES[..., 4:12, 4:12]),
        (Form(crop=0.5), F.interpolate(IMAGES[..., 4:12, 4:12], (16, 16), mode="bilinear", antialias=True)),
        (Form(size=8, channels="bgr", low=2, high=4), 2 + 2 * SMALL.flip(1)),
    ],
)  # fmt: skip
def test_pictures_are_shown_as_said(form, expected):
    torch.testing.assert_close(form(IMAGES), expected)


def test_a_name_says_how_pictures_are_shown_and_reads_back(resnet_folder):
    name = asked_as(str(resnet_folder), size=24, channels="bgr", input_range="-1,1", crop=0.8)
    assert parted(name) == (str(resnet_folder), Form(24, "bgr", -1, 1, crop=0.8), ())
    plain, shown = load_target(str(resnet_folder)), load_target(name)
    assert (shown.name, shown.task, shown.label, shown.differentiable) == (name, plain.task, plain.label, True)
    torch.testing.assert_close(shown.predict(IMAGES), plain.predict(Form(24, "bgr", -1, 1, crop=0.8)(IMAGES)))
    assert asked_as("smile-classifier") == "smile-classifier"


def test_a_name_with_a_form_is_found_from_any_folder(resnet_folder, monkeypatch):
    monkeypatch.chdir(resnet_folder.parent)
    assert lasting("target", "tiny-resnet?size=24") == f"{resnet_folder}?size=24"
    assert lasting("target", "smile-classifier?size=24") == "smile-classifier?size=24"
    assert load_target("tiny-resnet?range=imagenet").form == Form(imagenet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=0", "size=0 is outside 1…4096"),
        ("size=99999", "size=99999 is outside 1…4096"),
        ("size=big", "size=big are no numbers; write them as size=224, range=0,255 or range=imagenet, crop=0.8"),
        ("range=0", "are no numbers; write them as"),
        ("range=0,nan", "input range 0,nan holds no values; write it as 0,255 or -1,1"),
        ("range=1,1", "input range 1,1 holds no values"),
        ("range=0,inf", "input range 0,inf holds no values"),
        ("crop=0", "crop=0 is outside 0…1; give the share of the picture's side to show"),
        ("crop=nan", "crop=nan is outside 0…1"),
        ("crop=tight", "crop=tight are no numbers; write them as"),
        ("channels=rbg", "channels=rbg is neither rgb nor bgr"),
        ("depth=3", "has an option 'depth'; there are size, channels, range, crop and classes"),
        ("classes=a,b", "holds a model of type 'resnet', which takes no classes as text"),
    ],
)
def test_another_form_is_refused(resnet_folder, options, message):
    with pytest.raises(RequestError) as caught:
        load_target(f"{resnet_folder}?{options}")
    assert message in str(caught.value)
