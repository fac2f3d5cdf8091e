"""What this Mac is: its system and its units."""

from __future__ import annotations

import platform
import plistlib
from pathlib import Path

#: Where macOS says which build it is.
VERSIONS = Path("/System/Library/CoreServices/SystemVersion.plist")
#: class of a device in coremltools -> unit
DEVICES = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ane"}


def is_mac() -> bool:
    return bool(version())


def version() -> str:
    """Such as 15.5; empty where it is no Mac."""
    return platform.mac_ver()[0]


def major() -> int:
    return int(version().partition(".")[0] or 0)


def build() -> str:
    """Such as 24F74: each update of the system has another one."""
    try:
        return str(plistlib.loads(VERSIONS.read_bytes())["ProductBuildVersion"])
    except (OSError, KeyError, plistlib.InvalidFileException):
        return platform.version()


def machine() -> str:
    """The architecture, such as arm64."""
    return platform.machine()


def units() -> set[str]:
    """The units that Core ML finds here."""
    from coremltools.models.compute_device import MLComputeDevice

    return {DEVICES.get(type(device).__name__, "another") for device in MLComputeDevice.get_all_compute_devices()}
