"""An .mlpackage: a folder with a manifest, the model and its weights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath

from drun.errors import BundleError, door
from drun.foreign import parse_json, regular
from drun.mil import schema
from drun.mil.blobs import Blobs
from drun.mil.types import tensor_type
from drun.protobuf import decode

#: The newest specification that is known: of iOS 26 and macOS 26. The oldest with ML Programs is iOS 15's.
OLDEST, NEWEST = 6, 10
#: Of the program within it; and what may be said of one, which is who made it.
PROGRAM_VERSION, PROGRAM_ATTRIBUTES = 1, ("buildInfo",)
#: The largest model file, bytes. Weights lie beside it.
MAX_MODEL_BYTES = 1 << 28
MANIFEST = "Manifest.json"
#: How a program names the folder of its model.
MODEL_PATH = "@model_path/"


class Package:
    """The model of a package, and its weights.

    Args:
        folder: the .mlpackage.

    Raises:
        BundleError: it is damaged, holds something else than an ML Program, or is newer than what is known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with door(f"cannot read '{folder}'", BundleError, "export it again"):
            self.path = self._model_path()
            if self.path.stat().st_size > MAX_MODEL_BYTES:
                raise ValueError(f"its model has over {MAX_MODEL_BYTES:,} bytes")
            self.model = decode(schema.ModelMessage, self.path.read_bytes())
            self.program, self.description = self._checked()

    def _model_path(self) -> Path:
        manifest = parse_json(regular(self.folder / MANIFEST).read_bytes())
        entries, root = manifest["itemInfoEntries"], manifest["rootModelIdentifier"]
        if not isinstance(entries, dict) or not all(_names_path(entry) for entry in entries.values()):
            raise ValueError(f"its {MANIFEST} has an entry without a path")
        if not isinstance(root, str) or root not in entries:
            raise ValueError(f"its {MANIFEST} has no entry of its model")
        paths = {key: self._inside(self.folder / "Data", entry["path"]) for key, entry in entries.items()}
        return regular(paths[root])

    def _inside(self, base: Path, name: str) -> Path:
        """A place in the package by its name relative to a folder of it. Raises ValueError if it lies elsewhere."""
        parts = PurePosixPath(name)
        path = base / parts
        if parts.is_absolute() or ".." in parts.parts or not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"it names '{name}', which lies outside of the package")
        return path

    def _checked(self) -> tuple[schema.Program, schema.Description]:
        version, program = self.model.specification_version, self.model.program
        if version > NEWEST:
            raise self._newer("specification", version, NEWEST)
        if version < OLDEST or program is None or self.model.description is None:
            raise ValueError(f"it holds no ML Program, specification {version}")
        if program.version > PROGRAM_VERSION:
            raise self._newer("version of ML Programs", program.version, PROGRAM_VERSION)
        if program.version != PROGRAM_VERSION:
            raise ValueError(f"its program has version {program.version}, expected {PROGRAM_VERSION}")
        if unknown := [name for name in program.attributes if name not in PROGRAM_ATTRIBUTES]:
            raise ValueError(f"its program has the attribute '{unknown[0]}', which is not known")
        return program, self.model.description

    def _newer(self, what: str, got: int, newest: int) -> BundleError:
        known = f"{newest} is the newest that is known"
        return BundleError(f"cannot read '{self.folder}': it is of {what} {got}, and {known}: update dexport")

    @cached_property
    def _blobs(self) -> dict[str, Blobs]:
        return {}

    def blobs(self, name: str) -> Blobs:
        """The weights in a file that the program names. Raises ValueError or OSError if there is no such file."""
        if name not in self._blobs:
            if not name.startswith(MODEL_PATH):
                raise ValueError(f"it names the file '{name}', expected one that begins with {MODEL_PATH}")
            self._blobs[name] = Blobs(regular(self._inside(self.path.parent, name.removeprefix(MODEL_PATH))))
        return self._blobs[name]

    @property
    def files(self) -> list[Path]:
        """The files that were read."""
        return [self.folder / MANIFEST, self.path, *(one.path for one in self._blobs.values())]

    def functions_by_batch(self, stated: tuple[int, int]) -> dict[int, str]:
        """images a call -> the function for them.

        Args:
            stated: the smallest and the largest number that the manifest of its bundle says.

        Raises:
            BundleError: they are others, there is no function, or two take as many.
        """
        found: dict[int, str] = {}
        for name, function in self.program.functions.items():
            with door(f"cannot read '{self.folder}'", BundleError, "export it again"):
                shapes = [tensor_type(one.type).shape for one in function.inputs]
            size = next((shape[0] for shape in shapes if shape), 0)
            if size in found or size < 1:
                raise BundleError(f"'{self.folder}' has no function of its own for each batch: export it again")
            found[size] = name
        if not found:
            raise BundleError(f"'{self.folder}' has no functions: export it again")
        if (low := min(found), high := max(found)) != stated:
            raise BundleError(
                f"'{self.folder}' takes {low} to {high} images a call, its manifest says {stated[0]} to {stated[1]}: "
                "export it again"
            )
        return found

    @property
    def operations(self) -> set[str]:
        """The types of the operations."""
        blocks = [block for function in self.program.functions.values() for block in function.blocks.values()]
        return {operation.type for block in blocks for operation in block.operations}

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote of the model."""
        return self.description.metadata.user_defined if self.description.metadata else {}

    @property
    def default_function(self) -> str:
        return self.description.default_function or "main"


def _names_path(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("path"), str)
