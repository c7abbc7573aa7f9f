import json

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.utils import logging

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_pil
from sia_gen.targets.formats.classifier import load_classifier
from sia_gen.targets.formats.pretrained import load_image_model
from sia_gen.targets.target import Label, Target
from sia_gen.targets.task import Classification, MultiLabel, Regression
from tests.targets.conftest import resnet, save


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


def processor_of(folder, **changes):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_processor_that_swaps_channels_is_reproduced(resnet_folder):
    swapped = {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True}
    processor_of(resnet_folder, **swapped, do_center_crop=False, crop_pct=None)
    target = load_classifier(resnet_folder, "tiny")
    image = to_pil(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)))
    theirs = AutoImageProcessor.from_pretrained(resnet_folder)(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(target.model.preprocessing(from_pil(image)[None]), theirs, atol=0.05, rtol=0)
    assert target.model.preprocessing.flip


def test_where_a_processor_is_not_reproduced_it_is_used_and_the_model_only_asked(resnet_folder, caplog):
    processor_of(
        resnet_folder,
        image_processor_type="PerceiverImageProcessor",
        size={"height": 36, "width": 36},
        crop_size={"height": 40, "width": 40},
    )
    target = load_classifier(resnet_folder, "tiny")
    assert not target.differentiable
    assert "'tiny': its image processor is not reproduced differentiably" in caplog.text
    image = to_pil(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)))
    inputs = AutoImageProcessor.from_pretrained(resnet_folder)(image, return_tensors="pt")
    with torch.no_grad():
        theirs = AutoModelForImageClassification.from_pretrained(resnet_folder).eval()(**inputs).logits
    torch.testing.assert_close(target.predict(from_pil(image)[None]), theirs)
    with pytest.raises(WorkError, match=r"^the preprocessing of .* is not reproduced; wrap the model as"):
        load_image_model(resnet_folder)


def test_the_new_form_of_a_processor_alone_will_do(resnet_folder):
    path = resnet_folder / "preprocessor_config.json"
    (resnet_folder / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(path.read_text())}))
    before = load_classifier(resnet_folder, "tiny")
    path.unlink()
    after = load_classifier(resnet_folder, "tiny")
    images = torch.rand(2, 3, 48, 48)
    assert torch.equal(before.predict(images), after.predict(images))


def test_one_output_is_a_class_and_its_absence(resnet_folder, edit_config):
    save(resnet_folder, resnet(["smile"]), AutoImageProcessor.from_pretrained(resnet_folder))
    target = load_classifier(resnet_folder, "tiny")
    assert target.task == Classification(("not smile", "smile"))
    said = target.predict(torch.rand(2, 3, 48, 48))
    assert said.shape == (2, 2)
    assert (said[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sia_gen": None}, WorkError, "config.json' has sia_gen=None, not settings by name; mend or remove it"),
        ({"sia_gen": []}, WorkError, "config.json' has sia_gen=[], not settings by name"),
        ({"id2label": {"0": None, "1": "b"}}, WorkError, "id2label of 'tiny' has None for a name; mend its config"),
        ({"id2label": {"0": "a", "5": "b"}}, WorkError, "id2label of 'tiny' does not number its 2 names from 0 on"),
        ({"num_hidden_layers": 10_000_000}, WorkError, "has num_hidden_layers=10000000, more than 1000; fetch"),
        ({"model_type": "bert"}, RequestError, "holds a model of type 'bert', no image classifier; name one that is"),
        ({"model_type": "yolos"}, RequestError, "holds a model of type 'yolos', no image classifier"),
        ({"model_type": None}, RequestError, "holds a model of type None, no image classifier"),
    ],
)
def test_a_config_that_is_wrong_names_the_file_and_the_field(resnet_folder, edit_config, changes, error, message):
    edit_config(resnet_folder, **changes)
    with pytest.raises(error) as caught:
        load_classifier(resnet_folder, "tiny")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 5000 + "]" * 5000, "null"])
def test_a_config_that_holds_no_settings_is_damaged(resnet_folder, text):
    (resnet_folder / "config.json").write_text(text)
    with pytest.raises(WorkError, match=r"config.json' ?(is a|\()"):
        load_classifier(resnet_folder, "tiny")


def test_names_that_are_numbers_are_read_as_text_and_in_their_order(resnet_folder, edit_config):
    network = resnet([f"n{index}" for index in range(12)])
    save(resnet_folder, network, AutoImageProcessor.from_pretrained(resnet_folder))
    edit_config(resnet_folder, id2label={str(index): index for index in range(12)})
    assert load_classifier(resnet_folder, "tiny").task.classes == tuple(str(index) for index in range(12))


def test_an_index_that_names_a_pickle_is_refused(resnet_folder):
    (resnet_folder / "model.safetensors").rename(resnet_folder / "pytorch_model.bin")
    index = {"metadata": {}, "weight_map": {"classifier.1.weight": "pytorch_model.bin"}}
    (resnet_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WorkError, match=r"names 'pytorch_model.bin', no safetensors file; save it again"):
        load_classifier(resnet_folder, "tiny")
