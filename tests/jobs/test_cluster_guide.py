"""`docs/cluster.md`: what it has one type is right, and agrees with the files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

from pipelines.config import load_config
from pipelines.generation_config import GenerateConfig
from pipelines.models import PROJECT
from tests.jobs.cluster_files import MANIFESTS, launcher_config, manifests


def commands_of_guide() -> list[str]:
    text = (PROJECT / "docs" / "cluster.md").read_text()
    return re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def written_by_guide() -> dict[str, str]:
    """Contents by name of the files that the guide has one write."""
    text = "".join(commands_of_guide())
    return dict(re.findall(r"^cat >(\S+) <<END\n(.*?)^END$", text, re.MULTILINE | re.DOTALL))


def test_the_jobs_of_manifest_and_guide_are_jobs_of_ours(tmp_path: Path) -> None:
    (ray_job,) = manifests("rayjob.yaml")
    python, _, module, _, job, *options = shlex.split(ray_job["spec"]["entrypoint"])
    assert (python, module, job) == ("python", "jobs.supervise", "generate")
    assert options[:2] == ["--config", "/app/jobs/configs/generate.yaml"]
    assert options[2::2] == ["--set"] * len(options[3::2])
    of_manifest = load_config(GenerateConfig, PROJECT / "jobs" / "configs" / "generate.yaml", options[3::2])
    (tmp_path / "job.yaml").write_text(written_by_guide()["job.yaml"].replace("$BUCKET", "bucket"))
    of_guide = load_config(GenerateConfig, tmp_path / "job.yaml")
    assert of_manifest.resources.num_actors == of_guide.resources.num_actors == (1, 8)
    assert of_manifest.resources.num_cpus == of_guide.resources.num_cpus == 0


def test_what_the_guide_has_one_type_is_shell_and_what_it_writes_is_json() -> None:
    for block in commands_of_guide():
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    policies = [text for name, text in written_by_guide().items() if name.endswith(".json")]
    assert len(policies) == 3
    assert all(json.loads(text)["Statement"] for text in policies)


def test_files_that_the_guide_names_exist() -> None:
    text = (PROJECT / "docs" / "cluster.md").read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    typed = set(re.findall(r"jobs/(?:kuberay|configs)/\w+\.yaml", text))
    paths = [*(PROJECT / "docs" / link for link in links), *(PROJECT / path for path in typed)]
    assert [path for path in paths if not path.exists()] == []


def test_roles_of_the_guide_are_those_of_the_files() -> None:
    text = "".join(commands_of_guide())
    for node_type in launcher_config()["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Name"] in text
    assert "role/meissonic-pods" in (MANIFESTS / "serviceaccount.yaml").read_text()
    assert "--role-name meissonic-pods" in text
