"""Tracking in event loops, threads, development mode and green threads."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
import types

import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker._sender.worker import is_threadless
from tests.support.fault_server import WRITE_KEY, make_response
from tests.support.programs import run_program


def test_bars_of_parallel_tasks_have_separate_parents(faults, pb):
    async def job(name, barrier):
        for _ in pb.track([1], id=f"outer-{name}", keep=True):
            await barrier.wait()
            for _ in pb.track([1], id=f"inner-{name}", keep=True):
                await asyncio.sleep(0)

    async def main():
        barrier = asyncio.Barrier(2)
        await asyncio.gather(job("a", barrier), job("b", barrier))

    asyncio.run(main())
    assert pb.sender.flush(60)
    parents = {item_id: item.get("parent") for item_id, item in faults.items.items()}
    assert parents == {"outer-a": None, "outer-b": None, "inner-a": "outer-a", "inner-b": "outer-b"}


def test_bars_of_parallel_threads_have_separate_parents(faults, pb):
    barrier = threading.Barrier(2)

    def job(name):
        for _ in pb.track([1], id=f"outer-{name}", keep=True):
            barrier.wait(60)
            for _ in pb.track([1], id=f"inner-{name}", keep=True):
                barrier.wait(60)

    threads = [threading.Thread(target=job, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pb.sender.flush(60)
    parents = {item_id: item.get("parent") for item_id, item in faults.items.items()}
    assert parents == {"outer-a": None, "outer-b": None, "inner-a": "outer-a", "inner-b": "outer-b"}


def test_async_loop_left_in_a_closed_event_loop_is_stopped(faults, pb):
    async def source():
        for number in range(5):
            yield number

    async def main(tracked):
        async for number in tracked:
            if number == 2:
                break

    tracked = pb.track(source(), id="job", keep=True)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(tracked))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    del tracked
    faults.wait_for(lambda: faults.items.get("job", {}).get("status") == "stopped")


def test_bar_after_its_event_loop_was_closed_still_counts(faults, pb):
    async def main():
        bar = pb.track(total=3, id="job", keep=True)
        bar.advance()
        return bar

    bar = asyncio.run(main())
    bar.advance(2)
    bar.close()
    assert pb.sender.flush(60)
    assert faults.items["job"]["completed"] == 3


FULL_PROGRAM = (
    "with track(total=3, id='job', keep=True) as bar:\n"
    "    for i in track(range(3), id='inner', keep=True): bar.advance()\n"
    "import gc; gc.collect()\n"
    "if not flush(60): sys.exit(1)\n"
)


@pytest.mark.parametrize("variable", ["PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHONOPTIMIZE", "PYTHONUTF8"])
def test_program_in_another_python_mode_is_tracked_silently(faults, tmp_path, variable):
    assert run_program(faults.url, FULL_PROGRAM, tmp_path, **{variable: "1"}) == (0, "", "")
    assert (faults.items["job"]["status"], faults.items["job"]["completed"]) == ("succeeded", 3)


def test_program_with_patched_green_threads_is_tracked(faults, tmp_path):
    pytest.importorskip("gevent")
    code = "from gevent import monkey; monkey.patch_all()\n" + FULL_PROGRAM
    exit_code, _, err = run_program(faults.url, code, tmp_path, PYTHONWARNINGS="default")
    assert exit_code == 0, err
    assert faults.items["job"]["completed"] == 3


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        (b"2.0.26", {b"enable-threads": False}, True),
        (b"2.0.26", {"http-socket": b":80", "enable-threads": b"false"}, True),
        ("2.0.9.1", {}, True),
        (b"2.0.26", {"enable-threads": True}, False),
        (b"2.0.26", {b"enable-threads": b"true"}, False),
        (b"2.0.26", {b"threads": b"2"}, False),
        (b"2.0.26", {"threads": "0"}, False),
        (b"2.0.27", {}, False),
        (b"2.0.31", {"http-socket": b":80"}, False),
        (b"2.1-dev", {}, False),
    ],
)
def test_uwsgi_threads_follow_its_version_and_options(monkeypatch, version, options, expected):
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(version=version, opt=options))
    assert is_threadless() is expected


def test_without_uwsgi_there_are_threads(monkeypatch):
    monkeypatch.delitem(sys.modules, "uwsgi", raising=False)
    assert is_threadless() is False
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace())  # another package of that name
    assert is_threadless() is False


def test_uwsgi_without_threads_runs_bars_with_one_warning(faults, pb, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(version=b"2.0.26", opt={}))
    for number in range(3):
        assert list(pb.track(range(3), id=f"job{number}")) == [0, 1, 2]
    assert pb.sender.flush(20) is False
    pb.close()
    assert ["--enable-threads" in record.message for record in caplog.records] == [True]
    assert (faults.requests, pb.sender._worker.thread, len(pb.sender._added_sources)) == ([], None, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_child_forked_without_python_hooks_has_its_own_sender(faults, tmp_path):
    code = (
        "import ctypes\n"
        "bar = track(total=2, id='parent', keep=True); bar.advance(); assert flush(20)\n"
        "pid = ctypes.PyDLL(None).fork()\n"  # as uWSGI does
        "if pid == 0:\n"
        "    signal.alarm(60)\n"
        "    try:\n"
        "        for _ in track(range(3), id='child', keep=True): pass\n"
        "        done = flush(20)\n"
        "    finally: os._exit(0 if done else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "bar.advance(); bar.close(); assert flush(20)\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    states = {item_id: (item["status"], item["completed"]) for item_id, item in faults.items.items()}
    assert states == {"parent": ("succeeded", 2), "child": ("succeeded", 3)}
    assert faults.items["parent"]["meta"]["pid"] != faults.items["child"]["meta"]["pid"]


def test_key_is_absent_from_logs_reprs_pickles_and_tracebacks(faults, caplog):
    caplog.set_level(logging.DEBUG)
    texts = []
    with ProgressBar(faults.url, WRITE_KEY, auto_detect=False) as pb:
        faults.script.extend([make_response(500), make_response(401, b'{"detail": "no such key"}')])
        with pb.track(total=3, id="job", keep=True) as bar:
            bar.advance()
            texts += [repr(pb), repr(pb.sender), repr(bar), repr(bar.share()), repr(pb.sender._delivery)]
            texts.append(repr(pickle.dumps(bar.share())))
            for value in (bar, pb, pb.sender):
                try:
                    texts.append(repr(pickle.dumps(value)))
                except Exception:
                    texts.append(traceback.format_exc())
        pb.sender.flush(3)
        texts.append(repr(pb.sender.stats()))
        try:
            pb.create("x", "t", "d", 0.5)
        except Exception:
            texts.append(traceback.format_exc())
    texts.append(caplog.text)
    assert len(faults.requests) >= 2
    assert all(request.headers["x-api-key"] == WRITE_KEY for request in faults.requests)
    assert not [text for text in texts if WRITE_KEY in text or "faultkey" in text]


def test_invalid_key_is_not_shown(caplog, monkeypatch, tmp_path):
    code = "import logging; logging.basicConfig(level=0)\nwith track(total=1, id='j') as b: b.advance()\nflush(1)"
    exit_code, out, err = run_program("http://127.0.0.1:9", code, tmp_path, PROGRESSBAR_API_KEY="secret-\u00e4")
    assert exit_code == 0
    assert "secret-" not in out + err


def test_interpreter_without_argv_and_stderr_is_tracked(faults, tmp_path):
    code = "sys.argv = []; sys.stderr = None\n" + FULL_PROGRAM
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    assert faults.items["job"]["status"] == "succeeded"


def test_import_starts_no_thread_and_loads_no_http():
    code = (
        "import sys, threading, progressbar_tracker\n"
        "print(threading.active_count(), sorted({'httpx', 'ssl', 'asyncio', 'tqdm'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert result.stdout == "1 []\n"
