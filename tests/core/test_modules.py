import pytest
import torch
from torch import nn

from sia_gen.core.modules import device_of, eval_mode, one_seed, weights_digest


def network():
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout(), nn.BatchNorm1d(2))


def test_eval_mode_gives_each_part_its_own_mode_back_even_after_an_error():
    model, other = network().train(), network().eval()
    model[1].eval()
    model[0].bias.requires_grad_(False)

    def fail_inside():
        with eval_mode(model, other):
            assert not any(part.training for part in (*model.modules(), *other.modules()))
            assert not any(parameter.requires_grad for parameter in (*model.parameters(), *other.parameters()))
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert [part.training for part in model.modules()] == [True, True, False, True]
    assert not any(part.training for part in other.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True]


def test_one_seed_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with one_seed(1):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with one_seed(1):
        assert torch.equal(torch.rand(3), inside)


def test_device_of_a_module_without_tensors_is_the_cpu():
    assert device_of(nn.ReLU()).type == "cpu"
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")).type == "meta"


def test_a_digest_tells_weights_of_any_type_from_others():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    one = weights_digest(model)
    assert one == weights_digest(model.to(memory_format=torch.channels_last))
    halved = weights_digest(model.bfloat16())
    with torch.no_grad():
        model[0].bias[3] += 1
    assert len({one, halved, weights_digest(model)}) == 3
