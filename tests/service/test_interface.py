"""The app as a visitor's browser sees it: over HTTP."""

import json
import urllib.error
import urllib.request
from contextlib import closing
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from sia_gen.core.errors import RequestError
from sia_gen.service.app import interface
from sia_gen.service.app.audit_panel import AuditPanel
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.runs import RunStore

COLOURS = "tests.standins:colours"
IS_RED = "tests.standins:is_red"

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
def address(store):
    jobs = Jobs()
    app = interface.build([COLOURS], [IS_RED, "tests.standins:nothing"], jobs, store=store)
    _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield address
    app.close(verbose=False)
    jobs.close()


@pytest.fixture(scope="module")
def client(address):
    made = Client(address, verbose=False)
    yield made
    made.close()


def audit(client, target=IS_RED, attributes=("redness", "blueness"), faces=8, seed=0):
    return client.predict(COLOURS, target, list(attributes), faces, seed, 10, 1, 0, api_name="/audit")


def test_runs_an_audit_and_shows_it_again(client, store):
    shown = audit(client)
    (name,) = store.finished()
    assert name.startswith("tests-standins-is-red-8-")
    assert any("What stands out is redness" in str(value) for value in shown)
    page, archive = client.predict(name, api_name="/result")
    assert "What stands out is redness" in page
    assert str(archive["value"]).endswith(f"{name}.zip")
    # A page that opens now shows that run too.
    runs, page, archive = client.predict(api_name="/newest")
    assert (runs["value"], runs["choices"]) == (name, [[name, name]])
    assert "What stands out is redness" in page
    assert str(archive["value"]).endswith(f"{name}.zip")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"faces": 257}, "Value 257 is greater than maximum value 256"),
        ({"attributes": []}, "no attribute is chosen; choose one or more"),
        ({"target": "os:getcwd"}, "Value: os:getcwd is not in the list of choices"),
        ({"target": "tests.standins:nothing"}, "cannot import target 'tests.standins:nothing'"),
        ({"seed": -1}, "Value -1 is less than minimum value 0"),
    ],
)
def test_a_wrong_request_is_one_line(client, values, message):
    with pytest.raises(AppError) as error:
        audit(client, **values)
    assert message in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("fault", [KeyError("key"), OSError(28, "No space left on device")])
def test_a_fault_of_the_app_gives_the_buttons_back(store, monkeypatch, fault):
    def fail(*arguments):
        raise fault

    monkeypatch.setattr("sia_gen.service.app.audit_request.AuditRequest.run", fail)
    jobs, visitor = Jobs(), SimpleNamespace(session_hash="a")
    with gr.Blocks():
        panel = AuditPanel({COLOURS: ["redness"]}, [IS_RED], store, jobs, "cpu")
    shown = []
    with closing(jobs), pytest.raises(gr.Error, match="broke off because of a fault"):
        shown.extend(panel.audit(COLOURS, IS_RED, ["redness"], 8, 0, 10, 1, 0, visitor))
    assert (shown[-1][panel.start].interactive, shown[-1][panel.stop].interactive) == (True, False)


@pytest.mark.parametrize("name", ["../..", "/etc/passwd", "nobody"])
def test_shows_nothing_but_runs(client, name):
    with pytest.raises(AppError, match="not in the list of choices"):
        client.predict(name, api_name="/result")


@pytest.mark.parametrize("path", ["pyproject.toml", "/etc/passwd", "../../etc/passwd"])
def test_serves_no_files_of_the_machine(address, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}gradio_api/file={path}", timeout=60)
    assert error.value.code in (403, 404)


def test_edits_a_face(client):
    before, after, _ = client.predict(3, 10, 0, api_name="/edit")
    before, after = (np.asarray(Image.open(path).convert("RGB"), float) for path in (before, after))
    difference = after - before
    np.testing.assert_allclose(difference, np.broadcast_to([25.5, 0, 0], difference.shape), atol=1)  # 10 points of red
    with pytest.raises(AppError, match="Value 21 is greater than maximum value 20"):
        client.predict(3, 21, 0, api_name="/edit")
    with pytest.raises(AppError, match="Value -1 is less than minimum value 0"):
        client.predict(-1, 10, 0, api_name="/edit")


def test_the_page_asks_for_nothing_from_elsewhere(address):
    with urllib.request.urlopen(address, timeout=60) as response:
        page = response.read().decode()
    settings = json.loads(page.split("window.gradio_config = ")[1].split(";</script>")[0])
    assert settings["analytics_enabled"] is False


def test_refuses_to_serve_nothing(monkeypatch):
    monkeypatch.setattr(interface.catalogue, "generators", list)
    with pytest.raises(RequestError, match=r"^no generator is shipped; name one with --generator$"):
        interface.launch()


def test_refuses_to_serve_an_unknown_target():
    with pytest.raises(RequestError, match=r"^unknown target 'nobody': there are "):
        interface.launch(generators=[COLOURS], targets=["nobody"])


def test_a_port_in_use_is_one_line(address, monkeypatch):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(
        RequestError, match=rf"^cannot serve on port {port} of 127.0.0.1 \(.*\); choose another --port$"
    ):
        interface.launch("127.0.0.1", port, generators=[COLOURS], targets=[IS_RED])
