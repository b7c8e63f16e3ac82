"""What the guide says of clusters, as far as it can be tried without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SECTION = (ROOT / "docs/guide/team.md").read_text().partition("\n## Dask\n")[2].partition("\n## ")[0]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.+?)```", SECTION, re.DOTALL)
    assert found
    return found[1]


def test_the_kubernetes_recipe_is_a_cluster_that_is_accepted() -> None:
    made = yaml.safe_load(block("yaml"))
    assert made["kind"] == "DaskCluster"
    worker = made["spec"]["worker"]["spec"]["containers"][0]
    scheduler = made["spec"]["scheduler"]["spec"]["containers"][0]
    for container in (worker, scheduler):
        settings = {one["name"]: one["value"] for one in container["env"]}
        assert settings["DASK_DISTRIBUTED__WORKER__MEMORY__TARGET"] == "False"
        assert settings["DASK_DISTRIBUTED__WORKER__MEMORY__SPILL"] == "False"
        assert settings["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        arguments = container["args"]
        assert arguments[arguments.index("--protocol") + 1] == "tls"
        mounts = {one["name"] for one in container["volumeMounts"]}
        assert mounts == {one["name"] for one in made["spec"]["worker"]["spec"]["volumes"]}
    assert not [value for value in map(str, worker["env"]) if "VOXELVAULT" in value], "workers have no key"


def test_the_environment_of_the_recipes_is_what_dask_reads() -> None:
    from dask.config import collect_env, get

    made = yaml.safe_load(block("yaml"))
    env = {one["name"]: one["value"] for one in made["spec"]["worker"]["spec"]["containers"][0]["env"]}
    found = collect_env(env)
    assert get("distributed.worker.memory", config=found) == {"target": False, "spill": False}
    assert get("distributed.comm.require-encryption", config=found) is True
    assert get("distributed.comm.tls.ca-file", config=found) == "/tls/ca.pem"


def test_the_slurm_recipe_makes_a_job_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    from dask_servers import certify

    (tmp_path / "tls").mkdir()
    certify(tmp_path / "tls")
    (tmp_path / "tls" / "cert.pem").rename(tmp_path / "tls" / "ca.pem")
    (tmp_path / "tls" / "cert.pem").write_bytes((tmp_path / "tls" / "ca.pem").read_bytes())
    monkeypatch.chdir(tmp_path)
    code = block("python").replace("cluster.scale(jobs=16)\nclient = Client(cluster)\n", "")
    assert "Client(" not in code
    names: dict[str, Any] = {}
    exec(compile(code, "team.md", "exec"), names)
    cluster = names["cluster"]
    try:
        script = cluster.job_script()
        assert "#SBATCH -p imaging" in script
        assert script.index("SPILL=False") < script.index("dask_worker")
        assert "tls://" in script
        assert cluster.scheduler_address.startswith("tls://")
    finally:
        cluster.close()
