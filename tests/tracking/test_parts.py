"""A bar that many processes fill: an exact sum of parts, also after processes were killed."""

from __future__ import annotations

import pickle

import pytest

from progressbar_tracker import ProgressBar, Share, _runtime, track


@pytest.fixture
def pb(server):
    """A client with a write key."""
    with ProgressBar(server.url, server.create_key("write", "me")) as pb:
        yield pb


def run_program(programs, code):
    result = programs.run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


POOL_PROGRAM = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from progressbar_tracker import track, flush

def work(job):
    share, number = job
    with share.track(part=f"rows {number}") as part:
        for _ in range(100 + number):
            part.advance()
    return 1

def main():
    context = multiprocessing.get_context(METHOD)
    with track(total=sum(100 + n for n in range(8)), id="job", keep=True) as bar:
        jobs = [(bar.share(), number) for number in range(8)]
        if POOL == "Pool":
            with context.Pool(3) as pool:
                assert sum(pool.imap_unordered(work, jobs)) == 8
        else:
            with ProcessPoolExecutor(3, mp_context=context) as pool:
                assert sum(pool.map(work, jobs)) == 8
    assert flush(20)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("pool", ["Pool", "ProcessPoolExecutor"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_item_is_the_exact_sum_of_a_pools_parts(programs, pb, method, pool):
    run_program(programs, POOL_PROGRAM.replace("METHOD", repr(method)).replace("POOL", repr(pool)))
    item = pb.get("job")
    assert (item["status"], item["completed"]) == ("succeeded", sum(100 + number for number in range(8)))


KILLED_PROGRAM = """
import multiprocessing, os, signal
from progressbar_tracker import track, flush

def work(share, until, die):
    with share.track(part="rows 0 to 99", interval=0.05) as part:
        for number in range(until):
            part.advance()
        if die:
            flush(20)
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with track(total=100, id="job", keep=True) as bar:
        share = bar.share()
        for until, die in ((60, True), (100, False)):
            process = context.Process(target=work, args=(share, until, die))
            process.start()
            process.join()
    assert flush(20)
"""


def test_part_of_a_killed_worker_is_replaced_by_its_successor(programs, pb):
    run_program(programs, KILLED_PROGRAM)
    assert pb.get("job")["completed"] == 100


def test_parts_are_added_to_the_bars_own_count(pb):
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(2)
        with bar.share().track() as part:
            part.advance(3)
        for _ in bar.share().track(range(4)):
            pass
    assert pb.sender.flush(60)
    assert pb.get("job")["completed"] == 9


def test_part_is_on_the_server_at_the_end_of_its_block(pb):
    with pb.track(total=10, id="job") as bar:
        with bar.share().track(part="a") as part:
            part.advance(3)
        assert pb.get("job")["completed"] == 3


def test_a_handle_is_small_and_has_no_key(server):
    with ProgressBar(server.url, server.create_key("write", "me")) as pb, pb.track(total=10, id="job") as bar:
        data = pickle.dumps(bar.share())
        assert len(data) < 300
        assert b"pbt_" not in data
        assert pickle.loads(data) == bar.share()


def test_handle_of_an_unsent_bar_is_inactive(monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_DISABLE", "1")
    with track(total=10, id="job") as bar:
        share = bar.share()
    monkeypatch.delenv("PROGRESSBAR_DISABLE")
    with share.track() as part:
        part.advance(3)
    assert share.active is False


def test_handle_without_a_key_for_its_server_warns(caplog):
    with Share("http://elsewhere:8989", "job", "r").track() as part:
        part.advance(3)
    (record,) = caplog.records
    assert "http://elsewhere:8989" in record.message
    _runtime.get_sender_at("http://elsewhere:8989").close()  # else it keeps looking for a key


def test_part_of_an_ended_bar_is_ignored(pb):
    with pb.track(total=10, id="job", keep=True) as bar:
        share = bar.share()
    assert pb.sender.flush(60)
    with share.track() as part:
        part.advance(3)
    item = pb.get("job")
    assert (item["status"], item["completed"]) == ("succeeded", 0)


@pytest.mark.parametrize("part", [5, ""])
def test_part_with_an_invalid_name_is_refused(part):
    with pytest.raises(TypeError, match="part"):
        Share(None, "job", "r").track(part=part)
