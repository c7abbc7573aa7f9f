import sys

import pytest
import torch

from sia_gen import load_generator, load_target
from sia_gen.core.errors import RequestError
from sia_gen.targets.task import Detection

FRONTAL = "opencv:haarcascade_frontalface_default"


@pytest.fixture(scope="module")
def faces():
    generator = load_generator("faces-stylegan2")
    return generator.render(generator.sample(range(8)))


def test_finds_faces_and_nothing_where_there_is_none(faces):
    target = load_target(FRONTAL)
    assert (target.name, target.task, target.differentiable) == (FRONTAL, Detection(), False)
    score = target.predict(faces)
    assert score.shape == (8,)
    assert (score > 0).sum() >= 7
    nothing = torch.full_like(faces[:2], 0.5)
    assert target.predict(nothing).tolist() == [-3.5, -3.5]
    assert target.task.failed(target.predict(nothing), target.task.decide(score[:2])).all()


def test_an_image_does_not_depend_on_its_batch(faces):
    target = load_target(FRONTAL)
    assert torch.equal(target.predict(faces)[3:4], target.predict(faces[3:4]))


def test_names_the_cascades_there_are():
    with pytest.raises(RequestError, match=r"^unknown cascade 'haarcascade_nose', .* are haarcascade_eye, .*front"):
        load_target("opencv:haarcascade_nose")


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RequestError, match=r"needs OpenCV; install it with pip install 'sia-gen\[opencv\]'$"):
        load_target(FRONTAL)
