r"""Parses the progress that one stream of a program shows: bytes in, readings out.

Pure. Three tools need more than a frame to be understood: ffmpeg prints its total once, rsync has percentages of single
files and of the job in the same form, and image layers are downloaded at the same time.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .output_general import read_frame
from .output_lines import Frame, FrameReader
from .output_readings import Reading, make_reading, parse_clock, parse_size

MAX_LAYERS: Final = 1000

_FFMPEG_DURATION: Final = re.compile(r"^ *Duration: (\d+:\d\d:\d\d(?:\.\d+)?),")
_FFMPEG_TIME: Final = re.compile(r"\b(?:out_)?time=(\d+:\d\d:\d\d(?:\.\d+)?)(?=[^\d.])")
_RSYNC_LINE: Final = re.compile(
    r"^ +[\d,.]+[KMGT]? +(?P<percent>\d{1,3})% +[\d.,]+[kMGT]?B/s +\d+:\d\d:\d\d"
    r"(?: +\(xfr#\d+, (?P<kind>to|ir)-che?c?k=(?P<left>\d+)/(?P<total>\d+)\))?"
)
_LAYER_LINE: Final = re.compile(
    r"^ ?(?P<id>[0-9a-f]{12}):? "
    r"(?P<state>Pulling fs layer|Waiting|Downloading|Verifying Checksum|Download complete|Extracting|Pull complete"
    r"|Already exists)"
    r"(?: +\[[=> ]*\] +(?P<done>[\d.]+)(?P<d>[kMG]?B)/(?P<total>[\d.]+)(?P<t>[kMG]?B))?"
)
_BLOB_LINE: Final = re.compile(
    r"^Copying blob (?:sha256:)?(?P<id>[0-9a-f]{8,12})\w* .*?"
    r"(?:(?P<state>done|skipped)|(?P<done>[\d.]+)(?P<d>[KMG]?i?B) / (?P<total>[\d.]+)(?P<t>[KMG]?i?B))"
)
_LAYER_SHARES: Final = {
    "Verifying Checksum": 0.5,
    "Download complete": 0.5,
    "Pull complete": 1.0,
    "Already exists": 1.0,
    "done": 1.0,
    "skipped": 1.0,
}


class ParsedFrame(NamedTuple):
    """A reading and how it was shown."""

    reading: Reading
    is_redrawn: bool


class Parser:
    r"""Parses one stream.

    Example:
        >>> parser = Parser()
        >>> parser.feed(b"Receiving objects:  4")
        []
        >>> [frame.reading.completed for frame in parser.feed(b"5% (9/20)\rReceiving")]
        [9]
    """

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._readers = (_MediaReader(), _RsyncReader(), _LayerReader())

    def feed(self, data: bytes) -> list[ParsedFrame]:
        """Return the readings of the frames that the next chunk completes."""
        return self._read_all(self._frames.feed(data))

    def finish(self) -> list[ParsedFrame]:
        """Return the reading of the last frame, at the end of the stream."""
        return self._read_all(self._frames.finish())

    def read_visible(self) -> Reading | None:
        """Return what the unfinished line shows. It may change with the next bytes."""
        text = self._frames.visible_text
        return read_frame(text) if text else None

    def _read_all(self, frames: list[Frame]) -> list[ParsedFrame]:
        found = []
        for frame in frames:
            reading = self._read(frame)
            if reading is not None:
                found.append(ParsedFrame(reading, frame.is_redrawn))
        return found

    def _read(self, frame: Frame) -> Reading | None:
        for reader in self._readers:
            if reader.observe(frame):
                return reader.reading
        return read_frame(frame.text + "\n")


class _MediaReader:
    """Reads ffmpeg's time, of the longest input."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._is_active = False
        self._total: float | None = None

    def observe(self, frame: Frame) -> bool:
        """Return whether the frame is from ffmpeg, and set its reading."""
        text = frame.text
        self.reading = None
        if text.startswith("ffmpeg version "):
            self._is_active, self._total = True, None
        elif "Duration: " in text and (duration := _FFMPEG_DURATION.search(text)):
            self._is_active, self._total = True, max(self._total or 0.0, parse_clock(duration[1]))
        elif "time=" in text and (time := _FFMPEG_TIME.search(text + "\n")):
            seconds = parse_clock(time[1])
            self.reading = make_reading(
                "ffmpeg", min(seconds, self._total or seconds), self._total or None, "s", label=str(self._total)
            )
            return True
        return self._is_active


class _RsyncReader:
    """Reads rsync's percentage of the job, or the number of checked files if the percentages are of single files."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._counts_files: bool | None = None  # None: not known yet
        self._last_line = ""

    def observe(self, frame: Frame) -> bool:
        """Return whether the frame is from rsync, and set its reading."""
        self.reading = None
        match = _RSYNC_LINE.search(frame.text)
        if match is None:
            if not frame.is_redrawn and frame.text.strip():
                self._last_line = frame.text
            return False
        percent = int(match["percent"])
        if self._counts_files is None:
            is_after_name = bool(self._last_line) and not self._last_line.endswith("incremental file list")
            if match["kind"] is None and is_after_name:
                return True  # perhaps of a single file
            self._counts_files = is_after_name or (percent == 100 and match["left"] not in (None, "0"))
        if not self._counts_files:
            self.reading = make_reading("rsync", percent, 100, "%", label="percent")
        elif match["kind"] == "to":
            left, total = int(match["left"]), int(match["total"])
            self.reading = make_reading("rsync", total - left, total, "files", label="files")
        return True


class _LayerReader:
    """Reads the share of image layers that are downloaded and extracted."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._shares: dict[str, float] = {}

    def observe(self, frame: Frame) -> bool:
        """Return whether the frame is the state of a layer, and set the reading of all layers."""
        self.reading = None
        match = _LAYER_LINE.search(frame.text) or _BLOB_LINE.search(frame.text)
        if match is None or len(self._shares) >= MAX_LAYERS:
            return match is not None
        name, state = match["id"], match["state"]
        share = _LAYER_SHARES.get(state or "", 0.0)
        if match["done"] is not None:
            total = parse_size(match["total"], match["t"])
            share = min(parse_size(match["done"], match["d"]) / total, 1.0) if total else 0.0
            if state is not None:  # of a download, then of an extraction
                share = share / 2 + (0.5 if state == "Extracting" else 0.0)
        is_known = name in self._shares
        self._shares[name] = max(self._shares.get(name, 0.0), share)
        if is_known:  # all layers are announced first
            done = round(sum(self._shares.values()), 2)
            self.reading = make_reading("layers", done, len(self._shares), "layers")
        return True
