"""Prints what the real bindings of TensorRT offer, as JSON, in a process of its own.

They need three libraries that only come with a GPU's packages. Of these they call nothing before an object is made, so
that empty libraries of the same names let them be imported: python trt_bindings.py FOLDER.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
#: What the bindings look for when they are loaded.
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


def load_stubs(folder: Path) -> None:
    """Compile the libraries and load them, so that later ones find them by their names."""
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for name in LIBRARIES:
        words = ["gcc", "-shared", "-fPIC", str(source), f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run(words, check=True)
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def described(module: Any) -> dict[str, Any]:
    """Names of the module, members of its classes, and the signatures of methods, of which one may have several."""
    classes = {name: one for name, one in vars(module).items() if inspect.isclass(one)}
    return {
        "names": sorted(name for name in dir(module) if not name.startswith("_")),
        "members": {name: sorted(dir(one)) for name, one in classes.items()},
        "signatures": {
            f"{name}.{member}": signatures(member, inspect.getdoc(getattr(one, member)) or "")
            for name, one in classes.items()
            for member in dir(one)
            if member == "__init__" or not member.startswith("_")
        },
    }


def signatures(member: str, doc: str) -> list[str]:
    """The lines that the bindings write for each form of a call."""
    return re.findall(rf"^(?:\d+\. )?({re.escape(member)}\(self.*\) -> .*)$", doc, re.MULTILINE)


if __name__ == "__main__":
    load_stubs(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(described(importlib.import_module("tensorrt_bindings"))))
