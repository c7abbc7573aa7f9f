import json

import pytest
import torch
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessorPil
from transformers.models.vitpose.modeling_vitpose import VitPoseEstimatorOutput

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.core.seeds import uniforms
from sia_gen.targets.formats.keypoints import decoded, warped
from sia_gen.targets.load import load_target
from sia_gen.targets.points import Keypoints
from tests.contracts import TargetSuite


def save_vitpose(folder, points=68, extra=None):
    """A tiny network of the real class in the real format, its processor beside it."""
    backbone = VitPoseBackboneConfig(
        image_size=[32, 24], patch_size=[8, 8], hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        out_indices=[2],
    )  # fmt: skip
    config = VitPoseConfig(backbone_config=backbone, scale_factor=4, num_labels=points, **(extra or {}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VitPoseForPoseEstimation(config)
        network.head.conv.weight.data.normal_(std=0.5)
    network.save_pretrained(folder)
    VitPoseImageProcessorPil(size={"height": 32, "width": 24}).save_pretrained(folder)
    return folder


@pytest.fixture
def vitpose_folder(tmp_path):
    return save_vitpose(tmp_path / "tiny-vitpose")


class TestKeypoints(TargetSuite):
    @pytest.fixture
    def target(self, tmp_path):
        """Of few points: a difference across the moment when another pixel becomes the highest would tell nothing."""
        extra = {"sia_gen": {"keypoints": {"ends": [0, 1], "tolerance": 0.08}}}
        target = load_target(save_vitpose(tmp_path / "few", points=3, extra=extra))
        target.network.head.conv.weight.mul_(0.1)
        target.network.head.conv.bias.fill_(1.0)
        return target

    @pytest.fixture
    def images(self):
        return torch.cat([picture(48, 36), picture(48, 36).flip(3)])


def picture(height, width):
    coarse = uniforms([0], (3, 6, 6), "picture")
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("side", [(48, 36), (96, 72), (32, 24)])
def test_the_network_sees_what_transformers_own_processor_makes_of_the_whole_picture(vitpose_folder, side):
    image = to_pil(picture(*side)[0])
    processor = VitPoseImageProcessorPil.from_pretrained(vitpose_folder)
    down, across = side
    box = [[[0.1 * across, 0.1 * down, 0.8 * across, 0.8 * down]]]  # it adds a quarter
    theirs = processor(image, boxes=box, return_tensors="pt")["pixel_values"]
    target = load_target(vitpose_folder)
    ours = (warped(from_pil(image)[None], 32, 24) - target.mean) / target.std
    difference = (ours - theirs).abs()[:, :, 1:-1, 1:-1]  # what lies a hair beyond the picture they cut off, we fade
    assert difference.max() < 0.05  # of about 4; they round to 8 bit


def test_a_gaussian_is_decoded_to_its_middle_wherever_it_lies():
    truth = 4 + 20 * uniforms([0], (50, 2), "points")[0]
    at = torch.arange(32)
    x, y = ((-((at - truth[:, i, None]) ** 2) / 8).exp() for i in (0, 1))
    found = decoded((y[:, :, None] * x[:, None, :])[None])[0] * 31
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=0)


def test_points_lie_where_transformers_puts_them(vitpose_folder):
    at_x, at_y = torch.arange(12), torch.arange(16)
    truth = 3 + uniforms([0], (68, 2), "points")[0] * torch.tensor([5.0, 9.0])
    x, y = (-((at_x - truth[:, :1]) ** 2) / 4).exp(), (-((at_y - truth[:, 1:]) ** 2) / 4).exp()
    heat = (y[:, :, None] * x[:, None, :])[None]  # [1, 68, 16, 12]
    processor = VitPoseImageProcessorPil.from_pretrained(vitpose_folder)
    boxes = [[[3.6, 4.8, 28.8, 38.4]]]  # of a picture of 36 × 48
    theirs = processor.post_process_pose_estimation(VitPoseEstimatorOutput(heatmaps=heat), boxes=boxes, kernel_size=3)
    ours = decoded(heat)[0] * torch.tensor([36.0, 48.0])
    torch.testing.assert_close(ours, theirs[0][0]["keypoints"].float(), atol=0.05, rtol=0)


def test_gradients_reach_the_picture(vitpose_folder):
    images = picture(48, 36).requires_grad_()
    load_target(vitpose_folder).predict(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_other_points_need_to_say_what_their_error_is_measured_by(tmp_path):
    with pytest.raises(
        RequestError, match=r"^'body' gives 17 points, and not between which two distances are measured"
    ):
        load_target(save_vitpose(tmp_path / "body", points=17))
    said = {"sia_gen": {"keypoints": {"ends": [5, 6], "tolerance": 0.2}}}
    target = load_target(save_vitpose(tmp_path / "told", points=17, extra=said))
    assert target.task == Keypoints(17, (5, 6), 0.2)


def test_damaged_folders_are_named(vitpose_folder):
    settings = json.loads((vitpose_folder / "preprocessor_config.json").read_text())
    (vitpose_folder / "preprocessor_config.json").write_text(
        json.dumps(settings | {"size": {"height": 64, "width": 24}})
    )
    with pytest.raises(WorkError, match=r"resizes to \(64, 24\), but its network was built for \(32, 24\)"):
        load_target(vitpose_folder)
    (vitpose_folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(WorkError, match=r"resizes to \(256, 192\), but its network was built for"):
        load_target(vitpose_folder)
    (vitpose_folder / "preprocessor_config.json").unlink()
    with pytest.raises(RequestError, match=r"has no preprocessor_config.json; save the model's image processor beside"):
        load_target(vitpose_folder)


def test_another_processor_is_refused(vitpose_folder):
    path = vitpose_folder / "preprocessor_config.json"
    plain = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 24}}
    path.write_text(json.dumps(plain | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    with pytest.raises(
        WorkError, match=r"\(ViTImageProcessor\w*\) is not reproduced; wrap the model as module:callable"
    ):
        load_target(vitpose_folder)


def test_mixed_precision_costs_a_place_no_digits():
    heat = uniforms([0], (4, 16, 16), "heat") + 1
    with torch.autocast("cpu", torch.bfloat16):
        mixed = decoded(heat)
    assert torch.equal(mixed, decoded(heat))
