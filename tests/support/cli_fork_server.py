"""Runs many command lines in one environment: it imports everything once, and forks a process for each.

The caller sets the environment, the standard streams and the options of Python to test. Jobs are JSON in a file; their
exit codes are written to another file.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import pwd
import signal
import sys
import time
from pathlib import Path

import progressbar_tracker.__main__
import progressbar_tracker.cli

with contextlib.suppress(ImportError):
    # Jobs would import these for themselves.
    import psycopg_pool  # noqa: F401
    import trio  # noqa: F401

    import progressbar_tracker._http.event_stream
    import progressbar_tracker._http.transport
    import progressbar_tracker.server.run
    import progressbar_tracker.server.stores.postgres
    import progressbar_tracker.server.stores.sqlite.backup

JOB_TIMEOUT = 100.0
"""Seconds until a job that neither ends nor is ready is killed, which the exit code shows."""


def raise_unknown_user(user):
    raise KeyError(f"no entry for {user}")


def exec_job(job):
    """Run the job in this process."""
    os.setsid()
    signal.alarm(int(2 * JOB_TIMEOUT))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, where in enumerate((job["stdin"], job["stdout"], job["stderr"])):
        if where is not None:
            opened = os.open(where, os.O_RDWR if number else os.O_RDONLY)
            os.dup2(opened, number)
            os.close(opened)
    if job.get("chdir"):
        Path(job["chdir"]).mkdir()
        os.chdir(job["chdir"])
        Path(job["chdir"]).rmdir()
    if job.get("homeless"):
        pwd.getpwuid = pwd.getpwnam = raise_unknown_user
    if job.get("now") is not None:
        time.time = lambda: job["now"]
        time.time_ns = lambda: int(job["now"] * 1e9)
    sys.argv = ["progressbar-tracker", *job["arguments"]]
    progressbar_tracker.__main__.main()


def is_ready(job):
    """Whether a job has written ``until``, or its server at ``port`` answers."""
    if job["port"] is None:
        return job["until"] in "".join(Path(name).read_text("utf-8", "replace") for name in (job["out"], job["err"]))
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", job["port"], timeout=JOB_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
    return False


def wait_for_job(process, job):
    """Return the exit code of a job; interrupt one that runs until then when it is ready."""
    end = time.monotonic() + JOB_TIMEOUT
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if (job["until"] or job["port"]) and is_ready(job):
            os.kill(process, signal.SIGINT)
            break
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_jobs(path):
    """Run the jobs of a file one after the other. A forked job returns from here, too."""
    jobs = json.loads(Path(path).read_text("utf-8"))
    gc.freeze()  # otherwise the collection at the exit of a job copies all pages of this process
    for job in jobs:
        for name in (job["out"], job["err"]):
            Path(name).touch()
            Path(name).chmod(0o666)
        process = os.fork()
        if process == 0:
            exec_job(job)
            return
        job["code"] = wait_for_job(process, job)
    Path(f"{path}.codes").write_text(json.dumps([job["code"] for job in jobs]), "utf-8")


if __name__ == "__main__":
    run_jobs(sys.argv[1])
