"""The ready-made forms: they parse, call commands that exist, run without root, hold no secret.

The fields are those of KubeRay's custom resource definitions (release 1.6) and of Kubernetes'
``batch/v1``, as far as the forms may use them.
"""

import configparser
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from cronsim import CronSim

from pipeline.cli import app
from pipeline.errors import ExitCode

FORMS = Path("configs") / "deploy"
CRON_JOB = {
    *("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "suspend"),
    *("successfulJobsHistoryLimit", "failedJobsHistoryLimit", "jobTemplate"),
}
RAY_CRON_JOB = {"schedule", "suspend", "jobTemplate"}
RAY_JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy"),
    *("entrypoint", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId"),
    *("managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes"),
    *("submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"),
    "ttlSecondsAfterFinished",
}
RAY_CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "autoscalerOptions"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
SECRET = re.compile(r"(?i)(key|token|secret|password)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}")


@pytest.fixture
def forms(repository: Path) -> Path:
    return repository / FORMS


def documents(forms: Path) -> Iterator[dict[str, Any]]:
    """Yield every Kubernetes object, those inside of a ConfigMap too."""
    for path in sorted((forms / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield document
            if document["kind"] == "ConfigMap":
                yield from map(yaml.safe_load, document["data"].values())


def of_kind(forms: Path, kind: str) -> list[dict[str, Any]]:
    found = [document for document in documents(forms) if document["kind"] == kind]
    assert found, kind
    return found


def ray_jobs(forms: Path) -> list[dict[str, Any]]:
    jobs = [document["spec"] for document in of_kind(forms, "RayJob")]
    return jobs + [document["spec"]["jobTemplate"] for document in of_kind(forms, "RayCronJob")]


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every pod specification below a value."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from pods(part)


def commands(forms: Path) -> Iterator[list[str]]:
    """Yield what each form runs of readloop, without the program's name."""
    for document in documents(forms):
        for pod in pods(document):
            for container in pod["containers"]:
                if container.get("command", [""])[0] == "readloop":
                    yield container["command"][1:]
    for job in ray_jobs(forms):
        yield shlex.split(job["entrypoint"])[1:]
    cron = [line for line in (forms / "crontab").read_text().splitlines() if line[0] != "#"]
    for line in cron:
        yield _call(line)
    service = systemd(forms / "systemd" / "readloop-refresh.service")
    yield _call(service["Service"]["ExecStart"])


def _call(line: str) -> list[str]:
    words = shlex.split(line)
    (start,) = (place for place, word in enumerate(words) if word.endswith("bin/readloop"))
    rest = words[start + 1 :]
    return rest[: next((at for at, word in enumerate(rest) if ">" in word), len(rest))]


def systemd(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def test_every_form_calls_a_command_that_exists_with_flags_that_it_has(forms: Path) -> None:
    found = list(commands(forms))
    assert len(found) == 5
    group = typer.main.get_command(app)
    for name, *arguments in found:
        command = group.get_command(None, name)  # type: ignore[attr-defined,arg-type]
        assert command, name
        context = command.make_context(name, list(arguments))
        assert context.params["as_json"]
        assert str(context.params["run_file"]).endswith(".yaml")


def test_schedules_are_cron_expressions_and_one_refresh_runs(forms: Path) -> None:
    for document in of_kind(forms, "CronJob"):
        assert document["spec"].keys() <= CRON_JOB
        assert document["spec"]["concurrencyPolicy"] == "Forbid"
    schedules = [
        document["spec"]["schedule"]
        for kind in ("CronJob", "RayCronJob")
        for document in of_kind(forms, kind)
    ]
    line = (forms / "crontab").read_text().splitlines()[-1]
    schedules.append(" ".join(line.split()[:5]))
    for schedule in schedules:
        next(CronSim(schedule, datetime.now(UTC)))
    timer = systemd(forms / "systemd" / "readloop-refresh.timer")
    assert timer["Timer"]["OnCalendar"] == "*-*-* 03:00:00"


def test_a_refresh_that_was_stopped_or_kept_out_is_no_failure(forms: Path) -> None:
    refreshing = [
        document["spec"]["jobTemplate"]["spec"]
        for document in of_kind(forms, "CronJob")
        if any(one["name"] == "refresh" for pod in pods(document) for one in pod["containers"])
    ]
    assert len(refreshing) == 1
    (rule,) = refreshing[0]["podFailurePolicy"]["rules"]
    assert rule["action"] == "Ignore"
    assert rule["onExitCodes"]["values"] == [ExitCode.STOPPED]
    assert refreshing[0]["activeDeadlineSeconds"] < 24 * 3600  # or the next night is left out
    pod = refreshing[0]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 60  # the time a training has to leave Ray
    service = systemd(forms / "systemd" / "readloop-refresh.service")
    assert int(service["Service"]["SuccessExitStatus"]) == ExitCode.STOPPED


def test_kuberay_is_given_fields_that_it_knows(forms: Path) -> None:
    for document in of_kind(forms, "RayCronJob"):
        assert document["apiVersion"] == "ray.io/v1"
        assert document["spec"].keys() <= RAY_CRON_JOB
    for job in ray_jobs(forms):
        assert job.keys() <= RAY_JOB
        cluster = job["rayClusterSpec"]
        assert cluster.keys() <= RAY_CLUSTER
        assert {"rayStartParams", "template"} == cluster["headGroupSpec"].keys()
        for workers in cluster["workerGroupSpecs"]:
            assert workers.keys() <= WORKERS
    one, other = ray_jobs(forms)
    assert one == other


def test_nobody_is_root_and_no_secret_is_written_down(forms: Path) -> None:
    found = [pod for document in documents(forms) for pod in pods(document)]
    assert len(found) >= 6
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "env" not in container
    assert systemd(forms / "systemd" / "readloop-refresh.service")["Service"]["User"] == "readloop"
    for path in forms.rglob("*"):
        if path.is_file():
            assert not SECRET.search(path.read_text()), path
