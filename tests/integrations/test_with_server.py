"""The integrations with a real server, a hanging server and no server."""

from __future__ import annotations

import asyncio
import io
import time

import dask
import httpx
import joblib
import pytest
from rich.console import Console
from rich.progress import Progress

import progressbar_tracker
from progressbar_tracker import ProgressBar, _runtime
from progressbar_tracker._sender import sender
from progressbar_tracker.integrations.asyncio import gather
from progressbar_tracker.integrations.dask import TrackCallback as DaskCallback
from progressbar_tracker.integrations.fsspec import TrackCallback as FsspecCallback
from progressbar_tracker.integrations.joblib import Parallel
from progressbar_tracker.integrations.pandas import read_csv
from progressbar_tracker.integrations.rich import mirror
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer


def wait_for_delivery(client=None, **_):
    """Wait until the server has the item, because short bars are not sent."""
    if client is None:
        time.sleep(0.05)
    else:
        assert client.sender.flush(60)


def with_rich(**options):
    with mirror(Progress(console=Console(file=io.StringIO())), **options) as progress:
        task = progress.add_task("Baking", total=4)
        progress.advance(task, 1)
        wait_for_delivery(**options)
        progress.advance(task, 3)


def with_asyncio(**options):
    async def work():
        wait_for_delivery(**options)

    asyncio.run(gather(*[work() for _ in range(4)], **options))


def with_joblib(**options):
    Parallel(n_jobs=2, backend="threading", **options)([joblib.delayed(wait_for_delivery)(**options)] * 4)


def with_dask(**options):
    work = dask.delayed(lambda: wait_for_delivery(**options))
    with DaskCallback(**options):
        dask.compute(*[work(dask_key_name=str(number)) for number in range(4)], scheduler="sync")


def with_fsspec(**options):
    with FsspecCallback(**options) as callback:
        callback.set_size(4)
        wait_for_delivery(**options)
        callback.relative_update(4)


def with_pandas(**options):
    for _ in read_csv(io.BytesIO(b"a\n1\n"), chunksize=1, **options):
        wait_for_delivery(**options)


INTEGRATION_RUNS = [with_rich, with_asyncio, with_joblib, with_dask, with_fsspec, with_pandas]


def measure_seconds(work):
    """Return the duration of a call in seconds."""
    started_at = time.monotonic()
    work(id=work.__name__)
    return time.monotonic() - started_at


def test_server_history_has_every_end(server):
    key = server.create_key("write", "integrations")
    with ProgressBar(server.url, key) as pb:
        for work in INTEGRATION_RUNS:
            work(id=work.__name__, client=pb)
        assert pb.sender.flush(60)
    history = httpx.get(f"{server.url}/api/v1/history", headers={"X-API-KEY": key}).json()["items"]
    ends = {run["id"]: (run["status"], run["completed"], run["total"]) for run in history}
    assert ends == {
        "with_rich/0": ("succeeded", 4, 4),
        "with_asyncio": ("succeeded", 4, 4),
        "with_joblib": ("succeeded", 4, 4),
        "with_dask": ("succeeded", 4, 4),
        "with_fsspec": ("succeeded", 4, 4),
        "with_pandas": ("succeeded", 4, 4),
    }


@pytest.mark.parametrize("scenario", ["no server", "a server that hangs", "turned off"])
def test_unreachable_server_does_not_affect_program(scenario, monkeypatch):
    for module in (_runtime, sender):
        monkeypatch.setattr(module, "REQUEST_TIMEOUT", 90.0)  # longer than the work on a busy machine
    server = FaultServer()
    server.default_fault = HANG
    if scenario != "no server":
        monkeypatch.setenv("PROGRESSBAR_URL", server.url)
        monkeypatch.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)
    if scenario == "turned off":
        monkeypatch.setenv("PROGRESSBAR_DISABLE", "1")
    progressbar_tracker.configure()  # creates a new sender
    try:
        for work in INTEGRATION_RUNS:
            assert measure_seconds(work) < 60
    finally:
        server.close()
    if scenario != "a server that hangs":
        assert server.requests == []
