"""The forms in which programs show progress: one table, for the parser, ``exec --help`` and the handbook.

A form turns a frame into a reading; it does not decide whether the reading is progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .output_readers import (
    byte_reader,
    count_reader,
    percent_reader,
    phase_reader,
    read_apt,
    read_buildkit,
    read_catboost,
    read_git,
    read_imagemagick,
    read_levels,
    read_maven,
    read_npm,
    read_pacman,
    read_parallel,
    read_shred,
    read_spark,
    read_step,
    read_tqdm,
    record_reader,
    size_reader,
)
from .output_readings import (
    FRONT_PATTERN,
    NUMBER_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    Reading,
    make_reading,
    parse_number,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_STEP_WORDS: Final = "epoch|step|stage|phase|pass|part|round|iteration|fold|trial|item|task|chunk|episode|layer"


class Form(NamedTuple):
    """A form of progress.

    Attributes:
        name: The name.
        tools: Names of programs that print it, for the help and the handbook.
        counts: The count of the bar, for the handbook.
        example: A frame, or a part of it.
        hint: A part that each frame of the form has.
        pattern: The pattern that is searched in a frame; not compiled here, because the help needs the names alone.
        read: Turns a match into a reading.
    """

    name: str
    tools: str
    counts: str
    example: str
    hint: str
    pattern: str
    read: Callable[[re.Match[str]], Reading | None]


KNOWN_FORMS: Final = (
    Form(
        "git",
        "git",
        "objects or files, phase after phase",
        "Receiving objects:  45% (9/20)",
        "% (",
        r"^(?:remote: )?(?P<title>[A-Z][a-z]+(?: [a-z-]+)+): +\d+% \((?P<done>\d+)/(?P<total>\d+)\)",
        read_git,
    ),
    Form(
        "levels",
        "training loops",
        "epochs, with the share of the current one",
        "Epoch [1/10], Step [100/600]",
        "/",
        r"(?i)\b(?P<word>epoch):? *\[?(?P<done>\d+) ?/ ?(?P<total>\d+)(?=[\]) ,:])",
        read_levels,
    ),
    Form(
        "tqdm",
        "tqdm",
        "iterations",
        " 37%|###7      | 45/120 [00:05<00:08,  8.50it/s]",
        " [",
        rf"{FRONT_PATTERN}(?P<done>\d+(?:\.\d+)?)(?P<d>[kMGT]?i?B?)/"
        r"(?P<total>\d+(?:\.\d+)?)(?P<t>[kMGT]?i?B?) \[[\d?:]+<",
        read_tqdm,
    ),
    Form(
        "spark",
        "Spark",
        "tasks of a stage",
        "[Stage 3:=====>      (12 + 2) / 45]",
        "[Stage ",
        r"\[Stage \d+:[^(\]]*\(\d+ \+ \d+\) / \d+\]",
        read_spark,
    ),
    Form(
        "curl",
        "curl",
        "percent, from its table or `-#`",
        " 45 33.2M   45 15.0M    0     0  10.1M      0  0:00:03",
        " ",
        r"^ *(?P<percent>\d{1,3}) +[\d.]+[kMGTP]?(?: +\d{1,3} +[\d.]+[kMGTP]?){2} +[\d.]+[kMGTP]? +",
        percent_reader("curl"),
    ),
    Form(
        "curl-bar",
        "curl -#",
        "percent",
        "##############              45.3%",
        "#",
        rf"^#+ +{PERCENT_PATTERN}%$",
        percent_reader("curl-bar"),
    ),
    Form(
        "wget",
        "wget",
        "percent",
        "  1200K .......... .......... 45% 12.3M 5s",
        "%",
        rf"^ *\d+[KMG]? [. ,]+ {PERCENT_PATTERN}% |^\S+ +{PERCENT_PATTERN.replace('percent', 'bar')}%\[[=>+ ]*\]",
        lambda match: make_reading("wget", parse_number(match["percent"] or match["bar"]), 100, "%"),
    ),
    Form(
        "aria2",
        "aria2",
        "bytes of all downloads",
        "[#2089b0 400.0KiB/33.2MiB(1%) CN:1 DL:115.7KiB]",
        "[#",
        r"\[#[0-9a-f]+ .*",
        size_reader("aria2"),
    ),
    Form(
        "fio",
        "fio",
        "percent",
        "Jobs: 1 (f=1): [W(1)][45.0%][w=12.0MiB/s][eta 00m:05s]",
        "Jobs: ",
        rf"^Jobs: \d+ \(f=\d+\).*\[{PERCENT_PATTERN}%\]",
        percent_reader("fio"),
    ),
    Form(
        "restic",
        "restic",
        "percent",
        "[0:05] 45.00%  12 / 45 files, 1.2 GiB",
        "[",
        rf"^\[(?:\d+:)+\d\d\] +{PERCENT_PATTERN}% ",
        percent_reader("restic"),
    ),
    Form(
        "rclone",
        "rclone",
        "bytes",
        "Transferred:   	    1.2 GiB / 4.5 GiB, 27%, 12 MiB/s",
        "B / ",
        rf"(?:^Transferred:|INFO +:)\s+(?:{NUMBER_PATTERN}) ?{SIZE_PATTERN} / "
        rf"(?:{NUMBER_PATTERN}) ?{SIZE_PATTERN}(?=, \d+%)",
        size_reader("rclone"),
    ),
    Form(
        "xz",
        "xz",
        "percent",
        " 45.3 %     12.3 MiB / 45.6 MiB = 0.270",
        " % ",
        rf"^ *{PERCENT_PATTERN} % +[\d.,]+ \w+ / ",
        percent_reader("xz"),
    ),
    Form(
        "zstd",
        "zstd",
        "bytes read",
        "Read:  12.0 MiB /  45.6 MiB ==> 33%",
        "==>",
        rf"\bRead ?: *(?:{NUMBER_PATTERN}) *{SIZE_PATTERN} ?/ *(?:{NUMBER_PATTERN}) *{SIZE_PATTERN}(?= +==>)",
        size_reader("zstd"),
    ),
    Form(
        "ddrescue",
        "ddrescue",
        "percent",
        "pct rescued:   45.00%, read errors:        0",
        "pct",
        rf"^ *pct rescued: +{PERCENT_PATTERN}%",
        percent_reader("ddrescue"),
    ),
    Form(
        "sox",
        "SoX",
        "percent",
        "In:45.3% 00:01:02.03 [00:02:30.00]",
        "In:",
        rf"^In:{PERCENT_PATTERN}%",
        percent_reader("sox"),
    ),
    Form(
        "dd",
        "dd status=progress",
        "bytes, without a total",
        "123456 bytes (123 kB, 121 KiB) copied, 1 s",
        "copied",
        r"^(?P<done>\d+)(?P<unit>) bytes (?:\([^)]*\) )?copied, ",
        byte_reader("dd"),
    ),
    Form(
        "borg",
        "borg create",
        "bytes read, without a total",
        "1.20 GB O 1.10 GB C 900.00 MB D 123 N path",
        " O ",
        r"^(?P<done>[\d.]+) (?P<unit>[kMGT]?B) O [\d.]+ [kMGT]?B C ",
        byte_reader("borg"),
    ),
    Form(
        "mke2fs",
        "mke2fs",
        "groups or blocks, phase after phase",
        "Writing inode tables:  12/64",
        ": ",
        r"^(?P<title>(?:Discarding device|Allocating group|Writing inode|Writing superblocks|Creating)[a-z ]*): +"
        r"(?P<done>\d+)/(?P<total>\d+)(?=\s*$)",
        phase_reader("mke2fs"),
    ),
    Form(
        "badblocks",
        "badblocks",
        "percent, phase after phase",
        "Checking for bad blocks (read-only test):  12.34% done, 0:05 elapsed.",
        "elapsed",
        rf"^(?P<title>[A-Z][\w ()-]+): +{PERCENT_PATTERN}% done, \S+ elapsed",
        percent_reader("badblocks", has_title=True),
    ),
    Form(
        "pv",
        "pv",
        "percent, or bytes without a total",
        "1.20GiB 0:00:05 [ 245MiB/s] [====>     ] 45% ETA 0:00:06",
        "%",
        rf"\d+:\d\d:\d\d (?:\[[^\]]*\] )?\[[=> -]*\] +{PERCENT_PATTERN}%",
        percent_reader("pv"),
    ),
    Form(
        "pv-bytes",
        "",
        "",
        "1.20GiB 0:00:05 [ 245MiB/s] [   <=>     ]",
        "/s]",
        r"^ *(?P<done>[\d.]+) ?(?P<unit>[KMGT]?i?B) \d+:\d\d:\d\d \[[^\]]*/s\](?: \[ *<=> *\])?\s*$",
        byte_reader("pv-bytes"),
    ),
    Form(
        "tar",
        "tar --checkpoint",
        "records, without a total",
        "tar: Write checkpoint 1000",
        "checkpoint",
        r"^\S*tar: (?:Write|Read|Extract) checkpoint (?P<done>\d+)",
        record_reader("tar", "records"),
    ),
    Form(
        "gdal",
        "GDAL",
        "percent, in tens",
        "0...10...20",
        "...",
        r"(?:^|[^\d.])0(?:\.{3}\d+)*\.{3}(?P<percent>\d{1,3})(?: - done\.?)?\s*$",
        percent_reader("gdal"),
    ),
    Form(
        "catboost",
        "CatBoost",
        "percent of the time",
        "9:	learn: 0.52	total: 58ms	remaining: 523ms",
        "remaining:",
        r"\ttotal: (?P<spent>[\w. ]+)\tremaining: (?P<left>[\w. ]+)",
        read_catboost,
    ),
    Form(
        "joblib",
        "joblib",
        "tasks",
        "[Parallel(n_jobs=2)]: Done  12 out of  45 | elapsed:    0.3s",
        "Parallel",
        r"\[Parallel\(.*\)\]: Done +(?P<done>\d+) out of +(?P<total>\d+) \|",
        count_reader("joblib", "tasks"),
    ),
    Form(
        "shred",
        "shred",
        "passes, with the share of the current one",
        "shred: file: pass 1/3 (random)...12MiB/45MiB 26%",
        "shred",
        r"^shred: .*: pass (?P<done>\d+)/(?P<total>\d+) \([^)]*\)\.\.\.(?:\S+/\S+ (?P<percent>\d+)%)?",
        read_shred,
    ),
    Form(
        "buildkit",
        "docker build",
        "steps",
        "#12 [builder 3/8] RUN make",
        "/",
        r"^(?:#\d+| ?=>(?: => )?) \[(?:(?P<stage>[\w.-]+) +)?(?P<done>\d+)/(?P<total>\d+)\] ",
        read_buildkit,
    ),
    Form(
        "parallel",
        "GNU parallel --eta",
        "jobs",
        "ETA: 5s Left: 11 AVG: 0.50s  local:2/9/100%/0.5s",
        "Left",
        r"^ETA: \S+ Left: (?P<left>\d+) AVG: ",
        read_parallel,
    ),
    Form(
        "imagemagick",
        "ImageMagick -monitor",
        "rows, phase after phase",
        "resize image[a.png]: 45 of 120, 037% complete",
        "complete",
        r"^(?P<title>[\w/ ]+)\[(?P<file>[^\]]*)\]: (?P<done>\d+) of (?P<total>\d+), \d+% complete",
        read_imagemagick,
    ),
    Form(
        "apt",
        "apt",
        "percent, of the downloads and of the installation",
        " 45% [3 libfoo 12.3 kB/45.6 kB 27%]",
        "%",
        rf"^ *{PERCENT_PATTERN}% \[|^Progress: \[ *(?P<bar>\d+)%\]",
        read_apt,
    ),
    Form(
        "iso",
        "xorriso, genisoimage",
        "percent",
        "xorriso : UPDATE :  15.59% done",
        "% done",
        rf"^(?:xorriso : UPDATE :)? +{PERCENT_PATTERN}% done(?:$|\n|, estimate finish)",
        percent_reader("iso"),
    ),
    Form(
        "aws",
        "aws s3",
        "bytes",
        "Completed 12.3 MiB/45.6 MiB (11.3 MiB/s) with 2 file(s) remaining",
        "Completed ",
        rf"^Completed (?:{NUMBER_PATTERN}) {SIZE_PATTERN}/(?:{NUMBER_PATTERN}) {SIZE_PATTERN}(?= \()",
        size_reader("aws"),
    ),
    Form(
        "gsutil",
        "gsutil",
        "bytes",
        "[0/1 files][ 12.3 MiB/ 45.6 MiB]  27% Done",
        " files][",
        rf"\[ *(?:{NUMBER_PATTERN}) {SIZE_PATTERN}/ *(?:{NUMBER_PATTERN}) {SIZE_PATTERN}\]",
        size_reader("gsutil"),
    ),
    Form(
        "snakemake",
        "Snakemake",
        "steps",
        "3 of 12 steps (25%) done",
        " steps (",
        r"^(?P<done>\d+) of (?P<total>\d+) steps \(\d+%\) done",
        count_reader("snakemake", "steps"),
    ),
    Form(
        "pacman",
        "pacman",
        "packages, phase after phase",
        "( 3/12) installing libfoo              [######------]  45%",
        "%",
        r"^\( *(?P<done>\d+)/(?P<total>\d+)\) (?P<verb>[a-z]+) .*\[[#-]*\] +(?P<percent>\d+)%",
        read_pacman,
    ),
    Form(
        "maven",
        "Maven",
        "modules",
        "[INFO] Building core 1.0                          [2/5]",
        "[INFO] Building",
        r"^\[INFO\] Building .* \[(?P<done>\d+)/(?P<total>\d+)\]\s*$",
        read_maven,
    ),
    Form(
        "nmap",
        "nmap --stats-every",
        "percent, phase after phase",
        "SYN Stealth Scan Timing: About 45.00% done; ETC: 09:14 (0:00:12 remaining)",
        "Timing: About",
        rf"^(?P<title>[\w ]+) Timing: About {PERCENT_PATTERN}% done",
        percent_reader("nmap", has_title=True),
    ),
    Form(
        "npm",
        "npm 7 to 9",
        "percent, from its bar",
        "(#########⠂⠂⠂⠂⠂⠂⠂⠂⠂) ⠼ reify:lodash: http fetch GET 200",
        "⠂",
        r"^\((?P<done>#*)(?P<rest>⠂+)\) ",
        read_npm,
    ),
    Form(
        "yt-dlp",
        "yt-dlp",
        "percent",
        "[download]  45.0% of   12.00MiB at    3.00MiB/s ETA 00:05",
        "[download]",
        rf"^\[download\] +{PERCENT_PATTERN}% of ",
        percent_reader("yt-dlp"),
    ),
    Form(
        "step",
        "",
        "",
        "Step 3/12 : RUN make",
        "",
        rf"(?i)(?:^|[\s\[(>-])(?P<word>{_STEP_WORDS}):? *\[?#?(?P<done>\d+) ?(?:/|of) ?(?P<total>\d+)(?=[\])\s,;:.]|$)",
        read_step,
    ),
)
"""The forms that belong to a program, most specific first."""

OTHER_TOOLS: Final = (
    ("ffmpeg", "seconds of the longest input, or seconds without a total", "time=00:00:12.34 bitrate="),
    ("rsync", "percent, or files if the percentages are of single files", "1,234,567  45%  12.34MB/s    0:00:05"),
    ("docker pull, podman pull", "layers, with the shares of unfinished ones", "a1b2c3d4e5f6: Pull complete"),
    ("7-Zip", "percent", "45% 3 + a.txt"),
    ("CMake, axel, pytest", "percent", "[ 45%]"),
    ("cargo, CTest, kubectl rollout, ninja, Yarn 1", "steps", "[12/345]"),
    ("e2fsck, Gradle, scp", "percent", "a.bin  45%   12MB"),
    ("Keras", "epochs, with the share of the current one", "Epoch 3/12"),
    ("rich", "percent, counts or sizes", "Working... ━━━━ 45% 0:00:12"),
)
"""Programs whose frames need the frames before them, which the parser itself reads, or have a general form."""


def list_known_tools() -> list[tuple[str, str, str]]:
    """Return the known programs, what the bar counts for them, and an example, in the order of their names."""
    tools = [(form.tools, form.counts, form.example) for form in KNOWN_FORMS if form.tools]
    return sorted([*tools, *OTHER_TOOLS], key=lambda tool: tool[0].lower())
