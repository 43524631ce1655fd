"""The lock file: it matches the requirements, has hashes, and names no package index."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT_ROOT = Path(__file__).parents[2]
LOCK_TEXT = (PROJECT_ROOT / "requirements.lock").read_text("utf-8")
PROJECT_TABLE = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEPLOYED_EXTRAS = ("server", "notify", "postgres")

LOCKED_VERSIONS = dict(re.findall(r"(?m)^([a-z0-9.-]+)==(\S+)", LOCK_TEXT))


def required_packages():
    """Return the requirements of a deployed server, without the project's own extras."""
    texts = PROJECT_TABLE["dependencies"] + [
        text for extra in DEPLOYED_EXTRAS for text in PROJECT_TABLE["optional-dependencies"].get(extra, [])
    ]
    return [package for package in map(Requirement, texts) if package.name != PROJECT_TABLE["name"]]


@pytest.mark.parametrize("requirement", required_packages(), ids=str)
def test_each_requirement_is_locked_in_an_allowed_version(requirement):
    assert requirement.specifier.contains(LOCKED_VERSIONS[requirement.name]), "see the top of requirements.lock"


def test_each_locked_package_has_hashes():
    entries = re.split(r"(?m)^(?=[a-z])", LOCK_TEXT)[1:]
    assert len(entries) == len(LOCKED_VERSIONS) > 20
    assert [entry.split()[0] for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)] == []


def test_lock_file_names_no_package_index():
    assert "://" not in LOCK_TEXT
    assert "index-url" not in LOCK_TEXT
    assert "find-links" not in LOCK_TEXT


def test_lock_file_of_node_packages_names_no_registry():
    packages = json.loads((PROJECT_ROOT / ".ci" / "package-lock.json").read_text("utf-8"))["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)


def test_image_installs_locked_packages_only():
    lines = (PROJECT_ROOT / "examples" / "deploy" / "Dockerfile").read_text().splitlines()
    installs = [line.partition("install ")[2] for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes -r /src/requirements.lock" in installs[0]
    assert "--no-deps" in installs[1]


# The audit by .ci/pip-audit


AUDIT_REPORTS = {
    "nothing known": ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "private"}], 0),
    "vulnerable": ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}], 1),
    "no data": ([{"name": "a", "skip_reason": "not found"}], 0),
    "no network": (None, 0),
}
AUDIT_MESSAGES = {
    "nothing known": "no known vulnerabilities in 1 of 2; not checked: ['b']",
    "vulnerable": "a 1: CVE-1, fixed in ['2']",
    "no data": "NOT AUDITED",
    "no network": "NOT AUDITED",
}


@pytest.mark.parametrize("case", AUDIT_REPORTS)
def test_audit_fails_for_a_known_vulnerability_only(case, tmp_path):
    report, code = AUDIT_REPORTS[case]
    fake_audit = tmp_path / "pip-audit"
    statement = "raise SystemExit('ConnectionError: no such host')"
    if report is not None:
        statement = f"print({json.dumps({'dependencies': report})!r})"
    fake_audit.write_text(f"#!{sys.executable} -S\n{statement}\n")
    fake_audit.chmod(fake_audit.stat().st_mode | stat.S_IXUSR)
    process = subprocess.run(
        [sys.executable, str(PROJECT_ROOT / ".ci" / "pip-audit"), str(fake_audit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (code, "")
    assert AUDIT_MESSAGES[case] in process.stdout
    assert ("NOT AUDITED" in process.stdout) is (AUDIT_MESSAGES[case] == "NOT AUDITED")
