"""What the service stands: ``python benchmarks/service.py [--visitors 50] [--seconds 120]``.

Starts `app.py` as it stands in a process of its own, measures how long its first answers take, then lets visitors come
within a few seconds: each is a gradio client that edits and attacks faces of its own until the time is up, waiting a
little in between as people do. Each answer is held against what was asked, and a sample of them against the answer to
a visitor who is alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from gradio_client import Client
from gradio_client.exceptions import AppError

ROOT = Path(__file__).parents[1]
PORT = 7871
TARGETS = ("smile-classifier-planted", "smile-classifier", "glasses-classifier", "sex-classifier")
THINKS = (4.0, 12.0)  # seconds between a visitor's requests
COME = 15.0  # seconds within which all of them have come
PATIENCE = 120  # seconds until a visitor gives up
CHECKED = 5  # attacks that are asked for again by one who is alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    asked = parser.parse_args()
    address = f"http://127.0.0.1:{PORT}/"
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | {"GRADIO_SERVER_PORT": str(PORT), "SIA_GEN_RUNS": runs}
        begun = time.monotonic()
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            page = _first_page(address, app)
            figures: dict[str, Any] = {"first_answer_s": round(time.monotonic() - begun, 2), "page_kb": page // 1000}
            figures |= _alone(address)
            figures["memory_start_mb"] = _memory(app.pid)
            figures |= _together(address, asked.visitors, asked.seconds)
            figures["memory_end_mb"] = _memory(app.pid)
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait(60)
    print(json.dumps(figures, indent=2))


def _first_page(address: str, app: subprocess.Popen[bytes]) -> int:
    """Bytes of the page, once it is there."""
    while app.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=60) as response:
                return len(response.read())
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"app.py ended with status {app.returncode} before it served a page; run it alone to see why")


def _client(address: str) -> Client:
    return Client(address, verbose=False, httpx_kwargs={"timeout": PATIENCE})


def _alone(address: str) -> dict[str, float]:
    """Seconds of the first attack and edit, and of the next ones, while nobody else is there."""
    client = _client(address)
    taken: dict[str, float] = {}
    for name in ("first", "next"):
        for kind, values in (("attack", {"face": 12}), ("edit", {"face": 12, "attributes": {"age": 10}})):
            begun = time.monotonic()
            client.predict(**values, api_name=f"/{kind}")
            taken[f"{name}_{kind}_s"] = round(time.monotonic() - begun, 2)
    client.close()
    return taken


def _together(address: str, visitors: int, seconds: float) -> dict[str, Any]:
    """Waits and errors of visitors who come at once, and how many answers were another's."""
    end, waits, faults = time.monotonic() + seconds, {"edit": [], "attack": []}, Counter()  # type: ignore[var-annotated]
    attacked: dict[tuple[int, str], Any] = {}

    def visit(number: int) -> None:
        draw = random.Random(number)
        time.sleep(draw.uniform(0, COME))
        try:
            client = _client(address)
        except Exception as error:
            faults[f"did not get in: {type(error).__name__}"] += 1
            return
        while time.monotonic() < end:
            face, kind = draw.randrange(1000), draw.choice(("edit", "edit", "attack"))
            values: dict[str, Any] = {"face": face}
            if kind == "edit":
                values["attributes"] = {"yaw": draw.uniform(-20, 20)}
            else:
                values["target"] = draw.choice(TARGETS)
            begun = time.monotonic()
            try:
                told = client.predict(**values, api_name=f"/{kind}")
            except AppError as error:
                faults["queue full" if "ueue" in str(error) else f"error: {error}"] += 1
            except Exception as error:
                faults[f"lost: {type(error).__name__}"] += 1
            else:
                waits[kind].append(time.monotonic() - begun)
                faults["mixed up"] += not _fits(kind, told, values)
                if kind == "attack":
                    attacked[face, values["target"]] = told["steps"][told["worst"]]["loss"]
            time.sleep(draw.uniform(*THINKS))
        client.close()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures: dict[str, Any] = {"visitors": visitors, "seconds": seconds, "faults": dict(+faults)}
    for kind, found in waits.items():
        figures[kind] = _waits(found)
    return figures | {"differs_from_alone": _checked(address, attacked)}


def _waits(found: list[float]) -> dict[str, float]:
    """How many answers came, and how many seconds they took."""
    cuts = statistics.quantiles(found, n=20) if len(found) > 1 else [0.0] * 19
    longest = max(found, default=0.0)
    seconds = {"p50": cuts[9], "p95": cuts[18], "longest": longest}
    return {"answers": len(found)} | {name: round(value, 2) for name, value in seconds.items()}


def _fits(kind: str, told: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether an answer is to what was asked."""
    if kind == "edit":
        return told["face"] == asked["face"] and told["changes"] == asked["attributes"]
    return (told["about"]["face"], told["about"]["target"]) == (asked["face"], asked["target"])


def _checked(address: str, attacked: dict[tuple[int, str], float]) -> int:
    """How many of some answers are others for one who is alone."""
    client, differs = _client(address), 0
    for (face, target), loss in list(attacked.items())[:CHECKED]:
        told = client.predict(face=face, target=target, api_name="/attack")
        differs += told["steps"][told["worst"]]["loss"] != loss
    client.close()
    return differs


def _memory(process: int) -> int:
    """Megabytes that a process holds."""
    return psutil.Process(process).memory_info().rss // 1_000_000


if __name__ == "__main__":
    main()
