"""The default folder of a run is named by every setting that differs from its default, so that runs do not meet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from drun.settings import SamplingSettings

#: The settings that every name states, without their keys.
ALWAYS = ("sampler", "options", "num_steps", "seed")
#: Longer values, and longer names, are shortened to a digest, characters.
VALUE_LENGTH, TAIL_LENGTH = 24, 120
#: The characters that every file system accepts and no shell interprets.
PLAIN = re.compile(r"[A-Za-z0-9_.,+-]+")


def run_name(backend_id: str, settings: SamplingSettings, usual: Mapping[str, Any], artifact: Mapping[str, str]) -> str:
    """A name such as `ort-ddim-50-seed0-eta=0.5-cfg=1.5`; it is the same for equal settings only.

    Neither the number of images nor the batch is in it: more images of the same settings lie in the same folder.

    Args:
        usual: the sampler's options where the user gives none.
        artifact: how it differs from the bundle's usual artifact, such as {"precision": "fp16"}.
    """
    options = {key: value for key, value in settings.options.items() if value != usual[key]}
    known = fields(SamplingSettings)
    others = {field.name: getattr(settings, field.name) for field in known if field.name not in ALWAYS}
    defaults = {field.name: field.default for field in known}
    changed = {key: value for key, value in others.items() if value != defaults[key]}
    pairs = [*artifact.items(), *options.items(), *changed.items()]
    tail = "".join(f"-{key}={_short(_text(value))}" for key, value in pairs)
    head = f"{backend_id}-{settings.sampler}-{settings.num_steps}-seed{settings.seed}"
    return head + (tail if len(tail) <= TAIL_LENGTH else f"-settings={_digest(tail)}")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH and PLAIN.fullmatch(text) else _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
