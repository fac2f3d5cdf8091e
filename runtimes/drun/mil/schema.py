"""The messages of a Core ML model that holds an ML Program: the part of Apple's schema that such a model uses.

Names and numbers are those of Model.proto, FeatureTypes.proto and MIL.proto, which coremltools publishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drun.protobuf import Message, Numbers, boolean, integer, message, messages, numbers, raw, table, text, texts

# ---- types ----------------------------------------------------------------------------------------------


@dataclass
class ConstantDimension(Message):
    size: int = integer(1)


@dataclass
class UnknownDimension(Message):
    variadic: bool = boolean(1)


@dataclass
class Dimension(Message):
    constant: ConstantDimension | None = message(1, ConstantDimension)
    unknown: UnknownDimension | None = message(2, UnknownDimension)


@dataclass
class TensorTypeMessage(Message):
    data_type: int = integer(1)
    rank: int = integer(2)
    dimensions: list[Dimension] = messages(3, Dimension)


@dataclass
class ListType(Message):
    type: ValueType | None = message(1, lambda: ValueType)
    length: Dimension | None = message(2, Dimension)


@dataclass
class TupleType(Message):
    types: list[ValueType] = messages(1, lambda: ValueType)


@dataclass
class DictionaryType(Message):
    key_type: ValueType | None = message(1, lambda: ValueType)
    value_type: ValueType | None = message(2, lambda: ValueType)


@dataclass
class StateType(Message):
    wrapped_type: ValueType | None = message(1, lambda: ValueType)


@dataclass
class ValueType(Message):
    tensor: TensorTypeMessage | None = message(1, TensorTypeMessage)
    list: ListType | None = message(2, ListType)
    tuple: TupleType | None = message(3, TupleType)
    dictionary: DictionaryType | None = message(4, DictionaryType)
    state: StateType | None = message(5, StateType)


@dataclass
class NamedValueType(Message):
    name: str = text(1)
    type: ValueType | None = message(2, ValueType)


# ---- values ---------------------------------------------------------------------------------------------


@dataclass
class Floats(Message):
    values: Numbers = numbers(1, "float32")


@dataclass
class Doubles(Message):
    values: Numbers = numbers(1, "float64")


@dataclass
class Integers(Message):
    values: Numbers = numbers(1, "varint")


@dataclass
class Strings(Message):
    values: list[str] = texts(1)


@dataclass
class Bytes(Message):
    values: bytes = raw(1)


@dataclass
class TensorValue(Message):
    floats: Floats | None = message(1, Floats)
    integers: Integers | None = message(2, Integers)
    booleans: Integers | None = message(3, Integers)
    strings: Strings | None = message(4, Strings)
    long_integers: Integers | None = message(5, Integers)
    doubles: Doubles | None = message(6, Doubles)
    bytes: Bytes | None = message(7, Bytes)


@dataclass
class Values(Message):
    """A tuple or a list."""

    values: list[Value] = messages(1, lambda: Value)


@dataclass
class KeyValue(Message):
    key: Value | None = message(1, lambda: Value)
    value: Value | None = message(2, lambda: Value)


@dataclass
class DictionaryValue(Message):
    values: list[KeyValue] = messages(1, KeyValue)


@dataclass
class ImmediateValue(Message):
    tensor: TensorValue | None = message(1, TensorValue)
    tuple: Values | None = message(2, Values)
    list: Values | None = message(3, Values)
    dictionary: DictionaryValue | None = message(4, DictionaryValue)


@dataclass
class BlobFileValue(Message):
    file_name: str = text(1)
    offset: int = integer(2)


@dataclass
class Value(Message):
    doc_string: str = text(1)
    type: ValueType | None = message(2, ValueType)
    immediate: ImmediateValue | None = message(3, ImmediateValue)
    blob: BlobFileValue | None = message(5, BlobFileValue)


# ---- programs -------------------------------------------------------------------------------------------


@dataclass
class Binding(Message):
    name: str | None = text(1, None)
    value: Value | None = message(2, Value)


@dataclass
class Argument(Message):
    bindings: list[Binding] = messages(1, Binding)


@dataclass
class Operation(Message):
    type: str = text(1)
    inputs: dict[str, Argument] = table(2, Argument)
    outputs: list[NamedValueType] = messages(3, NamedValueType)
    blocks: list[ProgramBlock] = messages(4, lambda: ProgramBlock)
    attributes: dict[str, Value] = table(5, Value)


@dataclass
class ProgramBlock(Message):
    inputs: list[NamedValueType] = messages(1, NamedValueType)
    outputs: list[str] = texts(2)
    operations: list[Operation] = messages(3, Operation)
    attributes: dict[str, Value] = table(4, Value)


@dataclass
class Function(Message):
    inputs: list[NamedValueType] = messages(1, NamedValueType)
    opset: str = text(2)
    blocks: dict[str, ProgramBlock] = table(3, ProgramBlock)  # opset -> block
    attributes: dict[str, Value] = table(4, Value)


@dataclass
class Program(Message):
    version: int = integer(1)
    functions: dict[str, Function] = table(2, Function)
    doc_string: str = text(3)
    attributes: dict[str, Value] = table(4, Value)


# ---- the model around it --------------------------------------------------------------------------------


@dataclass
class ArrayFeature(Message):
    is_strict: ClassVar[bool] = False
    shape: Numbers = numbers(1, "varint")
    data_type: int = integer(2)


@dataclass
class FeatureType(Message):
    is_strict: ClassVar[bool] = False
    array: ArrayFeature | None = message(5, ArrayFeature)


@dataclass
class Feature(Message):
    is_strict: ClassVar[bool] = False
    name: str = text(1)
    type: FeatureType | None = message(3, FeatureType)


@dataclass
class FunctionDescription(Message):
    is_strict: ClassVar[bool] = False
    name: str = text(1)
    inputs: list[Feature] = messages(2, Feature)
    outputs: list[Feature] = messages(3, Feature)


@dataclass
class Metadata(Message):
    is_strict: ClassVar[bool] = False
    user_defined: dict[str, str] = table(100, None)


@dataclass
class Description(Message):
    is_strict: ClassVar[bool] = False
    inputs: list[Feature] = messages(1, Feature)
    outputs: list[Feature] = messages(10, Feature)
    functions: list[FunctionDescription] = messages(20, FunctionDescription)
    default_function: str = text(21)
    metadata: Metadata | None = message(100, Metadata)


@dataclass
class ModelMessage(Message):
    is_strict: ClassVar[bool] = False
    specification_version: int = integer(1)
    description: Description | None = message(2, Description)
    program: Program | None = message(502, Program)
