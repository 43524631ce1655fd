"""The patterns of ids, by which former runs of a job are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items.patterns import find_pattern

SAMPLE_UUID = "550e8400-e29b-41d4-a716-446655440000"
SAMPLE_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("item_id", "pattern"),
    [
        # dates and times
        ("nightly-2026-11-28", "nightly-*"),
        ("nightly-2026-11-28T03:00:00Z", "nightly-*"),
        ("nightly-2026-11-28T03:00:00.125+01:00", "nightly-*"),
        ("nightly-2026-11-28 03:00", "nightly-*"),
        ("nightly-2026-11-28-1200", "nightly-*"),
        ("nightly-2026-11-28-7", "nightly-*-7"),
        ("nightly_20261128", "nightly_*"),
        ("nightly_20261128T030000", "nightly_*"),
        ("nightly_20261128-030000", "nightly_*"),
        ("nightly-20261128T0300Z-eu", "nightly-*-eu"),
        ("report-2026-11", "report-*"),
        ("report-2026-W48", "report-*"),
        ("report-Q4-2026", "report-*"),
        ("28-11-2026/etl", "*/etl"),
        ("etl 28.11.2026 03:15", "etl *"),
        ("backup-28nov2026", "backup-*"),
        ("backup-Nov-28-2026", "backup-*"),
        ("logs/2026/11/28", "logs/*"),
        ("backup at 12:30", "backup at *"),
        ("s3://bucket/2026-11-28/part-00007.parquet", "s3://bucket/*/part-*.parquet"),
        # other scripts
        ("训练-2026-11-28", "训练-*"),
        ("备份2026年11月28日", "备份*"),
        ("резерв-\u0662\u0660\u0662\u0666-\u0661\u0661-\u0662\u0668", "резерв-*"),
        ("ünï/2026-11-28/ß", "ünï/*/ß"),
        # generated ids
        ("program-3fa9c2d1-7", "program-*-7"),
        ("train.py-deadbeef-12", "train.py-*-12"),
        ("train-12345678-1", "train-*-1"),
        ("train-cafe2024-1", "train-*-1"),
        # random tokens
        (f"import-{SAMPLE_UUID}", "import-*"),
        (f"import-{SAMPLE_UUID.upper()}", "import-*"),
        ("build-a1b2c3d", "build-*"),
        (f"build-{SAMPLE_DIGEST}", "build-*"),
        (f"sha256:{SAMPLE_DIGEST}", "sha256:*"),
        ("upload-01HZX3KQ7V8YB2M4N6P8R0S2T4", "upload-*"),
        ("wandb-3k9d7x2a", "wandb-*"),
        ("web-7d4b9c6f5-x2x9z", "web-*"),
        ("run/tmp_3xk29ab/x", "run/*/x"),
        ("x-2026-11-28-3fa9c2d1-99999", "x-*"),
        # long numbers
        ("job-123456", "job-*"),
        ("job-12345.678", "job-*"),
        ("slurm-4711001.batch", "slurm-*.batch"),
        ("part-00007", "part-*"),
    ],
)
def test_token_is_replaced_by_placeholder(item_id: str, pattern: str) -> None:
    assert find_pattern(item_id) == pattern


@pytest.mark.parametrize(
    "item_id",
    [
        # short numbers
        "fold-1", "fold-2", "job-1234", "worker-4711", "part-007", "v1.2.3", "host-10.0.0.1", "epoch 3/100",
        "imagenet-2012", "port:8080", "fold-1/resnet50", "resize-1024x1024", "100k-images", "1080p60fps",
        # names with numbers
        "resnet50", "ResNet50V2", "wav2vec2", "efficientnetv2b0", "qwen2p5coder7b", "face2face", "h264to265",
        "llama3p1b8instruct2q4km", "mixtral8x7b",
        # only a token
        "2026-11-28", "123456789", "3fa9c2d1", SAMPLE_UUID, SAMPLE_DIGEST, "tmpab12cd34", "7-2026-11-28",
        "20261128-030000",
        # no token
        "train", "a/b/c", "训练", "a-*-b", "**", "*", ".", "..", "decade", "deadbeef",
    ],
)  # fmt: skip
def test_id_without_token_is_its_own_pattern(item_id: str) -> None:
    assert find_pattern(item_id) == item_id


ids = st.one_of(
    st.text(min_size=1, max_size=200),
    st.text(st.sampled_from("0123456789abcdefTZWQ-_./: *年月日²"), min_size=1, max_size=200),
    st.lists(
        st.sampled_from([*"-/_7*\u0663", "2026-11-28", "T03:00", SAMPLE_UUID, "3fa9c2d1", "night", "99999", "tmp"]),
        min_size=1,
        max_size=5,
    ).map("".join),
)


@given(ids)
def test_pattern_of_a_pattern_is_itself(item_id: str) -> None:
    assert find_pattern(find_pattern(item_id)) == find_pattern(item_id)


@given(ids)
def test_pattern_is_at_most_as_long_as_the_id(item_id: str) -> None:
    assert 0 < len(find_pattern(item_id)) <= len(item_id)


@given(st.dates(), st.dates())
def test_dates_of_one_job_have_one_pattern(first: object, second: object) -> None:
    assert find_pattern(f"nightly-{first}") == find_pattern(f"nightly-{second}") == "nightly-*"


@given(st.binary(min_size=4, max_size=4), st.integers(1, 9999))
def test_each_generated_id_keeps_its_bar_number(token: bytes, number: int) -> None:
    assert find_pattern(f"program-{token.hex()}-{number}") == f"program-*-{number}"
