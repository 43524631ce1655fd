"""Kubernetes: the pod, its namespace and its job.

Kubernetes sets the host name and the variables of its API service in each pod, and mounts the namespace with the token
of the service account. An indexed job sets ``JOB_COMPLETION_INDEX``, and the host name is then the job's name with the
index. ``POD_NAME``, ``POD_NAMESPACE`` and ``JOB_NAME`` are what manifests usually call the fields of the downward API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
MAX_NAMESPACE_LENGTH: Final = 63


def read_meta(environ: Mapping[str, str], namespace_path: str = NAMESPACE_PATH) -> dict[str, str]:
    """Return the entries for ``meta``; an empty text is unknown.

    Args:
        environ: The environment.
        namespace_path: The file with the namespace.
    """
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return {}
    pod = environ.get("POD_NAME") or environ.get("HOSTNAME", "")
    return {
        "pod": pod,
        "job": environ.get("JOB_NAME") or _derive_job(pod, environ.get("JOB_COMPLETION_INDEX", "")),
        "namespace": environ.get("POD_NAMESPACE") or _read_namespace(namespace_path),
    }


def _derive_job(pod: str, index: str) -> str:
    """Return the name of an indexed job, whose pods are called ``NAME-INDEX`` by their host name.

    >>> _derive_job("train-3", "3"), _derive_job("train-x7k2p", "")
    ('train', '')
    """
    return pod.removesuffix(f"-{index}") if index and pod.endswith(f"-{index}") else ""


def _read_namespace(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not loaded
            return file.read(MAX_NAMESPACE_LENGTH + 1).strip()
    except (OSError, ValueError):
        return ""
