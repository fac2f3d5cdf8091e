"""An .mlpackage: what coremltools wrote, and what a stranger may have."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Case, library, write

from drun.errors import BundleError
from drun.mil.executor import Executor
from drun.mil.package import Package

WEIGHT = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Case("linear", lambda mb, a: mb.linear(x=a, weight=WEIGHT), [np.zeros((1, 40), np.float32)])
    return write([case], tmp_path_factory.mktemp("package")).folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "some.mlpackage")


def test_it_is_what_coremltools_reads(folder: Path) -> None:
    package = Package(folder)
    theirs = library().models.MLModel(str(folder), skip_model_load=True).get_spec()
    assert package.model.specification_version == theirs.specificationVersion
    assert [one.name for one in package.description.inputs] == [one.name for one in theirs.description.input]
    operations = [one.type for one in next(iter(package.program.functions["main"].blocks.values())).operations]
    assert operations == [
        one.type for one in theirs.mlProgram.functions["main"].block_specializations["CoreML8"].operations
    ]
    assert package.metadata == dict(theirs.description.metadata.userDefined)
    assert [path.name for path in package.files] == ["Manifest.json", "model.mlmodel"]
    Executor(package)
    assert [path.name for path in package.files] == ["Manifest.json", "model.mlmodel", "weight.bin"]


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        Executor(Package(folder))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def manifest(folder: Path, **changes: Any) -> None:
    path = folder / "Manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("outside", ["../../outside", "/etc/passwd", "a/../../../outside", "link"])
def test_a_manifest_that_points_outside_is_refused(folder: Path, outside: str) -> None:
    (folder.parent / "outside").write_bytes(b"secret")
    (folder / "Data" / "link").symlink_to(folder.parent / "outside")
    manifest(folder, itemInfoEntries={"a": {"path": outside}}, rootModelIdentifier="a")
    refused(folder, rf"it names '{outside}', which lies outside of the package; export it again$")


def test_another_entry_that_points_outside_is_refused(folder: Path) -> None:
    import json

    stated = json.loads((folder / "Manifest.json").read_text())
    weights = next(key for key in stated["itemInfoEntries"] if key != stated["rootModelIdentifier"])
    stated["itemInfoEntries"][weights]["path"] = "/etc"
    (folder / "Manifest.json").write_text(json.dumps(stated))
    refused(folder, r"it names '/etc', which lies outside of the package; export it again$")


@pytest.mark.parametrize("changes", [{"itemInfoEntries": {}}, {"rootModelIdentifier": 3}, {"rootModelIdentifier": "x"}])
def test_a_manifest_without_a_model_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    manifest(folder, **changes)
    refused(folder, r"^cannot read '.*some\.mlpackage': its Manifest\.json has no entry of its model; export it again$")


@pytest.mark.parametrize("entries", [[], {"a": 3}, {"a": {}}, {"a": {"path": 7}}])
def test_a_manifest_without_paths_is_refused(folder: Path, entries: Any) -> None:
    manifest(folder, itemInfoEntries=entries)
    refused(
        folder, r"^cannot read '.*some\.mlpackage': its Manifest\.json has an entry without a path; export it again$"
    )


def test_what_is_no_file_is_refused(folder: Path) -> None:
    model = Package(folder).path
    model.unlink()
    model.mkdir()
    refused(folder, "it is a folder, expected a file")
    model.rmdir()
    os.mkfifo(model)
    refused(folder, "it is a pipe or a device, expected a file")


def test_what_is_missing_or_empty_is_refused(folder: Path) -> None:
    model = Package(folder).path
    content = model.read_bytes()
    model.write_bytes(b"")
    refused(folder, "it holds no ML Program, specification 0")
    model.write_bytes(content[:-7])
    refused(folder, "cut short|wire type|unknown field|expected|lacks")
    (model.parent / "weights" / "weight.bin").write_bytes(b"\0" * 40)
    model.write_bytes(content)
    refused(folder, r"'weight\.bin' is cut short")
    (model.parent / "weights" / "weight.bin").unlink()
    refused(folder, "there is no such file")
    model.unlink()
    refused(folder, "there is no such file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: setattr(model, "specificationVersion", 99),
            r"it is of specification 99, and 10 is the newest that is known: update dexport$",
        ),
        (
            lambda model: setattr(model.mlProgram, "version", 77),
            r"it is of version of ML Programs 77, and 1 is the newest that is known: update dexport$",
        ),
        (
            lambda model: setattr(model.mlProgram, "version", 0),
            r"its program has version 0, expected 1; export it again$",
        ),
        (
            lambda model: model.mlProgram.attributes["fast"].SetInParent(),
            r"its program has the attribute 'fast', which is not known; export it again$",
        ),
    ],
)
def test_what_is_not_known_is_refused(folder: Path, change: Any, message: str) -> None:
    model = Package(folder).path
    content = library().models.MLModel(str(folder), skip_model_load=True).get_spec()
    change(content)
    model.write_bytes(content.SerializeToString())
    refused(folder, message)


def test_weights_outside_of_the_package_are_refused(folder: Path) -> None:
    (folder.parent / "weight.bin").write_bytes((Package(folder).path.parent / "weights" / "weight.bin").read_bytes())
    for name in ("@model_path/../../../../weight.bin", "/weights/weight.bin", "weights/weight.bin"):
        message = library().models.MLModel(str(folder), skip_model_load=True).get_spec()
        block = message.mlProgram.functions["main"].block_specializations["CoreML8"]
        blobs = [
            one.attributes["val"].blobFileValue
            for one in block.operations
            if one.attributes["val"].blobFileValue.fileName
        ]
        assert blobs
        for blob in blobs:
            blob.fileName = name
        Package(folder).path.write_bytes(message.SerializeToString())
        refused(folder, r"it names (the file )?'.*weight\.bin'")
