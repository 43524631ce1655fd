"""``progressbar-tracker demo``: a server with a temporary database, and real jobs as examples.

The jobs read the files of Python's standard library. They hash files (nested bars), compress them (bytes) and find
files (unknown total). One checks a backup with a missing file and fails half-way. One searches for a word and stops at
the first match.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import shutil
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
CHUNK_BYTES: Final = 64 * 1024
MAX_INPUT_BYTES: Final = 16_000_000  # to compress: about ten seconds on a slow core
HASH_ROUNDS: Final = 40_000  # slow enough to watch
HASHED_PACKAGES: Final = ("asyncio", "email", "encodings", "http", "importlib", "json", "logging", "unittest", "xml")


def run_demo(*, once: bool, port: int, print_line: Callable[[str], None]) -> None:
    """Run the demo.

    Args:
        once: Return after the jobs, instead of waiting for Ctrl-C.
        port: The server's port; 0 selects a free one.
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
        print_line(f"The work is done: three jobs succeeded, one stopped early, one failed: {failure}")
        if not once:
            print_line("The server stays until Ctrl-C. A fresh sign-in link: " + server.create_sign_in_url())
            while True:
                time.sleep(1.0)  # short sleeps: a Ctrl-C just before an endless wait would be lost


def run_jobs(pb: ProgressBar, folder: Path) -> str:
    """Run all jobs. The compression runs in a thread, so that several bars move at once.

    Returns:
        The reason why the check of the backup failed.
    """
    library = Path(sysconfig.get_path("stdlib"))
    compression = threading.Thread(target=compress_files, args=(pb, library), daemon=True)
    compression.start()
    hash_packages(pb, library)
    names = find_files(pb, library)
    failure = "it did not"
    try:
        check_backup(pb, library, folder)
    except OSError as error:
        failure = f"{type(error).__name__} on {Path(str(error.filename)).name}"
    search_files(pb, names)
    compression.join()
    return failure


def hash_packages(pb: ProgressBar, library: Path) -> str:
    """Hash packages, with a bar for the packages and a nested bar for the files of each."""
    total = hashlib.sha256()
    folders = [library / name for name in HASHED_PACKAGES if (library / name).is_dir()]
    for package in pb.track(folders, id="hash", title="Hash packages", unit="packages", group=ITEM_GROUP, weight=30):
        for path in pb.track(
            sorted(iter_modules(package)), title=f"Hash {package.name}", unit="files", group=ITEM_GROUP
        ):
            total.update(hashlib.pbkdf2_hmac("sha256", path.read_bytes(), b"demo", HASH_ROUNDS))
    return total.hexdigest()


def iter_modules(library: Path) -> Iterator[Path]:
    """Yield the modules of the standard library, without site-packages and Debian's links to absent files."""
    for path in library.rglob("*.py"):
        if "site-packages" not in path.parts and path.is_file():
            yield path


def compress_files(pb: ProgressBar, library: Path) -> int:
    """Compress files and count bytes, with explicit calls of ``advance()``."""
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
    """Find all files; their number is unknown until the end."""

    def checksum_files() -> Iterator[Path]:
        for path in iter_modules(library):
            zlib.crc32(path.read_bytes())
            yield path

    return list(pb.track(checksum_files(), id="find", title="Find and checksum files", unit="files", group=ITEM_GROUP))


def check_backup(pb: ProgressBar, library: Path, folder: Path) -> None:
    """Read a backup. A missing file in the middle raises and fails the item."""
    backup = folder / "backup"
    backup.mkdir()
    sources = sorted(path for path in library.glob("*.py") if path.is_file())[:60]
    copies = [backup / path.name for path in sources]
    for number, (path, copy) in enumerate(zip(sources, copies, strict=True)):
        if number != len(sources) // 2:
            shutil.copyfile(path, copy)  # links need a privilege on Windows
    with pb.track(copies, id="backup", title="Check the backup", unit="files", group=ITEM_GROUP) as bar:
        for path in bar:
            hashlib.pbkdf2_hmac("sha256", path.read_bytes(), b"demo", 60_000)


def search_files(pb: ProgressBar, paths: list[Path]) -> Path | None:
    """Search until the first match. The early end of the loop is not a failure."""
    for path in pb.track(paths, id="search", title="Search for a word", unit="files", group=ITEM_GROUP, keep=True):
        time.sleep(0.002)  # simulates a slow disk
        if b"zipimporter" in path.read_bytes():
            return path
    return None
