"""Converts values of JSON or TOML into annotated types: dataclasses, typed dictionaries, tuples, numbers and text."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

#: Whole numbers are kept where every runtime can hold them.
MAX_INTEGER = 2**63 - 1
TITLES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def typed(kind: Any, value: Any, name: str) -> Any:
    """A value as the annotated type `kind`; whole numbers may stand for floats.

    Args:
        kind: a dataclass, TypedDict, tuple[...], dict[str, ...], `X | None`, int, float, bool, str, or a union of these
            last.
        name: for messages, such as `manifest.data.shape`.

    Raises:
        ValueError: it is of another type, not finite, or beyond 64 bits; the message gives its name.
    """
    arguments = get_args(kind)
    if NoneType in arguments and value is None:
        return None
    if NoneType in arguments and len(arguments) == 2:
        return typed(arguments[0], value, name)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return _fields(kind, value, name)
    if get_origin(kind) is tuple:
        return _tuple(arguments, value, name)
    if get_origin(kind) is dict:
        return {key: typed(arguments[1], item, f"{name}.{key}") for key, item in _plain(dict, value, name).items()}
    return value if kind is Any else _scalar(arguments or (kind,), value, name)


def _scalar(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    for kind in kinds:
        if kind is float and type(value) in (int, float) and int not in kinds:
            return float(_in_range(value, name))
        if type(value) is kind:
            return _in_range(value, name) if kind in (int, float) else value
    raise ValueError(f"{name} got {_shown(value)}, expected {' or '.join(_title(kind) for kind in kinds)}")


def _in_range(value: Any, name: str) -> Any:
    if not -MAX_INTEGER <= value <= MAX_INTEGER if type(value) is int else not math.isfinite(value):
        raise ValueError(f"{name} got {_shown(value)}, expected a finite number below 2^63")
    return value


def _plain(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} got {_shown(value)}, expected {kind.__name__}")
    return value


def _fields(kind: Any, value: Any, name: str) -> Any:
    fields = _plain(dict, value, name)
    kinds = get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    else:
        required = set(kind.__required_keys__)
    if missing := sorted(required - fields.keys()):
        raise ValueError(f"{name or 'it'} lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - kinds.keys()):
        raise ValueError(f"{name or 'it'} has an unknown field {unknown[0]!r:.40}, expected {', '.join(kinds)}")
    return kind(**{key: typed(kinds[key], item, f"{name}.{key}".lstrip(".")) for key, item in fields.items()})


def _tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    items = _plain(list, value, name)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        raise ValueError(f"{name} has {len(items)} values, expected {len(kinds)}")
    return tuple(typed(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _title(kind: Any) -> str:
    return TITLES.get(kind) or str(kind.__name__)


def _shown(value: Any) -> str:
    return f"{value!r:.40}" if type(value) is not int or abs(value) <= MAX_INTEGER else "a huge number"
