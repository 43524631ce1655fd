from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.stores.sqlite import locks
from progressbar_tracker.server.stores.sqlite.locks import FileLock, get_file_system

if TYPE_CHECKING:
    from collections.abc import Callable

DESCRIPTOR_FOLDER = Path("/proc/self/fd")
MOUNT_LINE = "{id} 25 0:50 / {where} rw,relatime shared:7 - {kind} server:/export rw,vers=4.2"


def lock_nothing(_handle: int, _how: int) -> None:
    """Do not lock, like some FUSE file systems."""


def lock_by_fcntl(handle: int, how: int) -> None:
    """Lock by ``fcntl``, like NFS."""
    fcntl.lockf(handle, how)


def refuse_lock(_handle: int, _how: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def raise_unsupported(_handle: int, _how: int) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize("flock", [lock_nothing, lock_by_fcntl, refuse_lock, raise_unsupported])
def test_file_system_with_emulated_flock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: Callable[[int, int], None]
) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(ConfigError, match=r"does not keep a second server out .*put it on a local disk") as refusal:
        FileLock(tmp_path / "progress.db")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "progress.db").exists()


@pytest.mark.parametrize("kind", sorted(locks.REMOTE_FILE_SYSTEMS))
def test_remote_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(locks, "get_file_system", lambda _handle: kind)
    with pytest.raises(ConfigError, match=rf"\({kind} is shared with other machines\)"):
        FileLock(tmp_path / "progress.db")


def test_file_system_type_is_that_of_the_files_mount(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    info = Path(f"/proc/self/fdinfo/{handle}").read_text()
    number = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id"))
    mounts = "\n".join(
        [MOUNT_LINE.format(id=1, where="/", kind="ext4"), MOUNT_LINE.format(id=number, where="/x", kind="nfs4")]
    )
    assert get_file_system(handle, mounts) == "nfs4"
    assert get_file_system(handle, "") == ""
    os.close(handle)


def test_refused_lock_leaves_no_descriptor(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "progress.db")
    before = len(list(DESCRIPTOR_FOLDER.iterdir()))
    for _ in range(3):
        with pytest.raises(ConfigError, match="is running"):
            FileLock(tmp_path / "progress.db")
    assert len(list(DESCRIPTOR_FOLDER.iterdir())) == before
    lock.release()
