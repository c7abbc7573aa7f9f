import weakref
from contextlib import closing
from threading import Event

import pytest

from sia_gen.core.errors import Cancelled, WorkError
from sia_gen.service.app.audit_panel import rest
from sia_gen.service.app.jobs import WAITING, Jobs, Update


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    made.close()


def test_tells_where_the_work_is_and_gives_its_result(jobs):
    seen = Event()

    def work(progress):
        progress(1, 2, "half")
        assert seen.wait(60)
        return "result"

    job = jobs.start("a", work)
    for update in job.updates():
        if update == Update(1, 2, "half"):
            seen.set()
    assert job.result() == "result"


def test_a_stopped_job_ends_at_its_next_report(jobs):
    steps = []

    def work(progress):
        for step in range(10_000):
            progress(step, 10_000, "step")
            steps.append(step)
            Event().wait(0.001)

    job = jobs.start("a", work)
    for update in job.updates():
        if update.done:
            jobs.stop("a")
    with pytest.raises(Cancelled):
        job.result()
    jobs.close()  # waits for the work
    assert 0 < len(steps) < 10_000


def test_a_stopped_job_is_not_waited_for(jobs):
    begun, go = Event(), Event()

    def work(progress):
        begun.set()
        assert go.wait(60)  # as where a model is loaded, which reports nothing

    job = jobs.start("a", work)
    updates = job.updates()
    next(updates)
    assert begun.wait(60)
    jobs.stop("a")
    assert list(updates) == []
    with pytest.raises(Cancelled):
        job.result()
    go.set()


def test_closing_the_updates_stops_the_work(jobs):
    steps, begun = [], Event()

    def work(progress):
        for step in range(10_000):
            progress(step, 10_000, "step")
            steps.append(step)
            begun.set()
            Event().wait(0.001)

    job = jobs.start("a", work)
    with closing(job.updates()) as updates:
        next(updates)
        assert begun.wait(60)
    with pytest.raises(Cancelled):
        job.result()
    jobs.close()
    assert 0 < len(steps) < 10_000


def test_one_job_runs_at_a_time_and_one_waits_for_each_visitor(jobs):
    started, running, begun, go = [], [], Event(), Event()

    def work(progress, name):
        started.append(name)
        running.append(name)
        begun.set()
        assert go.wait(60)
        running.remove(name)
        return name

    first = jobs.start("a", lambda progress: work(progress, "first"))
    second = jobs.start("b", lambda progress: work(progress, "second"))
    third = jobs.start("b", lambda progress: work(progress, "third"))
    assert begun.wait(60)
    assert running == ["first"]
    updates = third.updates()
    assert [next(updates).what, next(updates)] == ["starting", WAITING]
    go.set()
    assert first.result() == "first"
    with pytest.raises(Cancelled):
        second.result()  # the visitor asked for another
    assert third.result() == "third"
    assert started == ["first", "third"]


def test_what_is_queued_when_all_is_closed_counts_as_stopped(jobs):
    begun, go = Event(), Event()
    first = jobs.start("a", lambda progress: begun.set() or go.wait(60))
    queued = jobs.start("b", lambda progress: None)
    assert begun.wait(60)
    go.set()
    queued.stop()
    jobs.close()
    assert first.result()
    with pytest.raises(Cancelled):
        queued.result()


def test_an_error_of_the_work_is_the_jobs(jobs):
    def work(progress):
        raise WorkError("the target gave NaN")

    job = jobs.start("a", work)
    with pytest.raises(WorkError, match=r"^the target gave NaN$"):
        job.result()


def test_says_how_long_the_rest_takes(jobs, monkeypatch):
    clock = iter([100.0, 200.0, 204.0])
    monkeypatch.setattr("sia_gen.service.app.jobs.monotonic", lambda: next(clock))

    def work(progress):
        progress(0, 4, "another part of the work begins")
        progress(1, 4, "a quarter")

    job = jobs.start("a", work)
    assert job.result() is None
    assert job.left == 12.0
    assert (rest(None), rest(12.0), rest(200.0)) == ("", ", about 10 s left", ", about 3 min left")


def test_an_attack_does_not_wait_for_an_audit(jobs):
    go = Event()
    audit = jobs.start("a", lambda progress: go.wait(60), "audit")
    assert jobs.start("a", lambda progress: "attacked", "attack").result() == "attacked"
    assert not audit.done
    go.set()
    assert audit.result()


def test_nothing_is_kept_of_jobs_that_are_done(jobs):
    given = [jobs.start(str(visitor), lambda progress: object()).result() for visitor in range(5)]
    seen = [weakref.ref(job) for job in jobs._jobs.values()]
    jobs.start("last", lambda progress: None).result()
    assert len(given) == 5
    assert list(jobs._jobs) == [("last", "audit")]
    assert [ref() for ref in seen] == [None]
