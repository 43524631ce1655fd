"""The documented variables of batch systems, Kubernetes and CI services, and what follows from them."""

from __future__ import annotations

import pytest

from progressbar_tracker._environments import kubernetes
from progressbar_tracker._environments.ci import CI_SERVICES
from progressbar_tracker._environments.place import Place, describe_place

SLURM_VARIABLES = {"SLURM_JOB_ID": "81", "SLURM_JOB_NAME": "train", "SLURM_JOB_END_TIME": "1790000000"}
PBS_VARIABLES = {"PBS_JOBID": "17[3].server", "PBS_JOBNAME": "scan", "PBS_WALLTIME": "3600"}


def test_slurm_job_has_its_name_and_its_end():
    assert describe_place(SLURM_VARIABLES) == Place(
        {"slurm_job": "81", "slurm_name": "train"}, "slurm-81", 1_790_000_000.0
    )


def test_slurm_array_task_has_the_id_of_the_array():
    place = describe_place({**SLURM_VARIABLES, "SLURM_ARRAY_JOB_ID": "80", "SLURM_ARRAY_TASK_ID": "4"})
    assert (place.job, place.meta["slurm_job"]) == ("slurm-80_4", "80_4")


def test_slurm_tasks_of_a_step_differ():
    jobs = {describe_place({**SLURM_VARIABLES, "SLURM_NTASKS": "4", "SLURM_PROCID": str(n)}).job for n in range(4)}
    assert len(jobs) == 4


def test_slurm_job_that_is_requeued_keeps_its_name():
    again = describe_place({**SLURM_VARIABLES, "SLURM_RESTART_COUNT": "2"})
    assert (again.job, again.meta["slurm_restarts"]) == (describe_place(SLURM_VARIABLES).job, "2")


@pytest.mark.parametrize("text", ["", "UNLIMITED", "nan", "inf", "-5", "1e400", "99999999999"])
def test_invalid_end_is_no_end(text):
    assert describe_place({**SLURM_VARIABLES, "SLURM_JOB_END_TIME": text}).ends_at is None
    assert describe_place({**PBS_VARIABLES, "PBS_WALLTIME": text}).seconds_left is None


def test_pbs_job_has_its_name_and_its_duration():
    expected = Place({"pbs_job": "17[3].server", "pbs_name": "scan"}, "pbs-17[3].server", None, 3600.0)
    assert describe_place(PBS_VARIABLES) == expected


def test_pod_names_its_namespace_and_indexed_job(tmp_path):
    (tmp_path / "namespace").write_text("batch\n")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-3", "JOB_COMPLETION_INDEX": "3"}
    meta = kubernetes.read_meta(environ, str(tmp_path / "namespace"))
    assert meta == {"pod": "train-3", "job": "train", "namespace": "batch"}


def test_pod_prefers_the_downward_api(tmp_path):
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "x", "POD_NAME": "p", "POD_NAMESPACE": "n", "JOB_NAME": "j",
    }  # fmt: skip
    assert kubernetes.read_meta(environ, str(tmp_path / "missing")) == {"pod": "p", "job": "j", "namespace": "n"}


def test_pod_without_a_service_account_has_no_namespace(tmp_path):
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "web-x7k2p"}
    assert kubernetes.read_meta(environ, str(tmp_path / "missing")) == {"pod": "web-x7k2p", "job": "", "namespace": ""}


@pytest.mark.parametrize("service", CI_SERVICES, ids=lambda service: service.name)
def test_ci_service_names_its_job_and_page(service):
    class Variables(dict):
        def __missing__(self, name):
            return f"<{name}>"

    meta = describe_place(Variables({service.marker: "true", "PROGRESSBAR_ENVIRONMENT": "1"})).meta
    assert meta["ci"] == service.name
    assert "<" in meta["ci_job"]
    assert "<" in meta["ci_url"]


def test_ci_service_without_its_variables_has_a_name_only():
    assert describe_place({"GITHUB_ACTIONS": "true"}).meta == {"ci": "GitHub Actions"}


def test_variable_turns_all_environments_off():
    assert describe_place(
        {**SLURM_VARIABLES, **PBS_VARIABLES, "GITHUB_ACTIONS": "true", "PROGRESSBAR_ENVIRONMENT": "0"}
    ) == Place({})


def test_machine_of_its_own_says_nothing():
    assert describe_place({"HOME": "/root", "HOSTNAME": "box", "JOB_NAME": "x"}) == Place({})
