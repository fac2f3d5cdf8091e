"""The class that each sample shows. Like its noise, the label of sample i depends on nothing but (seed, i)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drun.bundle.card import Classes
from drun.errors import ConfigError

Labels = NDArray[np.int64]

#: The most names that are offered for a name that no class has.
MAX_NAMES = 12


def choose(
    spec: str | None, indices: Sequence[int], classes: Classes | None, seed: int, guided: bool = False
) -> Labels | None:
    """The labels of the samples `indices`: (N,) int64, or None for an unconditional model.

    Args:
        spec: `balanced` (the default), `random`, or names or numbers such as `pullover,207`, repeated in turn. A class
            name is preferred to the number that it may look like.

    Raises:
        ConfigError: labels or guidance for a model that cannot take them, or a label that is not one of its classes.
    """
    if classes is None:
        if spec is not None or guided:
            raise ConfigError("this model is unconditional: leave out --labels and --cfg")
        return None
    if guided and classes.null_label is None:
        raise ConfigError("this model was trained without dropping labels, so it cannot be guided: leave out --cfg")
    repeated = in_turn(spec, classes)
    if repeated is None:
        return np.array([_random_label(seed, i, classes.count) for i in indices], np.int64)
    return np.array([repeated[i % len(repeated)] for i in indices], np.int64)


def as_spec(chosen: Sequence[int | str] | int | str | None, classes: Classes | None) -> str | None:
    """The classes that a program lists, in the form that `choose` takes. Raises ConfigError as `choose` does."""
    if chosen is None or isinstance(chosen, str):
        return chosen
    if hasattr(chosen, "__index__"):  # one number, also of numpy
        return str(int(chosen))
    if classes is None:
        return ",".join(map(str, chosen))
    return ",".join(str(number) for one in chosen for number in _numbers(str(one), classes))


def in_turn(spec: str | None, classes: Classes) -> Sequence[int] | None:
    """The labels that the samples repeat in turn; None for random ones. Raises ConfigError as `choose` does."""
    if spec in (None, "balanced"):
        return range(classes.count)
    return None if spec == "random" else _numbers(str(spec), classes)


def _numbers(spec: str, classes: Classes) -> list[int]:
    """The numbers of the classes that `a,b` or `1,7` names."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(classes.names):
        numbers.setdefault(name, number)  # classes without images are called by their numbers, as folders may be, too
    if spec in numbers:  # names may hold commas
        return [numbers[spec]]
    return [_number(label.strip(), numbers, classes.count) for label in spec.split(",")]


def _number(label: str, numbers: Mapping[str, int], count: int) -> int:
    if label in numbers:
        return numbers[label]
    if re.fullmatch("[0-9]{1,8}", label) and int(label) < count:
        return int(label)
    names = f", or names such as {', '.join(_nearest(label, numbers))}" if numbers else ""
    raise ConfigError(f"--labels got '{label}', expected balanced, random, or numbers from 0 to {count - 1}{names}")


def _nearest(label: str, numbers: Mapping[str, int]) -> list[str]:
    """All names if there are few, else the most similar ones."""
    if len(numbers) <= MAX_NAMES:
        return list(numbers)
    return difflib.get_close_matches(label, numbers, MAX_NAMES, cutoff=0.5) or list(numbers)[:MAX_NAMES]


def _random_label(seed: int, index: int, count: int) -> int:
    # The last 64-bit word of the counter keeps this draw apart from the noise of `drun.diffusion.noise`.
    words = np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, 1]).random_raw(1)
    return int(words[0] % np.uint64(count))
