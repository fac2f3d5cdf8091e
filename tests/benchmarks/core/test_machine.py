"""The fingerprint says what matters and names nobody."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import dbench
from dbench.core import machine, record

CPUINFO = """processor	: 0
model name	: Some Processor @ 3.80GHz
physical id	: 0
core id		: 0

processor	: 1
physical id	: 0
core id		: 1

processor	: 2
physical id	: 0
core id		: 0

processor	: 3
physical id	: 1
core id		: 0
"""


def test_keys_and_kinds() -> None:
    here = machine.fingerprint(num_threads=3)
    assert set(asdict(here)) == {
        "processor", "num_cores", "num_threads", "memory_bytes", "os", "versions", "commit", "num_processors",
        "other_processors", "gpu",
    }  # fmt: skip
    assert here.processor
    assert here.num_cores >= 1
    assert here.num_threads == 3
    assert here.memory_bytes is None or here.memory_bytes > 1e8
    assert here.versions["numpy"] == np.__version__
    assert here.versions.keys() == {"python", *machine.LIBRARIES, "nvidia driver"}


def test_the_checkout_is_the_projects() -> None:
    assert (machine.CHECKOUT / "benchmarks" / "dbench").samefile(Path(dbench.__file__).parent)


def test_names_no_user_host_or_folder() -> None:
    text = json.dumps(asdict(machine.fingerprint()))
    assert f'"{getpass.getuser()}' not in text
    assert f'"{socket.gethostname()}' not in text
    assert str(machine.CHECKOUT) not in text
    assert str(Path.home()) + "/" not in text


def test_a_missing_library_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("numpy", "no-such-library-here"))
    assert machine.fingerprint().versions["no-such-library-here"] is None


def test_the_driver_of_nvidia(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = tmp_path / "version"
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    assert machine.fingerprint().versions["nvidia driver"] is None
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build  (x) \n")
    assert machine.fingerprint().versions["nvidia driver"] == "580.159.03"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n")
    assert machine.fingerprint().versions["nvidia driver"] == "535.104.05"


def test_the_first_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    assert machine.fingerprint().gpu is None
    for number, name in enumerate(("NVIDIA H200", "NVIDIA H100 80GB HBM3")):
        (tmp_path / "gpus" / f"000{number}:00").mkdir(parents=True)
        (tmp_path / "gpus" / f"000{number}:00" / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t 1\n")
    assert machine.fingerprint().gpu == "NVIDIA H200"


def test_threads_of_one_core_count_once() -> None:
    cores = machine.physical_cores(CPUINFO)
    assert cores == {0: "0/0", 1: "0/1", 2: "0/0", 3: "1/0"}
    assert machine.physical_cores("") == {}


def test_usable_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 2, 3}, raising=False)
    assert machine.num_cores() == 2
    assert machine.fingerprint().processor == "Some Processor @ 3.80GHz"
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "absent")
    assert machine.num_cores() == 3


def test_other_work_is_what_this_process_did_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat, own = tmp_path / "stat", [1.0, 0.5, 0.25, 0.25, 99.0]
    monkeypatch.setattr(machine, "PROC_STAT", stat)
    monkeypatch.setattr(machine.os, "times", lambda: own)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(machine.time, "monotonic", lambda: own[4])
    stat.write_text("cpu  100 100 100 5000 700 10 20 70 3 3\ncpu0 1 1\n")
    start = machine.usage()
    assert start == machine.Usage(wall_s=99.0, all_s=4.0, own_s=2.0)
    own[0], own[4] = 5.0, 109.0
    stat.write_text("cpu  900 200 200 9000 900 10 20 470 3 3\ncpu0 1 1\n")
    assert machine.fingerprint(since=start).other_processors == (18 - 4 - 4) / 10
    monkeypatch.setattr(machine, "PROC_STAT", tmp_path / "absent")
    assert machine.usage() is None
    assert machine.fingerprint(since=start).other_processors is None


def test_a_shared_machine_is_told() -> None:
    here = replace(machine.fingerprint(num_threads=2), num_processors=4)
    assert replace(here, other_processors=2.5).was_shared
    assert not replace(here, other_processors=2.0).was_shared
    assert not replace(here, other_processors=None).was_shared
    assert not replace(here, other_processors=9.0, num_threads=None).was_shared
    assert "quiet machine" in record.conditions(replace(here, other_processors=2.5))["other work"]
    assert record.conditions(replace(here, other_processors=2.0))["other work"] == "2.0 of 4 processors"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) is None
    git(tmp_path, "init")
    assert machine.commit(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    found = machine.commit(tmp_path)
    assert found is not None
    assert len(found) == 12
    (tmp_path / "file").write_text("2")
    assert machine.commit(tmp_path) == f"{found}-dirty"


def test_no_git_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit(tmp_path) is None
