"""Describes the machine of a measurement, without names of users, hosts or folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "dexport", "numpy", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-webgpu", "openvino", "torch", "tensorrt",
    "tensorrt-rtx", "cuda-core", "cuda-bindings", "coremltools", "scikit-learn",
)  # fmt: skip
#: Threads and other work, as a share of the processors, that slow each other down noticeably: a runtime waits for its
#: slowest thread many times a call.
OVERLOAD = 1.1
CPUINFO, PROC_STAT, NVIDIA = Path("/proc/cpuinfo"), Path("/proc/stat"), Path("/proc/driver/nvidia")
#: The project's folder if this file lies in a checkout of it, benchmarks/dbench/core/machine.py.
CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Machine:
    processor: str
    num_cores: int  # physical ones that this process may use
    num_threads: int | None  # used in the measurement
    memory_bytes: int | None
    os: str
    versions: dict[str, str | None]  # None: not installed
    commit: str | None  # of the project; `-dirty` if files differ from it
    num_processors: int  # logical ones of the whole machine
    other_processors: float | None  # how many of them other work kept busy in the meantime, on average
    gpu: str | None = None  # NVIDIA's first one

    @property
    def was_shared(self) -> bool:
        """Whether other work left too few processors for the threads, so that latencies are not to be trusted."""
        if self.other_processors is None or self.num_threads is None:
            return False
        return self.other_processors + self.num_threads > OVERLOAD * self.num_processors


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the machine, or this process, started."""

    wall_s: float
    all_s: float  # of all processes, and taken by the hypervisor for others
    own_s: float  # of this process and those it waited for


def fingerprint(num_threads: int | None = None, since: Usage | None = None) -> Machine:
    """This machine, the versions of its libraries, and how much other work ran on it `since` then."""
    return Machine(
        processor=_processor(_cpuinfo()),
        num_cores=num_cores(),
        num_threads=num_threads,
        memory_bytes=_memory_bytes(),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions={
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
            "nvidia driver": _driver(),
        },
        commit=commit(CHECKOUT),
        num_processors=os.cpu_count() or 1,
        other_processors=None if since is None else _other_processors(since, usage()),
        gpu=gpu(),
    )


def num_cores() -> int:
    """Physical cores that this process may use, the runtimes' own choice; logical ones where that is unknown."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = physical_cores(_cpuinfo())
    return len({cores.get(processor, processor) for processor in usable})


def physical_cores(cpuinfo: str) -> dict[int, str]:
    """Logical processor -> the core it is a thread of, from the text of /proc/cpuinfo."""
    cores = {}
    for block in cpuinfo.split("\n\n"):
        fields = dict(re.findall(r"^([\w ]+?)\s*: *(.*)$", block, re.MULTILINE))
        if {"processor", "physical id", "core id"} <= fields.keys():
            cores[int(fields["processor"])] = f"{fields['physical id']}/{fields['core id']}"
    return cores


def commit(checkout: Path) -> str | None:
    """The commit of a git checkout, with `-dirty` if tracked files were changed; None outside of a checkout."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _cpuinfo() -> str:
    return CPUINFO.read_text() if CPUINFO.is_file() else ""


def _processor(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*: *(.+)$", cpuinfo, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _driver() -> str | None:
    """The version of NVIDIA's driver, the first word of numbers after the name of its module."""
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _text_of(NVIDIA / "version"))
    return found[1] if found else None


def gpu() -> str | None:
    """The name of NVIDIA's first GPU; None where there is none, or the driver does not say."""
    files = sorted(NVIDIA.glob("gpus/*/information"))
    found = re.search(r"^Model:\s*(.+?)\s*$", _text_of(files[0]), re.MULTILINE) if files else None
    return found[1] if found else None


def _text_of(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def usage() -> Usage | None:
    """Processor time until now; None where the system does not say."""
    if not PROC_STAT.is_file():
        return None
    total = PROC_STAT.read_text().partition("\n")[0].split()
    user, nice, system, _idle, _iowait, *interrupts_and_steal = map(int, total[1:9])
    ticks = user + nice + system + sum(interrupts_and_steal)
    return Usage(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def _other_processors(start: Usage, end: Usage | None) -> float | None:
    if end is None or end.wall_s <= start.wall_s:
        return None
    other_s = (end.all_s - start.all_s) - (end.own_s - start.own_s)
    return max(0.0, other_s / (end.wall_s - start.wall_s))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
