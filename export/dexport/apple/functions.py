"""Packages of one function become one package with all of the functions; weights that are equal are there once."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drun.mil.blobs import RECORD_BYTES, SENTINEL, VERSION, Blobs, Record

MODEL = Path("Data", "com.apple.CoreML", "model.mlmodel")
WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")


def join(packages: Mapping[str, Path], metadata: Mapping[str, str], path: Path) -> None:
    """Write a package with a function for each package.

    coremltools does so, too, but loads all weights, runs its passes again and loses the metadata.

    Args:
        packages: name of the function -> a package with the function "main"; the first is the default. They are
            written for iOS 18 or later if there are several. The first one is moved to `path`.
        metadata: what the package says of itself.
    """
    first, *others = packages
    specs = {name: _read(package) for name, package in packages.items()}
    packages[first].rename(path)
    spec = specs[first]
    if others:
        weights = _Weights(path / WEIGHTS, spec.mlProgram)
        for name in others:
            weights.take(specs[name].mlProgram, packages[name] / WEIGHTS)
        spec = _with_functions(specs)
    spec.description.metadata.userDefined.update(metadata)
    (path / MODEL).write_bytes(spec.SerializeToString())
    _open_to_others(path)


def _open_to_others(package: Path) -> None:
    """Let others read it as far as this process lets them read its files; coremltools copies private ones."""
    mask = os.umask(0)
    os.umask(mask)
    for place in (package, *package.rglob("*")):
        place.chmod((0o777 if place.is_dir() else 0o666) & ~mask)


def _read(package: Path) -> Any:
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / MODEL).read_bytes())
    return spec


def _with_functions(specs: Mapping[str, Any]) -> Any:
    """The first model, with the main functions of all."""
    spec = next(iter(specs.values()))
    description, functions = spec.description, spec.mlProgram.functions
    for name, own in specs.items():
        functions[name].CopyFrom(own.mlProgram.functions["main"])
        ports = own.description
        description.functions.add(name=name, input=[*ports.input], output=[*ports.output])
    del functions["main"]
    description.ClearField("input")
    description.ClearField("output")
    description.defaultFunctionName = next(iter(specs))
    return spec


class _Weights:
    """The weights of a program, to which those of others are added."""

    def __init__(self, path: Path, program: Any) -> None:
        self.path = path
        self.known: dict[bytes, int] = {}  # content -> offset of its record
        blobs = Blobs(path)
        for value in _blob_values(program):
            self.known.setdefault(_content(blobs, blobs.record(value.offset)), value.offset)

    def take(self, program: Any, path: Path) -> None:
        """Let a program read its weights here."""
        blobs = Blobs(path)
        for value in _blob_values(program):
            record = blobs.record(value.offset)
            content = _content(blobs, record)
            if content not in self.known:
                self.known[content] = self._append(record, blobs.data[record.start : record.stop].tobytes())
            value.offset = self.known[content]

    def _append(self, record: Record, data: bytes) -> int:
        """Write a record and its data at the end. Returns the record's offset."""
        with self.path.open("r+b") as file:
            (count,) = struct.unpack("<I", file.read(4))
            offset = -(-self.path.stat().st_size // RECORD_BYTES) * RECORD_BYTES
            file.seek(0)
            file.write(struct.pack("<II", count + 1, VERSION))
            file.seek(offset)
            head = struct.pack("<IIQQQ", SENTINEL, record.number, len(data), offset + RECORD_BYTES, record.padding)
            file.write(head.ljust(RECORD_BYTES, b"\0") + data)
        return offset


def _content(blobs: Blobs, record: Record) -> bytes:
    digest = hashlib.sha256(struct.pack("<IQ", record.number, record.padding))
    digest.update(blobs.data[record.start : record.stop].data)
    return digest.digest()


def _blob_values(program: Any) -> Iterator[Any]:
    """The references to weights in a program."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                arguments = [one.value for found in operation.inputs.values() for one in found.arguments]
                for value in (*operation.attributes.values(), *arguments):
                    if value.HasField("blobFileValue"):
                        yield value.blobFileValue
