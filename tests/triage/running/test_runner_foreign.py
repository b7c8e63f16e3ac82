"""Triage on a cluster that somebody else runs: TLS, two workers without nannies, one of which dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from mean_hu import MeanHU
from runner_support import ct, reports, take

import voxelvault as vv
from dask_servers import dask_cluster
from voxelvault.testing.synthetic import PLANTED
from voxelvault_triage.worklist import store

STUDIES = 6


def test_triage_on_somebody_elses_scheduler(
    vault: vv.Vault, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxelvault_triage.pipeline.pipeline_named", lambda _name: MeanHU(pause=0.3))
    take(vault, tmp_path / "in", *(data for study in range(STUDIES) for data in ct(study)))
    (tmp_path / "cluster").mkdir()
    with dask_cluster(tmp_path / "cluster") as cluster:
        for name in ("stays", "dies"):
            cluster.worker(name)
        with cluster.client(2) as client:
            address = client.scheduler.address
        folder = tmp_path / "cluster"
        tls = {"distributed.comm.tls.ca-file": str(folder / "cert.pem")}
        for part in ("cert", "key"):
            tls[f"distributed.comm.tls.client.{part}"] = str(folder / f"{part}.pem")
        analysed = []
        whole = store.complete

        def dying(*given: Any) -> Any:
            if not analysed:
                cluster.kill("dies")
            analysed.append(1)
            return whole(*given)

        monkeypatch.setattr(store, "complete", dying)
        words = ("--vault", vault.path, "triage", "run", "--new", "--pipeline", "mean-hu", "--json")
        with dask.config.set(tls):
            refused = run(*words, "--scheduler", address.replace("tls://", "tcp://"))
            found = run(*words, "--scheduler", address)
        said = b"".join(path.read_bytes() for path in folder.glob("*.log"))
    assert refused.code == 2
    assert "tls://" in refused.err
    assert found.code == 0, found.err
    assert found.json["analysed"] == STUDIES
    assert sorted(reports(vault).values()) == [1] * STUDIES
    assert [word for word in PLANTED if word.encode() in said] == []
