"""What a pickle asks for, found by reading its opcodes, which executes nothing: classes, and torch's storages."""

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
#: An object that is of no interest.
OTHER = object()


@dataclass(frozen=True)
class Pickled:
    classes: frozenset[str]      # such as collections.OrderedDict
    storages: dict[str, int]     # name -> bytes


def scan(file: IO[bytes]) -> Pickled:
    """What the next pickle of a file asks for; the file then stands behind it.

    Raises:
        ValueError: it is not a pickle, or names a storage in a way that torch never writes. Other classes, too, for a
        damaged one: to be called behind a door.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(file):
        machine.step(opcode, argument)
    return Pickled(frozenset(machine.classes), machine.storages)


class _Machine:
    """A pickle machine that holds text, numbers and tuples, and builds nothing."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}
        self.classes: set[str] = set()
        self.storages: dict[str, int] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name in PUTS:
            self.memo[argument] = self.stack[-1]
            return
        if name in GETS:
            self.stack.append(self.memo[argument])
            return
        taken = self._take(opcode)
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = taken[0]
        if name == "PERSID":
            raise ValueError("it names a storage as torch never does")
        if name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            self.classes.add(argument.replace(" ", ".") if argument else ".".join(map(str, taken)))
        if name == "BINPERSID":
            self._remember(taken[0])
        self.stack += self._given(opcode, argument, taken)

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[Any]:
        """What an operation takes from the stack; of what lies behind a mark, all."""
        before = opcode.stack_before
        count = len(before)
        if pickletools.markobject in before:
            mark = len(self.stack) - 1 - self.stack[::-1].index(pickletools.markobject)
            count = len(self.stack) - mark + before.index(pickletools.markobject)
        if count > len(self.stack):
            raise ValueError("it is not a pickle: its stack is too short")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return [item for item in taken if item is not pickletools.markobject]

    def _given(self, opcode: pickletools.OpcodeInfo, argument: Any, taken: list[Any]) -> list[Any]:
        """What it leaves there."""
        if opcode.name == "MARK":
            return [pickletools.markobject]
        if opcode.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"):
            return [tuple(taken)]
        if opcode.name in ("DUP", "MEMOIZE"):
            return taken * len(opcode.stack_after)
        if opcode.name == "STACK_GLOBAL":
            return [" ".join(map(str, taken))]
        return [OTHER if argument is None else argument] * len(opcode.stack_after)

    def _remember(self, identity: Any) -> None:
        """torch's ("storage", class, name, device, numbers), and in older files a view."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("it names a storage as torch never does")
        kind, name, numbers = str(identity[1]).split(" ")[-1].split(".")[-1], identity[2], identity[4]
        if kind not in ITEM_BYTES or not isinstance(name, str) or type(numbers) is not int or numbers < 0:
            raise ValueError(f"it has the storage {identity[1:]!r:.80}, expected one of torch's")
        self.storages[name] = max(self.storages.get(name, 0), numbers * ITEM_BYTES[kind])
