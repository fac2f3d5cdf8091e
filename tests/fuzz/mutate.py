"""Ways to damage bytes and plain values, all drawn from one generator."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np

#: What a careless or hostile writer may put in the place of a value.
HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e-300, 1e308, "", "x", "a\0b", "../x",
    "/etc/passwd", "\x1b[2J", "nan", "9" * 5000, "ä" * 300, [], {}, [1] * 5, [[]], {"x": 1}, [[[[[[[[[[1]]]]]]]]]],
)  # fmt: skip


def damage(content: bytes, draw: random.Random) -> bytes:
    """One to three changes of bytes."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(CHANGES)(content, draw)
    return content


def flip(content: bytes, draw: random.Random) -> bytes:
    """One bit."""
    if not content:
        return content
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def _replace(content: bytes, draw: random.Random) -> bytes:
    place = draw.randint(0, len(content))
    return content[:place] + draw.randbytes(draw.randint(1, 8)) + content[place + draw.randint(0, 8) :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randint(0, len(content))]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    start, size = draw.randint(0, len(content)), draw.randint(1, 200)
    return content[: start + size] + content[start:]


def _remove(content: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(content))
    return content[:start] + content[start + draw.randint(1, 200) :]


def _blank(content: bytes, draw: random.Random) -> bytes:
    start, size = draw.randint(0, len(content)), draw.randint(1, 64)
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def _move(content: bytes, draw: random.Random) -> bytes:
    first, second = sorted(draw.randint(0, len(content)) for _ in range(2))
    return content[:first] + content[second:] + content[first:second]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, flip, flip, _replace, _replace, _cut, _repeat, _remove, _blank, _move,
)  # fmt: skip


def change_value(value: Any, draw: random.Random) -> Any:
    """A copy of dictionaries and lists in which one to three values are others, gone, or new."""
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        container = _container(value, draw)
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if not keys or draw.random() < 0.1:
            _add(container, draw)
        elif draw.random() < 0.2:
            del container[draw.choice(keys)]
        else:
            container[draw.choice(keys)] = copy.deepcopy(draw.choice(HOSTILE))
    return value


def _container(value: Any, draw: random.Random) -> Any:
    """Some dictionary or list within."""
    inner = list(value.values() if isinstance(value, dict) else value)
    inner = [item for item in inner if isinstance(item, dict | list) and item]
    return _container(draw.choice(inner), draw) if inner and draw.random() < 0.7 else value


def _add(container: Any, draw: random.Random) -> None:
    if isinstance(container, dict):
        container[str(draw.choice(HOSTILE))] = draw.choice(HOSTILE)
    else:
        container.append(draw.choice(HOSTILE))


def other_array(array: np.ndarray, draw: random.Random) -> Any:
    return draw.choice([
        array.reshape(-1)[:0], array.reshape(-1), np.array(3.0), np.array("x"), np.zeros((2, 2)), np.array([None]),
        array.astype(str), np.full(array.shape, np.nan), np.zeros(array.shape, complex), np.zeros((3, 3), "i1,f4"),
    ])  # fmt: skip


# ---- messages -------------------------------------------------------------------------------------------

#: What may take the place of a number, in any field.
NUMBERS = (-1, 0, 1, 2, 3, 7, 10, 11, 23, 31, 255, 2**15, 2**28, 2**31 - 1, -(2**31))
WORDS = ("", "x", "out", "conv", "const", "a\0b", "../x", "@model_path/weights/weight.bin", "CoreML8", "ä" * 300)


def other_program(content: bytes, draw: random.Random) -> bytes:
    """A Core ML model of which some messages are others."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString(content)
    change_message(model if draw.random() < 0.1 else model.mlProgram, draw)
    return bytes(model.SerializeToString())


def change_message(message: Any, draw: random.Random) -> None:
    """Change one to three fields of a protobuf message, at any depth: they go, come twice, or hold something else."""
    for _ in range(draw.randint(1, 3)):
        _change_field(_within(message, draw), draw)


def _within(message: Any, draw: random.Random) -> Any:
    """Some message in a message."""
    inner = [one for field, value in message.ListFields() if field.message_type for one in _messages(field, value)]
    return _within(draw.choice(inner), draw) if inner and draw.random() < 0.93 else message


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _messages(field: Any, value: Any) -> list[Any]:
    if _is_map(field):
        return [one for one in value.values() if hasattr(one, "ListFields")]
    return list(value) if field.is_repeated else [value]


def _change_field(message: Any, draw: random.Random) -> None:
    found = message.ListFields()
    if not found:
        return
    field, value = draw.choice(found)
    if draw.random() < 0.2:
        message.ClearField(field.name)
    elif _is_map(field):
        _change_map(value, draw)
    elif field.is_repeated:
        _change_list(field, value, draw)
    elif field.message_type is None:
        setattr(message, field.name, _other(field, value, draw))


def _change_map(found: Any, draw: random.Random) -> None:
    """An entry goes, or is like another one."""
    key, other = (draw.choice(list(found)) for _ in range(2))
    if draw.random() < 0.3:
        del found[key]
    elif hasattr(found[key], "CopyFrom"):
        found[draw.choice([key, "fast", "epsilon"])].CopyFrom(found[other])


def _change_list(field: Any, found: Any, draw: random.Random) -> None:
    """An element goes, comes twice, stands elsewhere, or is another one."""
    first, second = (draw.randrange(len(found)) for _ in range(2))
    way = draw.random()
    if way < 0.3:
        del found[first]
    elif way < 0.6:
        found.insert(second, copy.deepcopy(found[first]))
    elif field.message_type is None:
        found[first] = _other(field, found[first], draw)
    else:
        found[first].CopyFrom(copy.deepcopy(found[second]))


def _other(field: Any, value: Any, draw: random.Random) -> Any:
    if isinstance(value, bytes):
        return damage(value, draw)
    if isinstance(value, str):
        return draw.choice(WORDS)
    if isinstance(value, float):
        return draw.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    if isinstance(value, bool):
        return not value
    return draw.choice([one for one in NUMBERS if one >= 0 or field.type in SIGNED])


#: Types of fields in descriptors: int64, int32 and enumerations, which take negative numbers.
SIGNED = (3, 5)
