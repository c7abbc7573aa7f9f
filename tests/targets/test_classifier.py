import json

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.utils import logging

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.targets.classifier import load_classifier
from sia_gen.targets.target import Label, Target
from sia_gen.targets.task import Classification, MultiLabel, Regression


@pytest.mark.parametrize("fixture", ["resnet_folder", "vit_folder"])
def test_predicts_as_transformers_does(fixture, request):
    folder = request.getfixturevalue(fixture)
    target = load_classifier(folder, "tiny")
    image = to_pil(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)))
    inputs = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    with torch.no_grad():
        theirs = AutoModelForImageClassification.from_pretrained(folder).eval()(**inputs).logits
        ours = target.predict(from_pil(image)[None])
    assert isinstance(target, Target)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_says_its_classes_and_its_label(resnet_folder, vit_folder):
    assert load_classifier(resnet_folder, "tiny").task == Classification(("neutral", "smile"))
    assert load_classifier(resnet_folder, "tiny").label == Label("smile", (0.5,))
    assert load_classifier(vit_folder, "tiny").task == Classification(("a", "b", "c"))
    assert load_classifier(vit_folder, "tiny").label is None


def test_is_frozen_and_differentiable_in_its_images(resnet_folder):
    target = load_classifier(resnet_folder, "tiny")
    images = torch.full((2, 3, 48, 48), 0.5).requires_grad_()
    target.predict(images)[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0
    assert not target.model.network.training
    assert not any(parameter.requires_grad for parameter in target.model.network.parameters())


def test_loads_in_silence_and_leaves_logging_as_it_was(resnet_folder, capfd):
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_classifier(resnet_folder, "tiny")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bar)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_names_the_file_that_is_missing(resnet_folder, file):
    (resnet_folder / file).unlink()
    with pytest.raises(RequestError) as error:
        load_classifier(resnet_folder, "tiny")
    assert f"'{resnet_folder}' has no {file}; " in str(error.value)


@pytest.mark.parametrize("keep", [0, 5, 100, -40])
def test_truncated_weights_are_one_line(resnet_folder, keep):
    weights = resnet_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(WorkError) as error:
        load_classifier(resnet_folder, "tiny")
    assert str(error.value).startswith(f"cannot load '{resnet_folder}' (")
    assert str(error.value).endswith("; fetch the files again")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_damaged_json_file_is_one_line(resnet_folder, file):
    (resnet_folder / file).write_text("{")
    with pytest.raises(WorkError) as error:
        load_classifier(resnet_folder, "tiny")
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_without_a_head_are_refused(resnet_folder, edit_config):
    edit_config(resnet_folder, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(WorkError, match=r"^cannot load .*; fetch the files again$"):
        load_classifier(resnet_folder, "tiny")


def test_a_network_with_tensors_missing_is_refused(resnet_folder, edit_config):
    edit_config(resnet_folder, depths=[1, 2])
    with pytest.raises(WorkError, match=r"^the weights in '.*' lack \d+ of the network's tensors \(resnet\."):
        load_classifier(resnet_folder, "tiny")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "regression"}, r"^'tiny' gives values, but nothing says how far off is wrong; add "),
        ({"sia_gen": {"kind": "verifier"}}, r"^'tiny' is a verifier, not a target; see 'sia-gen list targets'$"),
    ],
)
def test_another_kind_of_model_is_refused(resnet_folder, edit_config, change, message):
    edit_config(resnet_folder, **change)
    with pytest.raises(RequestError, match=message):
        load_classifier(resnet_folder, "tiny")


def test_of_several_labels_each_is_there_or_not(resnet_folder, edit_config):
    edit_config(resnet_folder, problem_type="multi_label_classification")
    target = load_classifier(resnet_folder, "tiny")
    assert isinstance(target.task, MultiLabel)
    assert len(target.task.labels) == 2


def test_a_regression_says_its_values_and_tolerance(resnet_folder, edit_config):
    extra = {"kind": "target", "label": {"attribute": "smile", "thresholds": []}, "tolerance": 0.2}
    edit_config(resnet_folder, problem_type="regression", sia_gen=extra)
    target = load_classifier(resnet_folder, "tiny")
    assert target.task == Regression(("neutral", "smile"), 0.2)
    assert target.label == Label("smile", ())
    edit_config(resnet_folder, sia_gen=extra | {"label": {"attribute": 3}})
    with pytest.raises(WorkError, match=r"^the label of 'tiny' names no attribute; fetch its config.json again$"):
        load_classifier(resnet_folder, "tiny")


def test_a_damaged_label_is_refused(resnet_folder, edit_config):
    edit_config(resnet_folder, sia_gen={"kind": "target", "label": {"attribute": "smile", "thresholds": [0.2, 0.5]}})
    with pytest.raises(WorkError, match=r"^'tiny' has 2 classes but 2 thresholds; it needs 1$"):
        load_classifier(resnet_folder, "tiny")
    edit_config(resnet_folder, sia_gen={"kind": "target", "label": {"attribute": "smile"}})
    with pytest.raises(WorkError, match=r"^the label of 'tiny' is damaged \(KeyError\('thresholds'\)\); fetch its"):
        load_classifier(resnet_folder, "tiny")


def test_preprocessing_that_is_not_reproduced_is_refused(resnet_folder):
    path = resnet_folder / "preprocessor_config.json"
    settings = json.loads(path.read_text()) | {"image_processor_type": "MobileViTImageProcessor"}
    path.write_text(json.dumps(settings | {"do_flip_channel_order": True}))
    with pytest.raises(WorkError, match=r"^the preprocessing of .* is not reproduced; wrap the model as"):
        load_classifier(resnet_folder, "tiny")
