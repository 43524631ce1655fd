"""The last lines of a program's output: what is kept, what is masked, and that no chunk boundary shows a secret."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._masking import SecretMasker, compile_patterns, find_secret_values
from progressbar_tracker._models import MAX_TAIL_BYTES, MAX_TAIL_LINES
from progressbar_tracker._output_tail import (
    MAX_LINE_LENGTH,
    MAX_PENDING_BYTES,
    OutputTail,
    clean_line,
    clean_tail,
)
from progressbar_tracker._programs.output_lines import find_last_line

MY_SECRET = "Zk9hunter2Qw7xPl3"

LEAKING_LINES = [
    f"pbt_w_abcdefgh_{MY_SECRET}", f"password={MY_SECRET}", f"PGPASSWORD: '{MY_SECRET}'",
    f'{{"api_key": "{MY_SECRET}"}}', f"Authorization: Digest {MY_SECRET} more", f"x-api-key: {MY_SECRET}",
    f"Cookie: a={MY_SECRET}; b={MY_SECRET}", f"sent Bearer {MY_SECRET}.", f"https://ci:{MY_SECRET}@example.org/x",
    f"postgresql://ci:a@{MY_SECRET}@db/x", f"curl https://example.org/?access_token={MY_SECRET}&x=1",
    f"login --db-password {MY_SECRET} --verbose", f"ghp_{MY_SECRET}", f"xoxb-{MY_SECRET}",
    f"eyJhbGciOiJIUzI1.{MY_SECRET}.{MY_SECRET}", f"client_secret => {MY_SECRET}", f'"password": "a\\"{MY_SECRET}"',
    f"AWS_SECRET_ACCESS_KEY={MY_SECRET}", f"https://host/ping/{MY_SECRET}/backup",
    f"-----BEGIN RSA PRIVATE KEY-----\n{MY_SECRET}\n{MY_SECRET}\n-----END RSA PRIVATE KEY-----",
    f"\x1b[1mpass\x1b[0mword\x1b[0m=\x1b[31m{MY_SECRET}\x1b[0m", f"pass\bsword={MY_SECRET}",
    f"pass\u00adword={MY_SECRET}",
]  # fmt: skip
"""Lines that show a secret by each of the patterns."""


def feed(tail: OutputTail, *chunks: bytes) -> str:
    writer = tail.make_writer()
    for chunk in chunks:
        writer(chunk)
    return tail.read()


def split(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("line", LEAKING_LINES)
def test_known_forms_are_masked(line: str) -> None:
    shown = clean_tail(f"before\n{line}\nafter\n")
    assert MY_SECRET not in shown
    assert "***" in shown
    assert (shown.split("\n")[0], shown.split("\n")[-1]) == ("before", "after")


@pytest.mark.parametrize("line", [
    "epoch 3/10: 45 tokens/s, tokens: 512", "Tokenizer: bpe", "the password is wrong", "author: someone",
    "https://example.org/a@b", "bearer of news", "secretary: Ann", "C:\\passwords\\x", "basic tests",
])  # fmt: skip
def test_ordinary_lines_stay(line: str) -> None:
    assert clean_tail(line) == line


@given(st.sampled_from(LEAKING_LINES), st.lists(st.integers(0, 10_000)), st.booleans())
def test_no_chunk_boundary_shows_a_secret(line: str, places: list[int], has_end: bool) -> None:
    data = f"before\n{line}{chr(10) if has_end else ''}".encode()
    tail = OutputTail()
    writer = tail.make_writer()
    for chunk in split(data, places):
        writer(chunk)
        assert MY_SECRET not in tail.read()
    tail.finish()
    assert MY_SECRET not in tail.read()


output_texts = st.text(st.sampled_from("ab1é€😀 \t\r\n\b\x1b[A;m0K\x07\u202e\ufeff"), max_size=200)


@given(output_texts, st.lists(st.integers(0, 10_000)))
def test_chunks_of_any_size_give_the_same_tail(text: str, places: list[int]) -> None:
    data = text.encode()
    whole, parts = OutputTail(), OutputTail()
    feed(whole, data)
    writer = parts.make_writer()
    for chunk in split(data, places):
        if chunk:
            writer(chunk)
            parts.read()
    for tail in (whole, parts):
        tail.finish()
    assert parts.read() == whole.read()


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 5))
def test_any_bytes_give_few_printable_lines(chunks: list[bytes], max_lines: int) -> None:
    tail = OutputTail(max_lines=max_lines)
    shown = feed(tail, *chunks)
    assert shown.count("\n") < max_lines
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"]


@given(st.text(max_size=400))
def test_a_cleaned_tail_stays_unchanged(text: str) -> None:
    once = clean_tail(text)
    assert clean_tail(once) == once


@given(st.lists(st.text(st.sampled_from("aé€😀"), min_size=1, max_size=3000), min_size=1, max_size=40))
def test_the_tail_has_at_most_64_kib(lines: list[str]) -> None:
    shown = clean_tail("\n".join(lines * 5))
    assert len(shown.encode()) <= MAX_TAIL_BYTES
    assert max(map(len, shown.split("\n"))) <= MAX_LINE_LENGTH
    assert shown.split("\n")[-1][:1000] == lines[-1][:1000]


@pytest.mark.parametrize(("text", "expected"), [
    ("10 %\r20 %\r30 %", "30 %"), ("a\r\nb\r\n", "a\nb"), ("a\n\nb\n\n", "a\n\nb"), ("abc\rd\n", "d"),
    ("\r o 1\n\r i 1\x1b[A\r o 2\n\r i 2\x1b[A\n\ndone\n", " o 2\n i 2\ndone"), ("", ""),
    ("\x1b]0;title\x07x\n", "x"), ("a\tb", "a\tb"),
])  # fmt: skip
def test_lines_show_their_last_state(text: str, expected: str) -> None:
    assert clean_tail(text) == expected


def test_an_open_line_is_not_shown_before_it_ends() -> None:
    tail = OutputTail()
    writer = tail.make_writer()
    writer(b"one\ntwo https://ci:hunter2")
    assert tail.read() == "one"
    writer(b"@host\n")
    assert tail.read() == "one\ntwo https://***@host"


def test_two_streams_keep_their_lines_apart() -> None:
    tail = OutputTail()
    out, err = tail.make_writer(), tail.make_writer()
    out(b"pass")
    err(b"error\n")
    out(b"word=hunter2\n")
    assert tail.read() == "error\npassword=***"


def test_a_flood_loses_its_start_but_no_half_line() -> None:
    tail = OutputTail()
    shown = feed(tail, b"password=", *[b"hunter2hunter2--"] * (MAX_PENDING_BYTES // 16 + 1), b"\n", b"last\n")
    assert "hunter2" not in shown
    assert shown.endswith("last")


def test_a_flood_within_a_private_key_stays_masked() -> None:
    tail = OutputTail(max_lines=5)
    body = b"hunter2\n" * (MAX_PENDING_BYTES // 8)
    assert "hunter2" not in feed(tail, b"-----BEGIN PRIVATE KEY-----\n", body, b"hunter2\n")


def test_an_endless_line_takes_no_memory() -> None:
    tail = OutputTail()
    writer = tail.make_writer()
    for _ in range(64):
        writer(b"x" * 65536)
        tail.read()
    writer(b"\nend\n")
    assert tail.read().split("\n")[-1] == "end"
    assert len(tail.read()) < 3000


def test_patterns_and_values_of_the_user_are_masked() -> None:
    tail = OutputTail(make_masker=lambda: SecretMasker(compile_patterns([r"\d{4}-\d{4}"]), ["correct horse", "abc"]))
    assert feed(tail, b"card 1234-5678, correct horse, abc\n") == "card ***, ***, abc"


def test_secret_variables_are_found_by_their_names() -> None:
    environ = {"DB_PASSWORD": "one", "HOME": "two", "GITHUB_TOKEN": "three", "AWS_ACCESS_KEY_ID": "four",
               "API_KEY_FILE": "/run/key", "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
    assert find_secret_values(environ) == ["one", "three", "four"]


def test_a_value_of_several_lines_is_masked_line_by_line() -> None:
    masker = SecretMasker(values=["first-line\nsecond-line\n"])
    assert masker.mask("x second-line y") == "x *** y"


def test_an_invalid_pattern_is_named() -> None:
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        compile_patterns(["("])


@pytest.mark.parametrize("count", [0, MAX_TAIL_LINES + 1])
def test_the_number_of_lines_is_bounded(count: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        OutputTail(max_lines=count)


def test_whole_lines_are_masked_together_with_streams() -> None:
    tail = OutputTail(max_lines=3)
    for number in range(5):
        tail.add_line(f"line {number}")
    tail.add_line("token=hunter2\nnext\x07")
    assert tail.read() == "line 4\ntoken=***\nnext"


def test_the_version_grows_with_each_other_text() -> None:
    tail = OutputTail()
    assert (tail.read(), tail.version) == ("", 0)
    tail.add_line("a")
    assert (tail.read(), tail.version) == ("a", 1)
    assert (tail.read(), tail.version) == ("a", 1)


@pytest.mark.parametrize("unit", [
    "-", "--", "a", "://", "pwd", "password", "eyJ-", '"\\', "token=", "-----BEGIN ", "sk-", "1:", ":=", "\x1b[", "\b",
])  # fmt: skip
def test_hostile_output_takes_linear_time(unit: str) -> None:
    """A quadratic pattern would reach the timeout of the test with this line."""
    masker = SecretMasker()
    masker.mask(clean_line(unit * (100_000 // len(unit))))


@pytest.mark.parametrize(("output", "line"), [
    (b"Traceback\n  File\nValueError: no\n\n \x1b[0m\n", "ValueError: no"), (b" 10%\r 20%\r 30%\r\n", "30%"),
    (b"\xff bad \xc3\n", "\ufffd bad \ufffd"), (b"", ""), (b"no end", "no end"), (b"\n" * 10, ""),
    (b"lines " * 100_000 + b"\nlast\n", "last"), (b"token=abc123\n\n", "token=***"),
])  # fmt: skip
def test_last_line_of_output_has_text_and_no_secret(output: bytes, line: str) -> None:
    tail = OutputTail(max_lines=5)
    writer = tail.make_writer()
    for start in range(0, len(output), 999):
        writer(output[start : start + 999])
    tail.finish()
    assert find_last_line(tail.read()) == line


def test_last_line_without_its_start_is_not_shown() -> None:
    tail = OutputTail(max_lines=5)
    feed(tail, b"password=", *[b"s" * 1000] * (MAX_PENDING_BYTES // 1000 + 2))
    tail.finish()
    assert tail.read() == ""


def test_output_written_byte_by_byte_is_kept_in_few_chunks() -> None:
    tail = OutputTail()
    writer = tail.make_writer()
    for byte in b"some text of a line\n" * 1000:
        writer(bytes([byte]))
    assert len(tail._pending) < 10
    assert tail.read().count("some text of a line") == 100


def test_lost_key_masks_only_what_comes_after_it() -> None:
    tail = OutputTail()
    writer = tail.make_writer()
    writer(b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * MAX_PENDING_BYTES + b"\n")
    writer(f"{MY_SECRET}\n{MY_SECRET}\n-----END RSA PRIVATE KEY-----\nafter\n".encode())
    assert tail.read() == "\n***\n***\nafter"
