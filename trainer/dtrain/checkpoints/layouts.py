"""The content of a checkpoint file of any origin: state dicts, and the values beside them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from drun.errors import CheckpointError
from dtrain import models
from dtrain.checkpoints import ours
from dtrain.checkpoints.fit import check_state
from dtrain.checkpoints.tensors import read_tensors
from dtrain.models import Network

#: Prefixes that wrappers of networks put before every key.
PREFIXES = ("module.", "_orig_mod.", "ema_model.", "online_model.", "model.")
#: The keys under which training checkpoints keep their weights.
PLACES = {"ema": "ema", "online": "model"}
#: Names of the state dicts that the authors of DiT and SiT publish: averaged weights.
PUBLISHED = re.compile(r"(dit|sit)-(s|b|l|xl)-\d+-\d+(x\d+)?", re.IGNORECASE)

State = dict[str, Tensor]


@dataclass(frozen=True)
class Held:
    """The content of a file that is not ours."""

    path: Path
    layout: str  # for people
    states: Mapping[str, Mapping[str, Any]]  # by ema | online; a bare file has one of them
    args: Mapping[str, Any] = field(default_factory=dict)  # the arguments of the script that trained it
    tables: State = field(default_factory=dict)  # tensors that belong to neither network
    step: int = 0

    @property
    def is_bare(self) -> bool:
        return self.layout == "a bare state dict"


def read(path: Path) -> Any:
    """The content of a checkpoint, of which nothing but tensors, numbers, strings and a Namespace is built.

    Raises:
        CheckpointError: unreadable, damaged, or asking for another class.
    """
    content = read_tensors(path, allowed=(argparse.Namespace,))
    if ours.is_ours(content):
        ours.check_digest(content, path)
    return content


def unpack(content: Any, path: Path) -> Held:
    """Sort the content of a training checkpoint or a bare state dict.

    Raises:
        CheckpointError: the file holds no dictionary.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' holds {type(content).__name__}, expected a dictionary of tensors")
    inner = {kind: content[key] for kind, key in PLACES.items() if isinstance(content.get(key), Mapping)}
    if not inner:
        kind = "ema" if _is_published(path, content) else "online"
        return Held(path, "a bare state dict", {kind: content})
    states = {kind: _averaged(state) if kind == "ema" else state for kind, state in inner.items()}
    args = content.get("args")
    arguments = vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, Mapping) else {}
    return Held(
        path, "a training checkpoint", states, arguments, strip(inner.get("ema", {})), _step(content, path, arguments)
    )


@dataclass(frozen=True)
class Selection:
    """The weights of one network in a file that is not ours."""

    held: Held
    weights: str  # ema | online
    state: State  # with the network's own keys
    reasons: tuple[str, ...]  # where they come from


def select(held: Held, weights: str) -> Selection:
    """The weights `ema` or `online` of a file.

    If there are no averaged weights, the online weights take their place. The weights of a bare file are taken as they
    are.

    Raises:
        CheckpointError: online weights are asked for, and there are averaged ones only.
    """
    if held.is_bare:
        ((taken, state),) = held.states.items()
        note = ", of averaged weights by its file name" if taken == "ema" else ""
        return Selection(held, taken, strip(state), (f"{held.layout}{note}",))
    taken = weights if weights in held.states else "online"
    if taken not in held.states:
        raise CheckpointError(f"'{held.path}' holds no online weights, only averaged ones: use --weights ema")
    note = "" if taken == weights else ", which has no averaged weights"
    return Selection(held, taken, strip(held.states[taken]), (f"'{PLACES[taken]}' of {held.layout}{note}",))


def strip(state: Mapping[Any, Any]) -> State:
    """The tensors under keys without the prefixes of wrappers; other values are dropped."""
    bare = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            continue
        while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), None):
            key = key.removeprefix(prefix)
        bare[key] = value
    return bare


def network_of(config: Mapping[str, Any], state: Mapping[str, Any], name: str) -> Network:
    """A network in eval mode and float32 with exactly these weights.

    Its weights are the tensors of `state` themselves where these are float32, so they may be memory maps of a file.

    Raises:
        CheckpointError: naming the first weight that does not fit. ConfigError: the configuration makes no network.
    """
    # To initialise or copy the weights of a large network would take as long as to read them, and twice the memory.
    network = models.outline(config)
    expected = network.state_dict()
    check_state(state, expected, name)
    weights = {key: state[key].to(own.dtype).contiguous() for key, own in expected.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _averaged(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The article's averager keeps both networks in one state dict."""
    return {key: value for key, value in state.items() if str(key).startswith("ema_model.")} or state


def _is_published(path: Path, content: Mapping[str, Any]) -> bool:
    """REPA's file is called `last.pt`."""
    is_repa = path.stem == "last" and any(str(key).startswith("projectors.") for key in content)
    return is_repa or PUBLISHED.fullmatch(path.stem) is not None


def _step(content: Mapping[str, Any], path: Path, args: Mapping[str, Any]) -> int:
    """The training step that the file states. DiT and SiT write it only into the name of the file."""
    steps = [value for key in ("step", "steps") if isinstance(value := content.get(key), int)]
    return steps[0] if steps else int(path.stem) if args and path.stem.isdecimal() else 0
