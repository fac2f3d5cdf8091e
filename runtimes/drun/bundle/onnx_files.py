"""The other files that an ONNX graph names, found by walking its protobuf, because a runtime would open them, too."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from drun.errors import BundleError, door
from drun.protobuf import Buffer, fields

#: message -> field number -> message: the way to every tensor of a ModelProto, as onnx.proto numbers it
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def check_external(paths: Sequence[Path]) -> None:
    """Refuse a graph whose weights lie in a file that nobody hashed.

    Args:
        paths: the path of the graph, then those of the files that the manifest lists beside it.

    Raises:
        BundleError: it names another file, or is not an ONNX graph.
    """
    graph, listed = paths[0], {path.resolve() for path in paths[1:]}
    with door(f"'{graph}' is damaged", BundleError, "export again"):
        for name in sorted(external_files(graph)):
            if (graph.parent / name).resolve() not in listed:
                raise BundleError(f"'{graph}' names the file '{name}', which the manifest does not list: refused")


def external_files(path: Path) -> set[PurePosixPath]:
    """The files, relative to the graph's folder, that hold its tensors.

    Raises:
        ValueError: it is not a protobuf message. OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return {PurePosixPath(location) for location in _locations(content, 0, len(content), "model")}
        except ValueError as error:
            raise ValueError(f"it is not an ONNX graph: {error}") from error


def _locations(content: Buffer, start: int, stop: int, message: str) -> Iterator[str]:
    if message == "entry":
        pair = {number: content[low:high] for number, _, low, high in fields(content, start, stop)}
        if pair.get(1) == b"location":
            yield pair.get(2, b"").decode()
        return
    for number, _, low, high in fields(content, start, stop):
        if inner := MESSAGES[message].get(number):
            yield from _locations(content, low, high, inner)
