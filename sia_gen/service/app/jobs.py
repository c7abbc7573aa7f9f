"""Long work that a visitor follows and may stop: of each kind one at a time, in a worker thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from threading import Event
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from sia_gen.core.errors import Cancelled
from sia_gen.core.executors import Progress

T = TypeVar("T")
NEWS_SECONDS = 0.4


class Update(NamedTuple):
    done: int
    total: int
    what: str


WAITING = Update(0, 1, "waiting until what runs before it has ended")


class Job(Generic[T]):
    """Work under way. It is told to stop at its next progress report, so what it has finished stays finished."""

    def __init__(self, worker: ThreadPoolExecutor, work: Callable[[Progress], T]) -> None:
        self._stopped = Event()
        self._latest = Update(0, 1, "starting")
        self._begun = 0.0
        self._future: Future[T] = worker.submit(copy_context().run, self._run, work)

    def _run(self, work: Callable[[Progress], T]) -> T:
        self._begun = monotonic()
        self._report(0, 1, "loading")
        return work(self._report)

    def _report(self, done: int, total: int, what: str) -> None:
        if self._stopped.is_set():
            raise Cancelled
        if total != self._latest.total or done < self._latest.done:  # other work begins
            self._begun = monotonic()
        self._latest = Update(done, total, what)

    def updates(self) -> Iterator[Update]:
        """Where the work is, a few times a second until it ends or is stopped; closing the iterator stops the work."""
        try:
            latest = self._latest
            while not (self._future.done() or self._stopped.is_set()):
                yield latest
                wait([self._future], timeout=NEWS_SECONDS)
                latest = self._latest if self._future.running() else WAITING
        finally:
            self.stop()

    def result(self) -> T:
        """What the work gave or raised; `Cancelled` if it was stopped before it ended."""
        if self._stopped.is_set() and (not self._future.done() or self._future.cancelled()):
            raise Cancelled
        return self._future.result()

    @property
    def latest(self) -> Update:
        """Where the work is."""
        return self._latest if self._future.running() or self._future.done() else WAITING

    @property
    def left(self) -> float | None:
        """Seconds that the rest of what is counted takes, at the pace so far; None before anything is done."""
        done, total, _ = self._latest
        return (monotonic() - self._begun) / done * (total - done) if done else None

    @property
    def done(self) -> bool:
        return self._future.done() or self._stopped.is_set()

    @property
    def error(self) -> BaseException | None:
        """What a job that is done ended with, if not with a result."""
        if self._stopped.is_set() or self._future.cancelled():
            return Cancelled()
        return self._future.exception()

    def stop(self) -> None:
        self._stopped.set()


class Jobs:
    """The jobs of all visitors, at most one of a kind each; those of one kind run one after another."""

    def __init__(self) -> None:
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._jobs: dict[tuple[str, str], Job] = {}

    def start(self, visitor: str, work: Callable[[Progress], T], kind: str = "audit") -> Job[T]:
        """Queue work behind what is under way; the visitor's earlier job of that kind is stopped."""
        self.stop(visitor, kind)
        for key in [key for key, job in self._jobs.items() if job.done]:  # what they gave is held by who asked for it
            self._jobs.pop(key, None)
        if kind not in self._workers:
            self._workers[kind] = ThreadPoolExecutor(max_workers=1, thread_name_prefix=kind)
        job = self._jobs[visitor, kind] = Job(self._workers[kind], work)
        return job

    def stop(self, visitor: str, kind: str | None = None) -> None:
        """Stop a visitor's job of a kind, by default of every kind."""
        for key in [*self._jobs]:
            if key[0] == visitor and kind in (None, key[1]) and (job := self._jobs.pop(key, None)) is not None:
                job.stop()

    def close(self) -> None:
        """Stop all work, and wait until it has stopped."""
        for visitor, kind in [*self._jobs]:
            self.stop(visitor, kind)
        for worker in self._workers.values():
            worker.shutdown(cancel_futures=True)
