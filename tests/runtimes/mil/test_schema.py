"""The part of Apple's schema that is read, against coremltools' own."""

from __future__ import annotations

from dataclasses import fields

from drun.mil import schema


def test_the_schema_is_that_of_coremltools() -> None:
    """Each field that is read has the number of a field there."""
    from mil_programs import library

    library()
    from coremltools.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2

    known = {
        **MIL_pb2.DESCRIPTOR.message_types_by_name,
        **Model_pb2.DESCRIPTOR.message_types_by_name,
        "ArrayFeature": FeatureTypes_pb2.DESCRIPTOR.message_types_by_name["ArrayFeatureType"],
    }
    known |= {"ModelMessage": known["Model"], "ProgramBlock": known["Block"], "TensorTypeMessage": known["TensorType"]}
    kinds = (schema.Operation, schema.Function, schema.ProgramBlock, schema.Value, schema.NamedValueType)
    others = (schema.TensorTypeMessage, schema.TensorValue, schema.Program, schema.ListType, schema.ArrayFeature)
    for kind in (*kinds, *others, schema.ModelMessage):
        theirs = {field.number for field in known[kind.__name__].fields}
        ours = {field.metadata["kind"].number for field in fields(kind)}
        assert ours <= theirs, kind.__name__
