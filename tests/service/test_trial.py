"""Targets that hang, eat the memory or end their process are stopped in a process of their own."""

import time

import psutil
import pytest

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import pretrained_folder
from sia_gen.service import offer as offers
from sia_gen.service.offer import Offer
from sia_gen.service.trial import try_out

BAD = """
import os, subprocess, sys, time
import torch
from torch import nn
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.task import Classification

def target(logits):
    return ModuleTarget(logits, Classification(("a", "b")), name="bad")

def hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("child", "w").write(str(child.pid))
    time.sleep(600)

def hungry():
    return target(lambda images: (kept.append(torch.ones(2**26)), time.sleep(0.02), hungry_again(images))[-1])

kept = []

def hungry_again(images):
    return hungry().module(images)

def ends():
    return target(lambda images: os._exit(3))

def no_backward():
    class Stops(torch.autograd.Function):
        forward = staticmethod(lambda ctx, images: images.mean(dim=(1, 2))[:, :2])
        backward = staticmethod(lambda ctx, back: 1 / 0)
    return target(Stops.apply)
"""


@pytest.fixture
def bad(tmp_path, monkeypatch):
    (tmp_path / "bad_models.py").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_one_that_works_is_let_through():
    try_out(pretrained_folder() / "smile-classifier")


def test_one_that_hangs_is_ended_with_all_that_it_began(bad):
    begun = time.monotonic()
    with pytest.raises(RequestError, match=r"^the model needs more than 12 s for 32 faces; take a faster one$"):
        try_out("bad_models:hangs", seconds=12)
    assert time.monotonic() - begun < 60
    child = int((bad / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_one_that_eats_the_memory_is_ended(bad):
    with pytest.raises(RequestError, match=r"^the model takes more than 1\.5 GB of memory with 32 faces; take a small"):
        try_out("bad_models:hungry", memory=1_500_000_000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad_models:ends", r"^the model ended its process with status 3; mend it, or take another one$"),
        ("bad_models:no_backward", r"^target 'bad' fails \(ZeroDivisionError: division by zero\); mend it"),
    ],
)
def test_what_it_raises_is_one_line(bad, name, message):
    with pytest.raises(WorkError, match=message):
        try_out(name)


def test_what_is_named_on_ones_own_machine_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(offers, "try_out", lambda *given: tried.append(given))
    offer = Offer(["g"], ["t"], local=True, device="cuda")
    for name in ("t", "mine:model", "mine:model", "hf:owner/name"):
        assert offer.target(name) == name
    assert tried == [("mine:model", "cuda")]
