"""Small networks written as ONNX files, against the same arithmetic in torch. B images."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sia_gen import load_target
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.adapted import Form

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WEIGHTS = np.array([[4.0, -4.0, 1.0], [1.0, -1.0, 2.0], [0.5, -0.5, 0.0]], np.float32)


def write(path, *, batch="N", side=8, last=False, kind=TensorProto.FLOAT, columns=3):
    """Means of the channels times a matrix."""
    shape = [batch, side, side, 3] if last else [batch, 3, side, side]
    axes = numpy_helper.from_array(np.array([1, 2] if last else [2, 3], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, columns])],
        [axes, numpy_helper.from_array(WEIGHTS[:, :columns], "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return str(path)


def expected(images, columns=3, scale=1.0):
    return scale * Form(size=8)(images).mean(dim=(2, 3)) @ torch.tensor(WEIGHTS[:, :columns])


@pytest.mark.parametrize(
    ("options", "scale", "tolerance"),
    [
        ({}, 1, 1e-5),
        ({"batch": 1}, 1, 1e-5),
        ({"batch": 2}, 1, 1e-5),
        ({"last": True}, 1, 1e-5),
        ({"kind": TensorProto.FLOAT16}, 1, 0.01),
        ({"kind": TensorProto.DOUBLE}, 1, 1e-5),
        ({"kind": TensorProto.UINT8}, 255, 4),
    ],
)
def test_pictures_are_given_as_the_network_takes_them(tmp_path, options, scale, tolerance):
    target = load_target(write(tmp_path / "net.onnx", **options))
    assert target.task.classes == ("class 0", "class 1", "class 2")
    assert not target.differentiable
    torch.testing.assert_close(target.predict(IMAGES), expected(IMAGES, scale=scale), atol=tolerance, rtol=0)


def test_one_output_is_a_class_and_its_absence(tmp_path):
    said = load_target(write(tmp_path / "net.onnx", columns=1)).predict(IMAGES)
    torch.testing.assert_close(said[:, 1:], expected(IMAGES, 1), atol=1e-5, rtol=0)
    assert (said[:, 0] == 0).all()


def test_it_may_be_shown_pictures_in_another_form(tmp_path):
    name = f"{write(tmp_path / 'net.onnx')}?channels=bgr"
    torch.testing.assert_close(load_target(name).predict(IMAGES), expected(IMAGES.flip(1)), atol=1e-5, rtol=0)


def test_a_damaged_file_is_one_line(tmp_path):
    path = write(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes((tmp_path / "net.onnx").read_bytes()[:60])
    with pytest.raises(WorkError, match=r"^cannot load '.*net.onnx' \(.*\); fetch the file again$"):
        load_target(path)


def test_a_network_of_something_else_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "text",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 7])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 7])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "text.onnx")
    with pytest.raises(RequestError, match=r"takes tensor\(int64\) of shape \['N', 7\], not pictures"):
        load_target(str(tmp_path / "text.onnx"))


def test_a_file_that_is_not_there_is_no_target():
    with pytest.raises(RequestError, match=r"unknown target 'nowhere.onnx'"):
        load_target("nowhere.onnx")
