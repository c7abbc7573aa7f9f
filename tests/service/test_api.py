"""The service as a program sees it: over HTTP, by name."""

import asyncio
import importlib.util
import json
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from threading import Event
from time import sleep

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from sia_gen.core.errors import RequestError
from sia_gen.core.files import write_json
from sia_gen.service.app import api, interface
from sia_gen.service.app.api import Api, _changes
from sia_gen.service.app.audit_jobs import ASKED, AuditJobs
from sia_gen.service.app.audit_request import AuditRequest
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore

COLOURS = "tests.standins:colours"
IS_RED, IS_BLUE = "tests.standins:is_red", "tests.standins:is_blue"
MODELS = {"generator": COLOURS, "target": IS_RED}

# Gradio, its server and its client leave sockets and loops to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return RunStore(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def client(store):
    jobs = Jobs()
    app = interface.build(Offer([COLOURS], [IS_RED, IS_BLUE]), jobs, store=store)
    _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    made = Client(address, verbose=False)
    yield made
    made.close()
    app.close(verbose=False)
    jobs.close()


def finished(client, **asked):
    """The job of an audit, once it has ended."""
    job = client.predict(**MODELS | asked, api_name="/audit")["job"]
    while client.predict(job=job, api_name="/status")["state"] == "running":
        sleep(0.1)
    return job


def test_attacks_a_face_by_name(client):
    told = client.predict(**MODELS, face=4, budget=2, epsilon=0, api_name="/attack")
    assert (told["about"]["face"], told["about"]["target"], told["correct"]) == (4, "is-red", True)
    assert told["about"]["attack"]["budget"] == 2
    assert told["about"]["attack"]["stop"] == "never"
    gentle = client.predict(**MODELS, face=4, budget=2, epsilon=0, gentle=True, api_name="/attack")
    assert gentle["about"]["attack"]["stop"] == "success"
    assert gentle["queries"] < told["queries"]
    first, worst = told["steps"][0], told["steps"][told["worst"]]
    assert set(first["shares"]) == {"red", "not red"}
    assert first["changes"] == {"redness": 0.0, "blueness": 0.0}
    assert worst["changes"]["redness"] == pytest.approx(20)  # as far as its range goes, and blue changes nothing
    assert worst["loss"] == max(step["loss"] for step in told["steps"])
    assert set(told["pictures"]) == {"before", "semantic", "adversarial"}  # ε = 0 leaves no residual
    before, after = (np.asarray(Image.open(told["pictures"][name])) for name in ("before", "adversarial"))
    assert (after[..., 0].astype(int) - before[..., 0] == 51).all()  # 20 points of red


def test_what_the_target_predicts_is_left_out(client):
    told = client.predict(generator=COLOURS, target=IS_BLUE, attributes=["redness", "blueness"], api_name="/attack")
    assert list(told["steps"][0]["changes"]) == ["redness"]


def test_edits_a_face_by_name(client):
    told = client.predict(generator=COLOURS, face=3, attributes={"redness": 10}, api_name="/edit")
    before, after = (np.asarray(Image.open(told["pictures"][name]), float) for name in ("before", "after"))
    np.testing.assert_allclose(after - before, np.broadcast_to([25.5, 0, 0], before.shape), atol=1)


def test_audits_and_tells_what_it_found(client, store):
    job = finished(client, faces=8)
    assert client.predict(job=job, api_name="/status")["state"] == "finished"
    told = client.predict(job=job, api_name="/result")
    assert "What stands out is redness" in told["finding"]
    assert {name: Path(path).suffix for name, path in told["files"].items()} == {
        "html": ".html",
        "parquet": ".parquet",
        "zip": ".zip",
    }
    # A service that begins anew knows the job.
    with closing(Jobs()) as jobs:
        assert AuditJobs(store, jobs, "cpu").status(job)["state"] == "finished"


def test_a_quick_look_says_what_stands_out_too(client):
    told = client.predict(job=finished(client, faces=8, quick=True), api_name="/result")
    assert "What stands out is redness" in told["finding"]
    assert told["arms"] == {}


def test_compares_two_audits(client):
    jobs = [finished(client, faces=8, attributes=["redness", "blueness"], steps=steps) for steps in (10, 9)]
    with pytest.raises(AppError, match="cannot be compared: attack is"):
        client.predict(first=jobs[0], second=jobs[1], api_name="/compare")
    told = client.predict(first=jobs[0], second=jobs[0], api_name="/compare")
    assert told["faces"] == 8
    assert all(row["change_difference"] == 0 for row in told["attributes"])


def test_says_what_there_is(client):
    assert client.predict(api_name="/targets") == {"targets": [{"name": IS_RED}, {"name": IS_BLUE}]}
    assert client.predict(api_name="/generators") == {"generators": [{"name": COLOURS}]}
    redness, blueness = client.predict(generator=COLOURS, api_name="/attributes")["attributes"]
    assert (redness["name"], redness["unit"], redness["low"], redness["high"]) == ("redness", "points", -30, 20)
    assert blueness["positive"] == "bluer"


WRONG = [
    ("/attack", {"face": -1}, "face=-1 should be greater than or equal to 0; change it"),
    ("/attack", {"face": "x"}, "face='x' should be a valid integer, unable to parse string as an integer; change it"),
    ("/attack", {"epsilon": 1e9}, "epsilon=1000000000.0 should be less than or equal to 8; change it"),
    ("/attack", {"attributes": []}, "no attribute is chosen; choose one or more"),
    ("/attack", {"attributes": {"age": 20}}, "attributes={'age': 20} are no names; give a list, as ['age', 'yaw']"),
    ("/attack", {"attributes": ["hue"]}, "unknown attribute of 'colours' 'hue': there are redness, blueness;"),
    ("/attack", {"target": "os:getcwd"}, f"unknown target 'os:getcwd': there are {IS_RED}, {IS_BLUE};"),
    ("/audit", {"faces": 10**9}, "faces=1000000000 should be less than or equal to 256; change it"),
    ("/audit", {"attributes": ["hue"]}, "unknown attribute of 'colours' 'hue': there are redness, blueness;"),
    ("/edit", {"attributes": {"redness": 21}}, "redness=+21 is outside the safe range −30…+20 points of 'colours';"),
    ("/edit", {"attributes": "redness"}, "attributes='redness' are no changes; give them by name, as {'age': 20}"),
    ("/edit", {"attributes": {"redness": 1e300}}, "attributes={'redness': 1e+300} are no changes; give them by name"),
    ("/edit", {"generator": "x\n" * 5000}, f"unknown generator '{'x ' * 40}': there are {COLOURS};"),
    ("/edit", {"face": 1.5}, "face=1.5 is no whole number"),
    ("/status", {"job": "../../etc"}, "unknown job '../../etc'; /audit gives one"),
    ("/status", {"job": "x\n" * 5000}, f"unknown job '{'x ' * 40}'; /audit gives one"),
    ("/result", {"job": "/etc/passwd"}, "unknown run '/etc/passwd'"),
    ("/stop", {"job": 7}, "job=7 is no text"),
]


def posted(client, name, asked):
    """What a plain HTTP request gives: the event's name and its data."""
    address = f"{client.src}gradio_api/call/{name}"
    request = urllib.request.Request(address, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        event = json.loads(response.read())["event_id"]
    with urllib.request.urlopen(f"{address.replace('/v2/', '/')}/{event}", timeout=60) as response:
        kind, data = response.read().decode().strip().splitlines()[-2:]
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_arguments_that_are_left_out_are_as_by_default(client):
    """The defaults of models are not offered here, so those are given by name."""
    kind, (told,) = posted(client, "attack", {"data": [4, IS_RED, COLOURS]})
    assert (kind, told["about"]["face"], told["about"]["attack"]["steps"]) == ("complete", 4, 10)
    kind, (told,) = posted(client, "v2/attack", {"face": 4, "target": IS_RED, "generator": COLOURS, "steps": 3})
    assert (kind, told["about"]["attack"]["steps"]) == ("complete", 3)
    kind, told = posted(client, "status", {"data": []})
    assert (kind, told["error"]) == ("error", "job=None is no text; give a job's name, as /audit does")


def test_without_gradios_own_name_the_app_still_answers(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio.components.api_component", None)  # as where it is gone
    spec = importlib.util.spec_from_file_location("another_api", api.__file__)
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)

    def double(number: int, times: int = 2) -> int:
        return number * times

    with another.App() as app:
        monkeypatch.undo()  # gradio itself needs it here
        gr.api(double, api_name="double")
    assert asyncio.run(app.preprocess_data(app.fns[0], [3, 5], None)) == [3, 5]
    with pytest.raises(ValueError, match="didn't receive enough input values"):
        asyncio.run(app.preprocess_data(app.fns[0], [3], None))


@pytest.mark.parametrize(("name", "asked", "message"), WRONG)
def test_a_wrong_request_is_one_line_and_nothing_in_the_log(client, capfd, name, asked, message):
    models = {"/attack": MODELS, "/audit": MODELS, "/edit": {"generator": COLOURS}}.get(name, {})
    with pytest.raises(AppError) as error:
        client.predict(**models | asked, api_name=name)
    assert str(error.value).replace("-30", "−30").startswith(message)
    assert "\n" not in str(error.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_number_beyond_floats_is_one_line():
    with pytest.raises(RequestError, match=r"^attributes=\{'age': 1000+ are no changes; give them by name"):
        _changes({"age": 10**400})


def test_curl_gets_json(client):
    """As `curl` does it: ask, then read what came of it."""
    address = f"{client.src}gradio_api/call/v2/attributes"
    request = urllib.request.Request(address, json.dumps({"generator": COLOURS}).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        event = json.loads(response.read())["event_id"]
    with urllib.request.urlopen(f"{client.src}gradio_api/call/attributes/{event}", timeout=60) as response:
        told = response.read().decode()
    (data,) = json.loads(told.split("data: ")[1].splitlines()[0])
    assert [row["name"] for row in data["attributes"]] == ["redness", "blueness"]


def test_the_documentation_names_every_endpoint(client):
    with urllib.request.urlopen(f"{client.src}gradio_api/openapi.json", timeout=60) as response:
        paths = json.loads(response.read())["paths"]
    attack = next(what["post"] for path, what in paths.items() if path.endswith("/attack"))
    assert attack["description"].startswith("Attack one synthetic face")
    for name in ("attack", "edit", "audit", "status", "result", "stop", "compare", "targets", "attributes"):
        assert any(path.endswith(f"/{name}") for path in paths), name
    assert not any(path.endswith(("attack_1", "edit_1", "audit_1")) for path in paths)


def test_goes_on_with_what_was_asked_before_a_restart(store, tmp_path):
    store = RunStore(tmp_path)
    asked = AuditRequest(**MODELS, attributes=("redness",), faces=4)
    (tmp_path / ASKED).mkdir()
    write_json(tmp_path / ASKED / f"{asked.name}.json", vars(asked))
    (tmp_path / ASKED / "damaged.json").write_text("{")
    with closing(Jobs()) as jobs:
        audits = AuditJobs(store, jobs, "cpu")
        assert audits.resume() == [asked.name]
        while audits.status(asked.name)["state"] == "running":
            sleep(0.05)
    assert store.finished() == [asked.name]
    assert not list((tmp_path / ASKED).iterdir())


def test_a_stopped_audit_is_not_taken_up_again(store, tmp_path):
    store = RunStore(tmp_path)
    with closing(Jobs()) as jobs:
        audits = AuditJobs(store, jobs, "cpu")
        name = audits.start(AuditRequest(**MODELS, attributes=("redness",), faces=256))
        assert audits.stop(name)["state"] == "stopped"
        assert audits.resume() == []


def test_a_failing_audit_says_why(store, tmp_path):
    with closing(Jobs()) as jobs:
        audits = AuditJobs(RunStore(tmp_path), jobs, "cpu")
        name = audits.start(AuditRequest(generator=COLOURS, target="nobody", attributes=("redness",)))
        while (told := audits.status(name))["state"] == "running":
            sleep(0.05)
    assert told["state"] == "failed"
    assert told["what"].startswith("unknown target 'nobody'")


def test_audits_do_not_wait_without_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.service.app.audit_jobs.MOST", 0)
    with closing(Jobs()) as jobs, pytest.raises(RequestError, match="audits wait already"):
        AuditJobs(RunStore(tmp_path), jobs, "cpu").start(AuditRequest(**MODELS, attributes=("redness",)))


def test_a_restart_goes_on_with_all_that_was_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.service.app.audit_jobs.MOST", 1)
    go = Event()
    monkeypatch.setattr(AuditRequest, "run", lambda *given, **more: go.wait(60))
    (tmp_path / ASKED).mkdir()
    asked = [AuditRequest(**MODELS, attributes=("redness",), faces=faces) for faces in (4, 5, 6)]
    for each in asked:
        write_json(tmp_path / ASKED / f"{each.name}.json", vars(each))
    with closing(Jobs()) as jobs:
        audits = AuditJobs(RunStore(tmp_path), jobs, "cpu")
        assert sorted(audits.resume()) == sorted(each.name for each in asked)
        go.set()
        while len([job for job in audits._kept.values() if not job.done]):
            sleep(0.02)
        assert not list((tmp_path / ASKED).iterdir())


def test_a_fault_is_not_begun_again_and_few_are_remembered(tmp_path, monkeypatch):
    def fail(*given, **more):
        raise KeyError("key")

    monkeypatch.setattr(AuditRequest, "run", fail)
    monkeypatch.setattr("sia_gen.service.app.audit_jobs.KEPT", 2)
    with closing(Jobs()) as jobs:
        audits = AuditJobs(RunStore(tmp_path), jobs, "cpu")
        for faces in range(1, 6):
            name = audits.start(AuditRequest(**MODELS, attributes=("redness",), faces=faces))
            while (told := audits.status(name))["state"] == "running":
                sleep(0.02)
            assert (told["state"], told["what"]) == ("failed", "a fault of this service")
        assert not list((tmp_path / ASKED).iterdir())
        assert len(audits._kept) == 3
        assert audits.resume() == []


def test_a_folder_that_another_thread_removed_is_no_fault(tmp_path, monkeypatch):
    api = Api(None, None, None, None, 0)
    gone = Path(api._files.name) / "gone"
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([gone]))
    assert api._folder().is_dir()


def test_an_assistant_gets_the_same_tools(tmp_path):
    """Where the extra mcp is installed: its own client lists the endpoints and calls one by name."""
    mcp = pytest.importorskip("mcp")
    from mcp.client.streamable_http import streamablehttp_client

    async def talk(address):
        async with streamablehttp_client(address) as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            told = await session.list_tools()
            answer = await session.call_tool("attributes", {"generator": COLOURS})
            wrong = await session.call_tool("attack", {"face": -1})
            return told.tools, answer.content[0].text, wrong

    with closing(Jobs()) as jobs:
        app = interface.build(Offer([COLOURS], [IS_RED]), jobs, store=RunStore(tmp_path))
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, mcp_server=True)
        try:
            tools, answer, wrong = asyncio.run(talk(f"{address}gradio_api/mcp/"))
        finally:
            app.close(verbose=False)
    assert {"attack", "edit", "audit", "status", "result", "compare"} <= {tool.name for tool in tools}
    assert all(len(tool.description) > 20 for tool in tools)
    assert "blueness" in answer
    assert wrong.isError
