import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.modules import one_seed
from sia_gen.training import loop
from sia_gen.training.loop import batch_for, fit, scaled_rate
from sia_gen.training.stepper import Lessons, batch_indices

POINTS = torch.linspace(-1, 1, 32)[:, None]


def problem(statistics=True):
    with one_seed(0):
        norm = nn.BatchNorm1d(8) if statistics else nn.Identity()
        return nn.Sequential(nn.Linear(1, 8), norm, nn.Tanh(), nn.Linear(8, 1))


def shaken(random, x):
    return (x + 0.01 * torch.randn(x.shape, generator=random),)


LESSONS = Lessons((POINTS,), torch.arange(len(POINTS)), shaken, batch=8, seed=5)


def loss(network, kind, x):
    return (network(x) - x.square()).square().mean()


def run(out, steps=40, lessons=LESSONS, loss=loss, statistics=True, **changes):
    settings = {"steps": steps, "rate": 0.02, "settings": {"steps": steps}} | changes
    return fit(problem(statistics), lessons, loss, out, **settings)


def test_learns(tmp_path):
    before = loss(problem(), None, POINTS).item()
    after = loss(run(tmp_path, steps=400), None, POINTS).item()
    assert after < 0.1 * before


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 10)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = run(tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(done, total, what):
        raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "broken", progress=stop)
    assert torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["step"] == 20
    resumed = run(tmp_path / "broken")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_each_epoch_sees_every_item_once_in_a_new_order():
    first = torch.cat([batch_indices(1, step, 12, 4) for step in range(3)])
    second = torch.cat([batch_indices(1, step, 12, 4) for step in range(3, 6)])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()
    assert torch.equal(batch_indices(1, 4, 12, 4), batch_indices(1, 4, 12, 4))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(RequestError, match=r"belongs to a run with .*'steps': 40.*; choose another --out or delete it"):
        run(tmp_path, steps=41)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 no checkpoint"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(WorkError, match=r"cannot read checkpoint '.*checkpoint.pt' .*; delete it to start over"):
        run(tmp_path)


def test_a_loss_that_diverges_is_an_error(tmp_path):
    with pytest.raises(WorkError, match="the loss is nan at step 3; start anew in another folder"):
        run(tmp_path, steps=3, loss=lambda network, step, x: network(x).mean() * torch.nan)


def test_a_gradient_that_diverges_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    steps = []

    def diverging(network, kind, x):
        steps.append(1)
        value = network(x).square().mean()
        return value if len(steps) < 4 else (value * 0).sqrt()  # 0, and its gradient is none

    with pytest.raises(WorkError, match="a weight is not finite at step 4; start anew in another folder"):
        run(tmp_path, steps=6, loss=diverging)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 2
    assert all(weight.isfinite().all() for weight in kept["model"].values())


def short_of_memory(fails):
    """The loss, whose backward pass runs out of memory half-way in the calls that ``fails`` picks by their number.

    No graph of an earlier call may still be held.
    """
    graphs = []

    def limited(network, kind, x):
        assert all(graph() is None for graph in graphs)
        inside = network[0](x)
        if fails(len(graphs)):
            inside.register_hook(lambda gradient: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
        graphs.append(weakref.ref(inside))
        return (network[1:](inside) - x.square()).square().mean()

    return limited


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_weights(tmp_path, caplog):
    seven = replace(LESSONS, batch=7)
    folders = [tmp_path / name for name in ("whole", "halved")]
    for folder in folders:
        folder.mkdir()
    whole = run(folders[0], lessons=seven, statistics=False)
    # The first batch, and the last of three parts in the second step, when two have given their gradients.
    halved = run(folders[1], lessons=seven, statistics=False, loss=short_of_memory({0, 6}.__contains__))
    assert caplog.messages == ["out of memory: batch halved to 3", "out of memory: batch halved to 1"]
    for a, b in zip(whole.parameters(), halved.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_single_item_that_does_not_fit_ends_the_training(tmp_path):
    with pytest.raises(WorkError, match="out of memory on a single image; use --device cpu or a smaller model"):
        run(tmp_path, statistics=False, loss=short_of_memory(lambda call: True))


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(RequestError, match="steps=0 is below 1; train for at least one step"):
        run(tmp_path, steps=0)


def test_a_step_sees_its_rows_and_draws_whatever_came_before(tmp_path):
    seen = []

    def noted(random, x):
        seen.append((x, torch.rand(2, generator=random)))
        return (x,)

    lessons = replace(LESSONS, chosen=torch.arange(0, 32, 2), prepare=noted)
    for name, steps, first in (("whole", 5, 0), ("later", 2, 3)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, steps=steps, lessons=replace(lessons, first=first))
    for early, late in zip(seen[3:5], seen[5:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(early, late, strict=True))
    assert torch.equal(seen[0][0], POINTS[lessons.chosen[batch_indices(5, 0, 16, 8)]])
    assert torch.cat([x for x, _ in seen[:2]]).sort(dim=0).values.tolist() == POINTS[::2].tolist()
    assert not torch.equal(seen[0][1], seen[1][1])


def test_the_rate_rises_stays_and_falls_and_a_step_is_told_its_kind(tmp_path, monkeypatch):
    rates, kinds = [], []
    step_of = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or step_of(self)
    )

    def told(network, kind, x):
        kinds.append(kind)
        return loss(network, kind, x)

    run(tmp_path, steps=100, loss=told, kind=lambda step, done: (step % 2, done < 0.25))
    assert rates[:3] == pytest.approx([0.01, 0.02, 0.02])
    assert rates[50] == pytest.approx(0.02)
    assert rates[75] == pytest.approx(0.01)
    assert rates[99] == pytest.approx(0.0004)
    assert kinds[24:27] == [(0, True), (1, False), (0, False)]


def test_a_gpu_takes_larger_batches_at_a_higher_rate():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [batch_for(None, 32, cpu), batch_for(None, 32, cuda), batch_for(8, 32, cuda)] == [32, 128, 8]
    assert [scaled_rate(2e-3, batch, 32) for batch in (32, 128, 8)] == [2e-3, 4e-3, 1e-3]
    with pytest.raises(RequestError, match="batch=1 is below 2; give two faces or more"):
        batch_for(1, 32, cpu)


def test_mixed_precision_reaches_the_loss(tmp_path):
    types = []

    def noted(network, kind, x):
        types.append(network(x).dtype)
        return loss(network, kind, x)

    run(tmp_path, steps=1, loss=noted, precision="bf16")
    assert types == [torch.bfloat16]
