"""``pipe`` copies like ``cat``, and counts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from progressbar_tracker._programs import pipe
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer
from tests.support.programs import PATIENT_EXIT_PRELUDE
from tests.support.waiting import wait_until

PIPE_DATA = random.Random(0).randbytes(3_000_000) + b"last"


def copy_through_pipes(feed, separator=b"\n", *, blocking=True):
    """Copy pieces through two pipes; return the output and the count. An empty piece is a pause of 20 ms."""
    (source, entry), (exit_, target) = os.pipe(), os.pipe()
    os.set_blocking(source, blocking)
    os.set_blocking(target, blocking)
    counts, out = [], []

    def write():
        for piece in feed:
            os.write(entry, piece) if piece else time.sleep(0.02)
        os.close(entry)

    def read():
        while piece := os.read(exit_, 100_000):
            out.append(piece)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    pipe.copy_counted(source, target, counts.append, separator)
    os.close(target)
    for thread in threads:
        thread.join()
    os.close(source)
    os.close(exit_)
    return b"".join(out), sum(counts)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize(
    ("separator", "count"),
    [(b"\n", PIPE_DATA.count(b"\n") + 1), (b"\0", PIPE_DATA.count(b"\0") + 1), (None, len(PIPE_DATA))],
)
def test_copy_is_unchanged_and_counted(separator, count, blocking):
    pieces = [PIPE_DATA[at : at + 60_000] for at in range(0, len(PIPE_DATA), 60_000)]
    pieces.insert(3, b"")  # a pause without data
    assert copy_through_pipes(pieces, separator, blocking=blocking) == (PIPE_DATA, count)


@pytest.mark.parametrize(("data", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2)])
def test_copy_counts_a_last_line_without_newline(data, lines):
    assert copy_through_pipes([data] if data else []) == (data, lines)


def test_copy_counts_bytes_without_splice(tmp_path):
    (tmp_path / "in").write_bytes(PIPE_DATA)
    (tmp_path / "out").write_bytes(b"before")
    counts = []
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("ab") as target:
        pipe.copy_counted(source.fileno(), target.fileno(), counts.append, None)
    assert (tmp_path / "out").read_bytes() == b"before" + PIPE_DATA
    assert sum(counts) == len(PIPE_DATA)


def test_pipe_passes_each_line_at_once(shell):
    with shell.start("pipe", "--id", "slow", "--total", "2", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for line in (b"one\n", b"two"):
            process.stdin.write(line)
            process.stdin.flush()
            assert os.read(process.stdout.fileno(), 100) == line  # hangs if the line is buffered
        process.stdin.close()
        assert process.wait(60) == 0
    item = shell.item("slow")
    assert (item["status"], item["completed"], item["total"], item["unit"]) == ("succeeded", 2, 2, "lines")


def test_pipe_bytes_of_a_file_has_its_size_as_total(shell, tmp_path):
    (tmp_path / "in").write_bytes(PIPE_DATA)
    done = shell.bash(f"pbt pipe --bytes --id file < {tmp_path}/in | cmp - {tmp_path}/in")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    item = shell.item("file")
    assert (item["completed"], item["total"], item["unit"]) == (len(PIPE_DATA), len(PIPE_DATA), "B")


def test_pipe_with_a_closed_reader_ends_silently(shell):
    done = shell.bash("set -o pipefail; yes | pbt pipe --id enough | head -n 2; echo ${PIPESTATUS[@]}")
    assert done.stdout == b"y\ny\n141 141 0\n"
    assert done.stderr == b""
    assert shell.item("enough")["status"] == "stopped"


def test_pipe_killed_by_a_signal_names_it(shell):
    with shell.start("pipe", "--id", "ended", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"line\n")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 100) == b"line\n"
        wait_until(lambda: (shell.item("ended") or {}).get("completed") == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        process.stdin.close()
    item = shell.item("ended")
    assert (item["status"], item["error"], item["completed"]) == ("failed", "killed by SIGTERM", 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pbt pipe 0>/dev/null", "cannot read: Bad file descriptor"),
        ("pbt pipe <&-", "stdin is closed"),
        ("echo | pbt pipe >&-", "stdout is closed"),
        ("echo | pbt pipe > /dev/full", "cannot write: No space left on device"),
    ],
)
def test_pipe_with_a_broken_stream_is_one_line_and_exit_code_1(shell, line, message):
    done = shell.bash(line)
    assert (done.returncode, done.stderr.decode()) == (1, f"progressbar-tracker: {message}\n")


@pytest.mark.parametrize("total", ["abc", "-1", "nan", "inf", "10k", ""])
def test_pipe_total_that_is_no_number_is_wrong_usage(command, total):
    done = command("pipe", "--total", total)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--total" in done.err


def test_pipe_bytes_and_null_exclude_each_other(command):
    assert command("pipe", "--bytes", "--null").code == 2


PATIENT_PIPE = (
    f"{PATIENT_EXIT_PRELUDE}import sys; sys.argv[1:] = ['pipe']\nfrom progressbar_tracker.__main__ import main; main()"
)


def test_pipe_closes_its_output_before_it_waits_for_the_server():
    hung = FaultServer()
    hung.default_fault = HANG
    environ = {**os.environ, "PROGRESSBAR_URL": hung.url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    try:
        with subprocess.Popen(
            [sys.executable, "-c", PATIENT_PIPE],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdin.write(b"a\n")
            process.stdin.flush()
            assert os.read(process.stdout.fileno(), 100) == b"a\n"
            wait_until(lambda: hung.requests)  # the server has a request that it never answers
            process.stdin.write(b"b\n")
            process.stdin.close()
            assert os.read(process.stdout.fileno(), 100) == b"b\n"
            assert process.stdout.read() == b""
            assert process.poll() is None  # still reporting, but its reader is free
            hung.close()
            assert process.wait(60) == 0
            assert process.stderr.read().count(b"\n") == 1
    finally:
        hung.close()
