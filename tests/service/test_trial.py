"""Targets that hang, eat the memory or end their process are stopped in a process of their own."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from types import SimpleNamespace

import gradio as gr
import psutil
import pytest

from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.service import offer as offers
from sia_gen.service.app.attack_panel import AttackPanel
from sia_gen.service.app.audit_panel import AuditPanel
from sia_gen.service.app.compare_panel import ComparePanel
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore
from sia_gen.service.trial import BROUGHT, LOCAL, Limits, try_out, watched

FEW = Limits(seconds=60, memory=2e9, share=1 / 2)
BAD = """
import os, torch
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.task import Classification

def no_backward():
    class Stops(torch.autograd.Function):
        forward = staticmethod(lambda ctx, images: images.mean(dim=(1, 2))[:, :2])
        backward = staticmethod(lambda ctx, back: 1 / 0)
    return ModuleTarget(Stops.apply, Classification(("a", "b")), name="bad")
"""


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """Bytes that seem to be free, whatever else runs here."""
    memory = SimpleNamespace(available=10e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return memory


def python(code):
    return [sys.executable, "-c", code]


def children(before=()):
    """The processes of this one, without those that tests ``before`` left, as a pool's keeper."""
    return set(psutil.Process().children(recursive=True)) - set(before)


def ended(processes):
    """Whether all are gone, or wait for nothing but to be noticed, within a minute."""
    until = time.monotonic() + 60
    while any(process.is_running() and status(process) != "zombie" for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def status(process):
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return "zombie"


def test_a_model_is_loaded_and_asked_there_forward_and_backward(tmp_path, monkeypatch):
    (tmp_path / "bad_models.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkError, match=r"^target 'bad' fails \(ZeroDivisionError: division by zero\); mend it"):
        try_out("bad_models:no_backward", limits=LOCAL)


def test_one_that_ends_well_is_let_through():
    looks = []
    assert watched(python("raise SystemExit(3)"), FEW, lambda *told: looks.append(told)) == 3
    assert set(looks) <= {(0, 1, "trying the model")}


def test_one_that_hangs_is_ended_with_all_that_it_began():
    waits = "import time; time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{waits}'])"
    seen, before = set(), children()
    with pytest.raises(RequestError, match=r"^the model needs more than 2 s for 32 pictures; take a faster one$"):
        watched(python(code), Limits(2, 2e9, 1 / 2), lambda *told: seen.update(children(before)))
    assert seen
    assert ended(seen)


HUNGRY = "import time; held = bytearray(b'x' * 300_000_000); time.sleep(600)"


def test_one_that_eats_the_memory_is_ended():
    with pytest.raises(RequestError, match=r"^the model takes more than 0\.2 GB of memory with 32 pictures; take a sm"):
        watched(python(HUNGRY), Limits(60, 2e8, 1 / 2))


def test_where_little_is_free_that_is_said(free):
    free.available = 2.5e8
    with pytest.raises(RequestError, match=r"^only 0\.2 GB are free for a trial; end other work or try later$"):
        watched(python(HUNGRY), Limits(60, 2e9, 4 / 5))


def test_ones_own_model_may_take_more(free):
    assert LOCAL.seconds > BROUGHT.seconds
    assert min(LOCAL.memory, free.available * LOCAL.share) == 8e9


def test_one_that_is_stopped_is_ended():
    seen, before = set(), children()

    def progress(*told):
        seen.update(children(before))
        raise Cancelled

    with pytest.raises(Cancelled):
        watched(python("import time; time.sleep(600)"), FEW, progress)
    assert seen
    assert ended(seen)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (3, "the model ended its process with status 3; mend it, or take another one"),
        (-9, "the model's process was killed (Killed), most likely for memory; take a smaller model"),
    ],
)
def test_one_that_ends_its_process_is_one_line(monkeypatch, status, message):
    monkeypatch.setattr("sia_gen.service.trial.watched", lambda *given: status)
    with pytest.raises(WorkError) as error:
        try_out("mine:model")
    assert str(error.value) == message


def test_what_is_named_on_ones_own_machine_is_tried_once(monkeypatch):
    tried, inside, go = [], Event(), Event()

    def trial(*given):
        tried.append(given)
        inside.set()
        assert go.wait(60)

    monkeypatch.setattr(offers, "try_out", trial)
    offer, waited = Offer(["g"], ["t"], local=True, device="cuda"), Event()
    for name in ("t", "hf:owner/name"):
        assert offer.target(name) == name
    assert offer.known("mine:model") == "mine:model"
    assert tried == []
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(offer.target, "mine:model")
        assert inside.wait(60)
        second = pool.submit(offer.target, "mine:model", lambda *told: waited.set())
        assert waited.wait(60)
        stopped = pool.submit(offer.target, "mine:model", stop)
        with pytest.raises(Cancelled):  # while the first is still tried
            stopped.result(60)
        go.set()
        assert (first.result(60), second.result(60)) == ("mine:model", "mine:model")
    assert tried == [("mine:model", "cuda", LOCAL, None)]


def stop(*told):
    raise Cancelled


COLOURS, IS_RED, OWN = "tests.standins:colours", "tests.standins:is_red", "tests.standins:is_blue"


@pytest.mark.parametrize("tab", ["attack", "audit", "compare"])
def test_a_trial_is_told_of_and_can_be_stopped(tab, tmp_path, monkeypatch):
    ends = []

    def trial(name, device, limits, progress):
        try:
            while True:
                progress(0, 1, "trying the model")
                time.sleep(0.01)
        finally:
            ends.append(name)

    monkeypatch.setattr(offers, "try_out", trial)
    visitor, store, offer = (
        SimpleNamespace(session_hash="a"),
        RunStore(tmp_path),
        Offer([COLOURS], [IS_RED], local=True),
    )
    with closing(Jobs()) as jobs:
        with gr.Blocks():
            if tab == "attack":
                panel = AttackPanel({COLOURS: ["redness"]}, offer, Models(), jobs)
                events = panel.attack(COLOURS, OWN, 4, ["redness"], 1, 0, 2, False, visitor)
            elif tab == "audit":
                panel = AuditPanel({COLOURS: ["redness"]}, offer, store, jobs, Models())
                events = panel.audit(COLOURS, OWN, ["redness"], 2, 0, 2, 1, 0, True, visitor)
            else:
                events = ComparePanel(offer, Models(), store, jobs).both(COLOURS, OWN, IS_RED, 4, 1, 0, visitor)
        for shown in events:
            said = str(next(iter(shown.values())) if isinstance(shown, dict) else shown[0])
            if "trying the model" in said:
                jobs.stop("a")
    assert "Stopped." in said
    assert ends == [OWN]
