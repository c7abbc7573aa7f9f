"""The benchmark of the service where the service gives nothing."""

import subprocess
import sys

import pytest

from benchmarks import service


def test_an_app_that_died_is_not_waited_for():
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as app:
        app.wait(60)
        with pytest.raises(SystemExit, match=r"^app.py ended with status 3 before it served a page;"):
            service._first_page("http://127.0.0.1:9/", app)


def test_no_answers_are_told_as_none():
    assert service._waits([]) == {"answers": 0, "p50": 0.0, "p95": 0.0, "longest": 0.0}
    assert service._waits([1.0, 3.0])["longest"] == 3.0
