"""``progressbar-tracker demo``: a server with a temporary database, and a real job that it shows.

The job reads the files of Python's standard library: it hashes them (a bar inside a bar), compresses them (bytes),
looks for files to search (nobody knows how many), checks a backup whose last part cannot be read (it fails half-way),
and searches for a word until it is found (left early).
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import sysconfig
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._client import ProgressBar
from .server.run import BackgroundServer
from .server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ITEM_GROUP: Final = "standard library"
CHUNK_BYTES: Final = 64 * 1024  # bytes
MAX_INPUT_BYTES: Final = 16_000_000  # bytes to compress: ten seconds or so of a slow core
HASHED_PACKAGES: Final = ("asyncio", "email", "encodings", "http", "importlib", "json", "logging", "unittest", "xml")


def run_demo(*, once: bool, port: int, print_line: Callable[[str], None]) -> None:
    """Run the demo.

    Args:
        once: Return when the work is done, instead of waiting for Ctrl-C.
        port: The server's port; 0 for a free one.
        print_line: Prints a line.
    """
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        stack.callback(print_line, "Stopped.") if not once else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="progressbar-demo-")))
        settings = Settings(database=folder / "demo.db", port=port, local_key=False)
        server = stack.enter_context(BackgroundServer(settings))
        print_line(f"Server:    {server.url}")
        print_line(f"Dashboard: {server.create_sign_in_url()}  (signs you in, once)")
        print_line("Working on the files of Python's standard library:")
        pb = stack.enter_context(ProgressBar(server.url, server.create_key("write", "demo")))
        failure = run_jobs(pb, folder)
        pb.sender.flush(5.0)
        print_line(f"The work is done: three jobs succeeded, one was left early, one failed: {failure}")
        if not once:
            print_line("The server stays until Ctrl-C. A fresh sign-in link: " + server.create_sign_in_url())
            while True:
                time.sleep(1.0)  # not for ever: a Ctrl-C in the moment before it would not end it


def run_jobs(pb: ProgressBar, folder: Path) -> str:
    """Do all of it: the compressing in a thread beside the rest, so that several bars move at once.

    Returns:
        Why the check of the backup failed.
    """
    library = Path(sysconfig.get_path("stdlib"))
    compressing = threading.Thread(target=compress_files, args=(pb, library), daemon=True)
    compressing.start()
    hash_packages(pb, library)
    names = find_files(pb, library)
    failure = "it did not"
    try:
        check_backup(pb, library, folder)
    except OSError as error:
        failure = f"{type(error).__name__} on {Path(str(error.filename)).name}"
    search_files(pb, names)
    compressing.join()
    return failure


def hash_packages(pb: ProgressBar, library: Path) -> str:
    """Hash each package file by file: a bar for the packages, and inside it one for the files of each."""
    total = hashlib.sha256()
    folders = [library / name for name in HASHED_PACKAGES if (library / name).is_dir()]
    for package in pb.track(folders, id="hash", title="Hash packages", unit="packages", group=ITEM_GROUP, weight=30):
        for path in pb.track(
            sorted(package.rglob("*.py")), title=f"Hash {package.name}", unit="files", group=ITEM_GROUP
        ):
            # Many rounds, as one would for a password: a job has to take its time to be worth watching.
            total.update(hashlib.pbkdf2_hmac("sha256", path.read_bytes(), b"demo", 40_000))
    return total.hexdigest()


def iter_modules(library: Path) -> Iterator[Path]:
    """Find the library's modules, without what was installed beside it."""
    for path in library.rglob("*.py"):
        if "site-packages" not in path.parts:
            yield path


def compress_files(pb: ProgressBar, library: Path) -> int:
    """Compress files and count the bytes, in a block: the exact count is advanced by hand."""
    paths, size = [], 0
    for path in iter_modules(library):
        if size < MAX_INPUT_BYTES:
            paths.append(path)
            size += path.stat().st_size
    packer, packed = lzma.LZMACompressor(preset=6), 0
    with pb.track(total=size, id="compress", title="Compress modules", unit="B", group=ITEM_GROUP, weight=20) as bar:
        for path in paths:
            bar.description = path.name
            data = path.read_bytes()
            for start in range(0, len(data), CHUNK_BYTES):
                chunk = data[start : start + CHUNK_BYTES]
                packed += len(packer.compress(chunk))
                bar.advance(len(chunk))
    return packed


def find_files(pb: ProgressBar, library: Path) -> list[Path]:
    """Walk the tree: how many files there are is known only at the end."""

    def checked() -> Iterator[Path]:
        for path in iter_modules(library):
            zlib.crc32(path.read_bytes())
            yield path

    return list(pb.track(checked(), id="find", title="Find and checksum files", unit="files", group=ITEM_GROUP))


def check_backup(pb: ProgressBar, library: Path, folder: Path) -> None:
    """Read a backup of links; one in the middle leads nowhere, and the block fails with the reason."""
    backup = folder / "backup"
    backup.mkdir()
    sources = sorted(library.glob("*.py"))[:60]
    for number, path in enumerate(sources):
        target = path if number != len(sources) // 2 else library / "was-deleted.py"
        (backup / path.name).symlink_to(target)
    with pb.track(
        sorted(backup.iterdir()), id="backup", title="Check the backup", unit="files", group=ITEM_GROUP
    ) as bar:
        for path in bar:
            hashlib.pbkdf2_hmac("sha256", path.read_bytes(), b"demo", 60_000)


def search_files(pb: ProgressBar, paths: list[Path]) -> Path | None:
    """Search until the first hit: the loop is left early, which is no failure."""
    for path in pb.track(paths, id="search", title="Search for a word", unit="files", group=ITEM_GROUP, keep=True):
        time.sleep(0.002)  # somebody's slow disk
        if b"zipimporter" in path.read_bytes():
            return path
    return None
