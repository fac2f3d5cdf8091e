"""The registry of backends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from openings import on

from drun import backends
from drun.backends import ort
from drun.bundle.reading import Bundle
from drun.errors import ConfigError


def test_the_files_are_the_registry() -> None:
    names = backends.names()
    files = {path.stem for path in Path(str(backends.__file__)).parent.iterdir() if not path.name.startswith("_")}
    assert sorted(names) == sorted(files)
    preferred = [name for name in backends.PREFERENCE if name in files]
    assert names[: len(preferred)] == preferred
    assert names[0] == "ort"
    assert all(issubclass(backends.load(name), backends.Backend) for name in names)
    summaries = [backends.load(name).summary for name in names]
    assert len(set(filter(None, summaries))) == len(names)


def test_unknown_backend_is_refused_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"unknown backend 'tpu': choose one of ort, .*null"):
        on("tpu", bundle)


def test_probe_of_what_is_installed() -> None:
    probe = ort.Runtime.probe()
    assert probe.available
    assert probe.detail.startswith("onnxruntime 1.")


#: What a backend's library is called where it is imported.
MODULES = {"ort": "onnxruntime", "openvino": "openvino", "pt2": "torch"}
IMPORTED = """
import sys
from drun import backends
runtime = backends.load(sys.argv[1])
runtime.probe()
runtime.import_library()
print(sys.argv[2] in sys.modules)
"""


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_a_backend_imports_its_library_when_asked(name: str, module: str) -> None:
    """So that what a library weighs is not taken for weights."""
    done = subprocess.run([sys.executable, "-c", IMPORTED, name, module], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
