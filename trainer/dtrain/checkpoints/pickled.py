"""Finds the classes and torch storages that a pickle asks for by reading its opcodes, which executes nothing."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import IO, Any

#: Bytes of one number in torch's storage classes.
ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8, "UntypedStorage": 1,
}  # fmt: skip
PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
#: The most opcodes; a network of a thousand tensors takes fifty thousand.
MAX_OPERATIONS = 5_000_000
#: Stands for an object that is of no interest.
OTHER = object()


@dataclass(frozen=True)
class Pickled:
    classes: frozenset[str]  # such as collections.OrderedDict
    storages: dict[str, int]  # name -> bytes


def scan(file: IO[bytes]) -> Pickled:
    """The requests of the next pickle of a file, which is read up to the pickle's end.

    Raises:
        ValueError: it is not a pickle, is far too long, or names a class or a storage in a way that torch never does.
        A damaged pickle raises other exceptions, too, so call this behind a door.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_OPERATIONS:
            raise ValueError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        machine.step(opcode, argument)
    return Pickled(frozenset(machine.classes), machine.storages)


class _Machine:
    """A pickle machine that holds text, numbers and tuples, and builds nothing."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack at its marks
        self.memo: dict[Any, Any] = {}
        self.classes: set[str] = set()
        self.storages: dict[str, int] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name == "PERSID":
            raise ValueError("it names a storage as torch never does")
        else:
            self._change(opcode, argument, self._take(opcode))

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[Any]:
        """The objects that an operation takes from the stack; some take all objects above a mark."""
        before = opcode.stack_before
        start = len(self.stack) - len(before)
        if pickletools.markobject in before:
            start = self.marks.pop() - before.index(pickletools.markobject)
        if start < 0:
            raise ValueError("it is not a pickle: its stack is too short")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _change(self, opcode: pickletools.OpcodeInfo, argument: Any, taken: list[Any]) -> None:
        """Put the result of an operation on the stack, and remember what the operation asks for."""
        name = opcode.name
        given = [OTHER if argument is None else argument] * len(opcode.stack_after)
        if name in ("GLOBAL", "INST"):
            self.classes.add(argument.replace(" ", "."))
        elif name == "STACK_GLOBAL":
            given = [self._named(taken)]
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"):
            given = [tuple(taken)]
        elif name in ("DUP", "MEMOIZE"):
            given = taken * len(opcode.stack_after)
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = taken[0]
        elif name == "BINPERSID":
            self._remember(taken[0])
        self.stack += given

    def _named(self, taken: list[Any]) -> str:
        module, name = taken
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names a class by something else than text")
        self.classes.add(f"{module}.{name}")
        return f"{module} {name}"

    def _remember(self, identity: Any) -> None:
        """Remember a storage from torch's ("storage", class, name, device, numbers); older files add a view."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("it names a storage as torch never does")
        _, kind, name, _, numbers = identity[:5]
        if not isinstance(kind, str) or not isinstance(name, str) or type(numbers) is not int or numbers < 0:
            raise ValueError("it names a storage as torch never does")
        if (short := kind.split(" ")[-1].split(".")[-1]) not in ITEM_BYTES:
            raise ValueError(f"it has a storage of {short!r:.40}, expected one of torch's")
        self.storages[name] = max(self.storages.get(name, 0), numbers * ITEM_BYTES[short])
