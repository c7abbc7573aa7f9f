import sys
import types
from dataclasses import replace

import pytest
from torch import nn

from sia_gen import load_target
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.task import Classification


@pytest.fixture
def foreign(monkeypatch):
    """An importable module of someone else's."""
    module = types.ModuleType("foreign")
    monkeypatch.setitem(sys.modules, "foreign", module)
    return module


def network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


def test_loads_a_folder(resnet_folder):
    target = load_target(resnet_folder)
    assert (target.name, target.task) == ("tiny-resnet", Classification(("neutral", "smile")))


def test_wraps_a_module(foreign):
    foreign.build = network
    target = load_target("foreign:build")
    assert (target.name, target.task.classes) == ("foreign:build", ("class 0", "class 1"))


def test_passes_the_device_to_a_callable_that_takes_one(foreign):
    devices = []
    foreign.build = lambda device: devices.append(device) or network()
    load_target("foreign:build")
    assert [str(device) for device in devices] == ["cpu"]


def test_takes_a_target_and_names_it_where_it_has_no_name(foreign):
    built = ModuleTarget(network(), Classification(("no", "yes")))
    foreign.build = lambda: built
    made = load_target("foreign:build")
    assert (made.module, made.name) == (built.module, "foreign:build")
    foreign.build = lambda: replace(made, name="mine")
    assert load_target("foreign:build").name == "mine"


def test_refuses_anything_else(foreign):
    foreign.build = lambda: 3
    with pytest.raises(RequestError, match=r"^target 'foreign:build' gave a int; return a target or a torch"):
        load_target("foreign:build")


def test_a_miss_says_what_would_do():
    with pytest.raises(RequestError, match=r"^unknown target 'nobody': .*give a folder, a hub id 'hf:owner/name' or"):
        load_target("nobody")


def test_a_hub_id_that_is_not_here_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WorkError, match=r"^cannot fetch 'hf:nobody/nothing' \(.*\); go online once, or give a local"):
        load_target("hf:nobody/nothing")


def test_a_module_is_a_target_and_a_function_says_how_to_become_one():
    target = load_target(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))
    assert target.name == "Sequential"
    assert target.task == Classification(("class 0", "class 1"))
    with pytest.raises(RequestError, match=r"^a function is no target; wrap it as ModuleTarget\(it, task, diff"):
        load_target(lambda images: images)
