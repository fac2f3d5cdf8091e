"""Computes a function of a program, operation by operation.

Each result is held until its last reader, and checked against its declared type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import numpy as np

from drun.errors import BundleError, door
from drun.mil import plan, schema
from drun.mil.constants import constant
from drun.mil.numerics import Numerics, half
from drun.mil.ops import CONTEXT, converted, find
from drun.mil.package import Package
from drun.mil.plan import Array, Constant, Instruction, Source
from drun.mil.types import HELD, TensorType, tensor_type

#: The newest opset that is known: of iOS 26 and macOS 26.
NEWEST_OPSET = 9
ADVICE = "export it again, or update dexport"


class Watcher(Protocol):
    def __call__(self, operation: str, name: str, type: TensorType, value: Array, rounded: Array) -> None:
        """Called with each result.

        Args:
            operation: its type, such as conv. name: of the result. value: as it was computed.
            rounded: what later operations read, of the same shape; value itself where nothing is rounded.
        """


def nobody(operation: str, name: str, type: TensorType, value: Array, rounded: Array) -> None:
    """Looks at nothing."""


class Executor:
    """A function of a package.

    Args:
        package: an ML Program.
        function: its name; None: the package's default.
        mode: one of `drun.mil.numerics.MODES`.

    Raises:
        BundleError: there is no such function, it holds what is not known, or its values take too much memory.
    """

    def __init__(self, package: Package, function: str | None = None, mode: str = "declared") -> None:
        self.package, self.mode = package, mode
        self.function = package.default_function if function is None else function
        self.constants: dict[str, Constant] = {}
        self.instructions: list[Instruction] = []
        with door(f"cannot compute '{package.folder}'", BundleError, ADVICE):
            stated, self.opset, block = self._block()
            self.inputs = {one.name: tensor_type(one.type) for one in stated.inputs}
            self.types = dict(self.inputs)
            for operation in block.operations:
                self._add(operation)
            self.outputs = {name: self._type(name) for name in block.outputs}
            found = [one for instruction in self.instructions for one in instruction.constants]
            plan.keep([*found, *(self.constants[name] for name in self.outputs if name in self.constants)])
            plan.set_last_readers(self.instructions, [*self.outputs])
            plan.check_live_bytes(self.instructions, self.inputs)

    def _block(self) -> tuple[schema.Function, int, schema.ProgramBlock]:
        functions = self.package.program.functions
        if self.function not in functions:
            raise ValueError(f"it has no function '{self.function}', it has {', '.join(sorted(functions))}")
        function = functions[self.function]
        number = re.fullmatch(r"CoreML(\d{1,3})", function.opset)
        if number is None or function.opset not in function.blocks:
            raise ValueError(f"its function '{self.function}' has the opset '{function.opset:.40}'")
        if int(number[1]) > NEWEST_OPSET:
            raise BundleError(
                f"cannot compute '{self.package.folder}': its function '{self.function}' has the opset "
                f"{function.opset}, and CoreML{NEWEST_OPSET} is the newest that is known: update dexport"
            )
        block = function.blocks[function.opset]
        _check_signature(self.function, function, block)
        return function, int(number[1]), block

    def _type(self, name: str) -> TensorType:
        found = self.types.get(name) or (self.constants[name].type if name in self.constants else None)
        if found is None:
            raise ValueError(f"'{name}' is read before it is computed")
        return found

    @property
    def kept_bytes(self) -> int:
        """Of the constants that stay in memory after the first run."""
        found = {id(one): one for instruction in self.instructions for one in instruction.constants}
        return sum(one.num_bytes for one in found.values() if one.is_kept)

    # ---- the plan ---------------------------------------------------------------------------------------

    def _add(self, operation: schema.Operation) -> None:
        outputs = tuple((one.name, tensor_type(one.type)) for one in operation.outputs)
        if not outputs:
            raise ValueError(f"an operation '{operation.type}' has no results")
        names = [name for name, _ in outputs]
        for name in names:
            if name in self.types or name in self.constants or names.count(name) > 1:
                raise ValueError(f"'{name}' is computed twice")
        if operation.type == "const":
            self._add_constant(operation, *outputs[0])
            return
        instruction = self._step(operation, outputs)
        if operation.type.startswith("constexpr_"):
            self._add_compressed(instruction)
        else:
            self.instructions.append(instruction)
            self.types.update(outputs)

    def _add_constant(self, operation: schema.Operation, name: str, type: TensorType) -> None:
        value = operation.attributes.get("val")
        if value is None or tensor_type(value.type) != type:
            raise ValueError(f"the constant '{name}' has no value of its type {type}")
        self.constants[name] = self._constant(value)

    def _constant(self, value: schema.Value) -> Constant:
        type = tensor_type(value.type)
        made = Constant(type, lambda: constant(value, self.package)[1])
        if value.blob is None:
            made.get()  # so that damage is found when the package is opened
        else:
            self.package.blobs(value.blob.file_name).content(value.blob.offset, type)
        return made

    def _add_compressed(self, instruction: Instruction) -> None:
        """A constant in fewer bits is one more constant; where there are two results both are made of one value."""
        compressions = 1 + max((one.compressions for one in instruction.constants), default=0)
        if compressions > plan.MAX_COMPRESSIONS:
            raise ValueError(f"{instruction.what} is compressed over {plan.MAX_COMPRESSIONS} times")
        for place, (name, type) in enumerate(instruction.outputs):
            make = partial(self._part, instruction, place)
            self.constants[name] = Constant(type, make, compressions)

    def _part(self, instruction: Instruction, place: int) -> Array:
        return self._compute(instruction, {})[place]

    def _step(self, operation: schema.Operation, outputs: tuple[tuple[str, TensorType], ...]) -> Instruction:
        operator = find(operation.type, self.opset)
        what = f"'{outputs[0][0]}' ({operation.type})"
        if operation.blocks:
            raise ValueError(f"{what} has blocks, which are not known")
        arguments = {name: self._argument(found) for name, found in operation.inputs.items()}
        stated = {name: value for name, value in operation.attributes.items() if name != "name"}
        if operation.type.startswith("constexpr_"):  # of iOS 16 and 17
            arguments |= {name: self._constant(value) for name, value in stated.items()}
            stated = {}
        known = {name: one for name, one in operator.parameters.items() if name not in CONTEXT}
        if unknown := [*(arguments.keys() - known.keys()), *stated]:
            raise ValueError(f"{what} has the parameter '{unknown[0]}', which is not known")
        if missing := [n for n, one in known.items() if one.default is one.empty and n not in arguments]:
            raise ValueError(f"{what} lacks the parameter '{missing[0]}'")
        types = tuple(type for _, type in outputs)
        numerics = Numerics(self.mode == "strict16" and types[0].dtype == "fp16")
        context = {"numerics": numerics, "outputs": types}
        wanted = {name: context[name] for name in operator.parameters if name in CONTEXT}
        for name, one in known.items():
            if str(one.annotation) == "Arrays" and name in arguments and not isinstance(arguments[name], list):
                arguments[name] = [arguments[name]]  # type: ignore[list-item]
        return Instruction(outputs[0][0], operator, arguments, outputs, wanted)

    def _argument(self, argument: schema.Argument) -> Source | list[Source]:
        found = [self._source(one) for one in argument.bindings]
        if not found:
            raise ValueError("an argument has no value")
        return found[0] if len(found) == 1 else found

    def _source(self, binding: schema.Binding) -> Source:
        if binding.value is not None:
            return self._constant(binding.value)
        if binding.name is None:
            raise ValueError("an argument has neither a name nor a value")
        self._type(binding.name)
        return self.constants.get(binding.name, binding.name)

    # ---- the run ----------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Array], watcher: Watcher = nobody) -> dict[str, Array]:
        """Compute the function.

        Args:
            inputs: name -> array, of the shape and type that `inputs` says; floats are float32.

        Returns:
            name -> array, floats as float32.

        Raises:
            BundleError: an input is missing or of another type, an operation cannot compute its inputs, or has another
            result than it declares.
        """
        wanted = ", ".join(f"{name} {type}" for name, type in self.inputs.items())
        with self._door("", f"give {wanted}"):
            values = {name: _fitting(inputs[name], type, f"the input '{name}'") for name, type in self.inputs.items()}
        for instruction in self.instructions:
            with self._door(f"{instruction.what} of "):
                results = self._compute(instruction, values, watcher)
            values.update(zip((name for name, _ in instruction.outputs), results, strict=True))
            for name in instruction.last_read:
                del values[name]
        with self._door():
            return {name: values[name] if name in values else self.constants[name].get() for name in self.outputs}

    def _door(self, what: str = "", advice: str = "export it again") -> AbstractContextManager[None]:
        return door(f"cannot compute {what}'{self.package.folder}'", BundleError, advice)

    def _compute(self, instruction: Instruction, values: Mapping[str, Array], watcher: Watcher = nobody) -> list[Array]:
        arguments = {
            name: converted(_value(source, values), instruction.operator.parameters[name])
            for name, source in instruction.arguments.items()
        }
        _check_shape(instruction, arguments)
        with np.errstate(all="ignore"):
            found = instruction.operator.compute(**arguments, **instruction.context)
        results = found if isinstance(found, tuple) else (found,)
        if len(results) != len(instruction.outputs):
            raise ValueError(f"it has {len(results)} results, {len(instruction.outputs)} are declared")
        return [
            self._result(instruction, name, type, result, watcher)
            for (name, type), result in zip(instruction.outputs, results, strict=True)
        ]

    def _result(self, instruction: Instruction, name: str, type: TensorType, value: Array, watcher: Watcher) -> Array:
        value = _fitting(np.asarray(value), type, f"the result '{name}'")
        rounded = half(value) if type.dtype == "fp16" and self.mode != "ideal" else value
        watcher(instruction.operator.name, name, type, value, rounded)
        return rounded


def _check_signature(name: str, function: schema.Function, block: schema.ProgramBlock) -> None:
    """Raises ValueError for what would be passed over, or be read in two ways."""
    inputs = [one.name for one in function.inputs]
    for what, found in (("input", inputs), ("output", block.outputs)):
        if len({*found}) < len(found):
            raise ValueError(f"its function '{name}' has two {what}s of one name")
    if not block.outputs:
        raise ValueError(f"its function '{name}' has no outputs")
    if block.inputs:
        raise ValueError(f"the block of its function '{name}' has inputs, which are not known")
    if unknown := [*function.attributes, *block.attributes]:
        raise ValueError(f"its function '{name}' has the attribute '{unknown[0]}', which is not known")


def _check_shape(instruction: Instruction, arguments: Mapping[str, Any]) -> None:
    """Raises ValueError if an operation would make a larger array than it declares, before it is made."""
    if instruction.operator.shape is None:
        return
    found = tuple(instruction.operator.shape(**arguments))
    name, type = instruction.outputs[0]
    if found != type.shape:
        raise ValueError(f"the result '{name}' is {found}, declared as {type}")


def _value(source: Source | list[Source], values: Mapping[str, Array]) -> Any:
    if isinstance(source, list):
        return [_value(one, values) for one in source]
    return source.get() if isinstance(source, Constant) else values[source]


def _fitting(value: Array, type: TensorType, what: str) -> Array:
    """The array in the type that holds the declared one. Raises ValueError if it has another shape or kind."""
    held = HELD[type.dtype]
    kinds = {"f": "f", "i": "iu", "u": "iu", "b": "b", "U": "U"}[held.kind]
    if value.shape != type.shape or value.dtype.kind not in kinds:
        raise ValueError(f"{what} is {value.dtype} {value.shape}, declared as {type}")
    return value.astype(held, copy=False)
