"""Audits that programs ask for: each has a name that is valid as long as its run is kept, also after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sia_gen.audits.run.run_folder import CONFIG
from sia_gen.core.errors import Cancelled, RequestError, WorkError, shown
from sia_gen.core.files import is_file, read_json, writable_folder, write_json
from sia_gen.service.app.audit_request import AuditRequest
from sia_gen.service.app.jobs import Job, Jobs
from sia_gen.service.offer import Find, as_named
from sia_gen.service.runs import RunStore

KIND = "audit"
ASKED = ".asked"  # folder of the requests that are not finished yet
MOST = 8  # of them
KEPT = 64  # jobs that are done, of which it is remembered why they failed


class AuditJobs:
    """Requests are written down before they are begun, and taken up again by `resume`; ``find`` as for their `run`."""

    def __init__(self, store: RunStore, jobs: Jobs, device: str, find: Find = as_named) -> None:
        self.store, self.jobs, self.device, self.find = store, jobs, device, find
        self._kept: dict[str, Job] = {}

    def start(self, asked: AuditRequest) -> str:
        """Begin an audit, or go on with it, and give its name; raises `RequestError` where too many wait."""
        name = asked.name
        if self.status(name, known=True)["state"] in ("finished", "running"):
            return name
        waiting = [job for job in [*self._kept.values()] if not job.done]
        if len(waiting) >= MOST:
            raise RequestError(f"{len(waiting)} audits wait already, which is the most; ask again when one has ended")
        writable_folder(self.store.folder / ASKED)
        write_json(self._note(name), asdict(asked))
        return self._begin(asked)

    def _begin(self, asked: AuditRequest) -> str:
        for done in [each for each, job in self._kept.items() if job.done][:-KEPT]:
            self._kept.pop(done, None)
        self._kept[asked.name] = self.jobs.start(asked.name, partial(self._work, asked), KIND)
        return asked.name

    def _work(self, asked: AuditRequest, progress: Any) -> None:
        try:
            asked.run(self.store, self.device, progress, self.find)
        except Cancelled:
            raise
        except Exception:
            self._note(asked.name).unlink(missing_ok=True)  # it would fail again
            raise
        self._note(asked.name).unlink(missing_ok=True)

    def status(self, name: str, known: bool = False) -> dict[str, Any]:
        """ "state", one of finished, running, stopped and failed, and how far it is; raises `RequestError` if unknown.

        With ``known`` an audit that was never asked for is a stopped one.
        """
        job = self._kept.get(name)
        told: dict[str, Any] = {"job": name, "done": 0, "total": 1, "what": ""}
        if name in self.store.finished():
            return told | {"state": "finished", "done": 1}
        if job is not None and not job.done:
            return told | {"state": "running"} | job.latest._asdict()
        if job is not None and (error := job.error) is not None and not isinstance(error, Cancelled):
            fault = str(error) if isinstance(error, RequestError | WorkError) else "a fault of this service"
            return told | {"state": "failed", "what": fault}
        if known or is_file(self._note(name)) or is_file(self.store.path(name) / CONFIG):
            return told | {"state": "stopped", "what": "the same request goes on from here"}
        raise RequestError(f"unknown job '{shown(name)}'; /audit gives one")

    def stop(self, name: str) -> dict[str, Any]:
        """Stop an audit; what is finished of it is kept."""
        self.status(name)
        self._note(name).unlink(missing_ok=True)
        self.jobs.stop(name, KIND)
        return self.status(name, known=True)

    def resume(self) -> list[str]:
        """Go on with what was asked for and neither finished nor stopped; a damaged note is left out."""
        begun = []
        for note in sorted((self.store.folder / ASKED).glob("[!.]*.json")):
            try:
                told: Mapping[str, Any] = read_json(note)
                asked = AuditRequest(**told | {"attributes": tuple(told["attributes"])})
            except (RequestError, WorkError, KeyError, TypeError):
                note.unlink(missing_ok=True)
            else:
                begun.append(self._begin(asked))  # however many: all of these were accepted before
        return begun

    def _note(self, name: str) -> Path:
        return self.store.folder / ASKED / f"{self.store.path(name).name}.json"
