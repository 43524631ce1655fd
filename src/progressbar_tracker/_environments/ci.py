"""CI services: which one, which job, and the address of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class CiService(NamedTuple):
    """The documented variables of a service.

    Attributes:
        name: The name of the service.
        marker: A variable that only this service sets.
        job: A template of the job.
        url: A template of the address of its page.
    """

    name: str
    marker: str
    job: str
    url: str


CI_SERVICES: Final = (
    CiService(
        "GitHub Actions",
        "GITHUB_ACTIONS",
        "{GITHUB_REPOSITORY} {GITHUB_WORKFLOW} {GITHUB_JOB}",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    ),
    CiService("GitLab CI", "GITLAB_CI", "{CI_PROJECT_PATH} {CI_JOB_NAME}", "{CI_JOB_URL}"),
    CiService("Jenkins", "JENKINS_URL", "{JOB_NAME} {BUILD_NUMBER}", "{BUILD_URL}"),
    CiService("Buildkite", "BUILDKITE", "{BUILDKITE_PIPELINE_SLUG} {BUILDKITE_BUILD_NUMBER}", "{BUILDKITE_BUILD_URL}"),
    CiService("CircleCI", "CIRCLECI", "{CIRCLE_PROJECT_REPONAME} {CIRCLE_JOB}", "{CIRCLE_BUILD_URL}"),
    CiService(
        "Azure Pipelines",
        "TF_BUILD",
        "{SYSTEM_TEAMPROJECT} {BUILD_DEFINITIONNAME} {BUILD_BUILDNUMBER}",
        "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
    ),
    CiService(
        "Bitbucket Pipelines",
        "BITBUCKET_BUILD_NUMBER",
        "{BITBUCKET_REPO_FULL_NAME} {BITBUCKET_BUILD_NUMBER}",
        "{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
    ),
)


def read_meta(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the entries for ``meta``. A template with an unknown variable is left out.

    >>> read_meta({"GITLAB_CI": "true", "CI_PROJECT_PATH": "a/b", "CI_JOB_NAME": "test"})
    {'ci': 'GitLab CI', 'ci_job': 'a/b test'}
    """
    for service in CI_SERVICES:
        if environ.get(service.marker):
            entries = {"ci": service.name}
            for name, template in (("ci_job", service.job), ("ci_url", service.url)):
                try:
                    entries[name] = template.format_map(environ)
                except KeyError:
                    continue
            return entries
    return {}
