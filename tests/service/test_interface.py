"""The app as a visitor's browser sees it: over HTTP."""

import json
import urllib.error
import urllib.request
from contextlib import closing
from types import SimpleNamespace

import gradio as gr
import pytest

from sia_gen.core.errors import RequestError
from sia_gen.service.app import interface
from sia_gen.service.app.audit_panel import AuditPanel
from sia_gen.service.app.audit_request import AuditRequest
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore
from sia_gen.service.uploads import Uploads

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
    app = interface.build(Offer([COLOURS], [IS_RED, "tests.standins:nothing"]), jobs, store=store)
    _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield address
    app.close(verbose=False)
    jobs.close()


def test_every_tab_is_on_the_page(address):
    with urllib.request.urlopen(f"{address}config", timeout=60) as response:
        parts = json.loads(response.read())["components"]
    tabs = [part["props"]["label"] for part in parts if part["type"] == "tabitem"]
    assert tabs == ["Attack", "Audit", "Compare", "Mend", "Edit a face"]


@pytest.mark.parametrize("fault", [KeyError("key"), OSError(28, "No space left on device")])
def test_a_fault_of_the_app_gives_the_buttons_back(store, monkeypatch, fault):
    def fail(*arguments):
        raise fault

    monkeypatch.setattr("sia_gen.service.app.audit_request.AuditRequest.run", fail)
    jobs, visitor = Jobs(), SimpleNamespace(session_hash="a")
    with gr.Blocks():
        panel = AuditPanel({COLOURS: ["redness"]}, Offer([COLOURS], [IS_RED]), store, jobs, Models())
    shown = []
    with closing(jobs), pytest.raises(gr.Error, match="broke off because of a fault"):
        shown.extend(panel.audit(COLOURS, IS_RED, ["redness"], 8, 0, 10, 1, 0, False, visitor))
    assert (shown[-1][panel.start].interactive, shown[-1][panel.stop].interactive) == (True, False)


def test_a_visitor_is_told_of_no_option_of_the_command_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    asked = AuditRequest(generator=COLOURS, target=IS_RED, attributes=("redness",))
    with pytest.raises(
        RequestError, match=r"^cannot write to '.*file' \(it is no folder\); tell who runs this service$"
    ):
        asked.run(RunStore(tmp_path / "file"), "cpu", lambda done, total, what: None)


@pytest.mark.parametrize("path", ["pyproject.toml", "/etc/passwd", "../../etc/passwd"])
def test_serves_no_files_of_the_machine(address, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}gradio_api/file={path}", timeout=60)
    assert error.value.code in (403, 404)


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


def test_serves_code_to_nobody_else(monkeypatch):
    with pytest.raises(RequestError, match=r"^--local runs code that is named to it, so not for others on 0.0.0.0;"):
        interface.launch("0.0.0.0", local=True)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "::")
    with pytest.raises(RequestError, match=r"^--local runs code that is named to it, so not for others on ::;"):
        interface.launch(local=True)


def test_no_tunnel_is_opened_whatever_the_environment_says(monkeypatch):
    asked = {}

    def launch(app, **options):
        asked.update(options)
        raise OSError("enough")

    monkeypatch.setenv("GRADIO_SHARE", "true")
    monkeypatch.setattr(gr.Blocks, "launch", launch)
    with pytest.raises(RequestError, match="enough"):
        interface.launch(generators=[COLOURS], targets=[IS_RED], local=True)
    assert asked["share"] is False


def test_what_may_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.service.offer.try_out", lambda *given: None)
    uploads = Uploads(tmp_path)
    (tmp_path / "mine-1234").mkdir()
    (tmp_path / "mine-1234" / "config.json").write_text("{}")
    closed, open_, local = (Offer(["g"], ["t"], *more) for more in ((), (uploads,), (None, True)))
    assert [offer.target("t") for offer in (closed, open_, local)] == ["t"] * 3
    assert open_.target("mine-1234") == str(tmp_path / "mine-1234")
    assert (local.target("os:getcwd"), local.generator("./mine")) == ("os:getcwd", "./mine")
    for offer, name in (
        (closed, "mine-1234"),
        (closed, "os:getcwd"),
        (open_, "os:getcwd"),
        (open_, "../x"),
        (local, 7),
    ):
        with pytest.raises(RequestError, match=r"^unknown target .*: there are t; choose one of these$"):
            offer.target(name)
    with pytest.raises(RequestError, match="unknown generator"):
        open_.generator("./mine")
