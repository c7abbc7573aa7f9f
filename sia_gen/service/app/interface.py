"""The Gradio app: attack a face, audit a target, edit a face. It works offline and sends nothing anywhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import gradio as gr

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import shipped
from sia_gen.core.seeds import face_seeds
from sia_gen.service import catalogue, gpu
from sia_gen.service.app.api import GENERATOR, TARGET, Api, App
from sia_gen.service.app.attack_panel import ATTACK, AttackPanel
from sia_gen.service.app.audit_jobs import AuditJobs
from sia_gen.service.app.audit_panel import AuditPanel
from sia_gen.service.app.compare_panel import ComparePanel
from sia_gen.service.app.edit_panel import EditPanel
from sia_gen.service.app.faces import QUIET
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.app.mend_panel import MendPanel
from sia_gen.service.app.own_model import OwnModel
from sia_gen.service.commands.options import resolve
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore
from sia_gen.service.uploads import FOLDER, LARGEST, Uploads
from sia_gen.studio.factors import NAMES as FACTORS
from sia_gen.targets.load import load_target

TITLE = "sia-gen"
WAITING = 100  # visitors' requests in the queue
HOME = ("127.0.0.1", "localhost", "::1")
SMALL = 1_000_000  # bytes of a file that is sent where none is asked for
CACHE_SECONDS = 24 * 3600
HEADING = "# sia-gen: which semantic attributes make a face model fail?"
ABOUT = """Synthetic faces are moved along named attributes, and by a bounded pixel residual, up the loss of a target.
What stands out against random directions that change the picture as much is what the target is *sensitive* to.
No face here is a real person's.
"""
STYLE = (
    (Path(__file__).parent / "attack.css").read_text(encoding="utf-8")
    + """
.status progress { display: block; width: 100%; margin-top: 4px; }
.beside { position: sticky; top: 8px; }
input { text-overflow: ellipsis; }
@media (max-width: 600px) {
  .beside { position: static; order: -1; }
  .readings * { font-size: 12px !important; }
}
.readings * { font-family: inherit !important; overflow-wrap: normal !important; word-break: normal !important; }
.readings :is(th, th *, .cell-wrap) { padding: 2px !important; }
.report iframe { width: 100%; min-height: 40rem; border: 0; background: white; }
"""
)


def build(
    offer: Offer,
    jobs: Jobs,
    *,
    store: RunStore | None = None,
    models: Models | None = None,
    seed: int = 0,
) -> gr.Blocks:
    """The app for the models of an offer.

    Audits that programs asked for before are gone on with.
    """
    models, store = models or Models(), store or RunStore()
    programs = AuditJobs(store, jobs, models.device, offer.target)
    programs.resume()
    generators = offer.generators
    attributes = {name: models.attributes(name).names for name in generators}
    cache = (CACHE_SECONDS, CACHE_SECONDS)
    with App(title=TITLE, analytics_enabled=False, delete_cache=cache, fill_width=True) as app:
        Api(models, offer, programs, jobs, seed).make()  # before events whose functions have such names
        gr.Markdown(HEADING)
        gr.Markdown(ABOUT, elem_classes="about")
        with gr.Tab("Attack"):
            attacks = AttackPanel(attributes, offer, models, jobs, seed)
        with gr.Tab("Audit") as tab:
            audits = AuditPanel(attributes, offer, store, jobs, models, seed)
        tab.select(audits.refresh, audits.earlier, [audits.earlier, *audits.result.components], **QUIET)
        with gr.Tab("Compare") as tab:
            comparison = ComparePanel(offer, models, store, jobs, seed)
        tab.select(comparison.refresh, None, comparison.runs, **QUIET)
        with gr.Tab("Mend") as tab:
            mending = MendPanel(store, jobs, models.device)
        tab.select(mending.refresh, mending.run, mending.run, **QUIET)
        for name in generators:
            with gr.Tab("Edit a face" if len(generators) == 1 else f"Edit {name}") as tab:
                panel = EditPanel(name, models, seed)
            tab.select(panel.edit, panel.inputs, panel.outputs, **QUIET)
        if offer.uploads is not None:
            OwnModel(offer.uploads, FACTORS, [attacks.target, audits.target, *comparison.pair])

        def leave(visitor: gr.Request) -> None:
            jobs.stop(visitor.session_hash)

        app.unload(leave)
    return app


def _theme() -> gr.Theme:
    """The machine's own fonts, so that none are fetched; texts dark enough to be read by everyone."""
    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}
    dark_enough = dict.fromkeys(("block_info_text_color", "body_text_color_subdued"), "*neutral_600")
    return gr.themes.Default(primary_hue="indigo", **fonts).set(**dark_enough)


def launch(
    host: str | None = None,
    port: int | None = None,
    *,
    generators: Sequence[str] = (),
    targets: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    allow_models: bool = False,
    local: bool = False,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the shipped models, and those named here, until interrupted; ``announce`` is told the address.

    With ``allow_models`` visitors may bring their own, see `Uploads`; ``local`` is for one's own machine: folders and
    ``module:callable``, whose code is run, may be named.

    Raises `RequestError` where there is nothing to serve, the port is taken or the seed is out of range.
    """
    face_seeds(seed, 1)  # refuses a wrong seed before anything is loaded
    offered = [entry["name"] for entry in catalogue.generators() if entry["editable"]] + list(generators)
    offered.sort(key=lambda name: name != GENERATOR)  # which is offered first
    audited = [entry["name"] for entry in catalogue.targets()] + list(targets)
    for kind, names in (("generator", offered), ("target", audited)):
        if not names:
            raise RequestError(f"no {kind} is shipped; name one with --{kind}")
    for name in targets:
        load_target(name, "cpu")  # refuses what is no target before anything is served
    where = host or os.environ.get("GRADIO_SERVER_NAME") or HOME[0]
    if local and where not in HOME:
        raise RequestError(f"--local runs code that is named to it, so not for others on {where}; serve on {HOME[0]}")
    share_threads()
    store, jobs, models = RunStore(), Jobs(), Models(resolve(device))
    uploads = Uploads(store.folder.resolve() / FOLDER) if allow_models else None
    offer = Offer(offered, audited, uploads, local, models.device)
    app = build(offer, jobs, store=store, models=models, seed=seed).queue(max_size=WAITING)
    try:
        with redirect_stdout(sys.stderr):  # stdout is for the address
            _, address, _ = app.launch(
                server_name=host,
                server_port=port,
                quiet=True,
                share=False,  # whatever the environment's GRADIO_SHARE says
                show_error=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                footer_links=["api"],
                mcp_server=find_spec("mcp") is not None,  # the endpoints as an assistant's tools, too
                max_file_size=LARGEST if allow_models else SMALL,
                theme=_theme(),
                css=STYLE,
            )
        announce(address)
        jobs.start("nobody", partial(warm, models, offered[0]), ATTACK)
        if _attacks_here():
            jobs.start("nobody", lambda progress: models.look(offered[0], TARGET), "look")
        _until_told()
    except OSError as error:
        raise RequestError(f"cannot serve on port {port} of {host} ({error}); choose another --port") from None
    finally:
        app.close(verbose=False)
        jobs.close()


def share_threads() -> None:
    """Half of the cores for each of the two kinds of long work, so that they do not wait for one another's threads.

    Two torch jobs of two threads each, on two cores, were ten times slower than of one thread each.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))


def warm(models: Models, generator: str, progress: Progress) -> None:
    """Load what the first attack and the first edit need, in the thread of attacks, beside `Models.look`."""
    if _attacks_here():
        attacker = models.attacker(generator, TARGET)
        progress(1, 3, "loaded the target")  # where it can be stopped
        _ = attacker.rendered
        progress(2, 3, "loaded the studio")
    models.editor(generator)


def _attacks_here() -> bool:
    """Whether attacks use this process's models, and the target that is offered first comes with the package."""
    return TARGET in shipped("target") and not gpu.LENT


def _until_told() -> None:
    """Wait for Ctrl-C, or to be told to end, which is taken as such, so that what was begun is cleared away."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Event().wait()
