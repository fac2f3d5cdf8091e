"""The sections of a recipe as frozen dataclasses: the settings, their meanings and their allowed values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

from drun.errors import ConfigError

#: The most images of a preview, which are drawn in one batch.
MAX_PREVIEWS = 1024


@dataclass(frozen=True)
class Setting:
    """The meaning of a field with its unit, and the words or numbers that it takes."""

    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def check(self, key: str, value: Any) -> None:
        """Raises ConfigError for a value that the field does not take; the values of a tuple are checked one by one."""
        for item in value if isinstance(value, tuple) else (value,):
            if self.choices and item not in self.choices:
                raise ConfigError(f"{key} got '{item}', expected one of {', '.join(self.choices)}")
            if isinstance(item, int | float) and not self._takes(item):
                raise ConfigError(f"{key} got {item}, expected {self._range()}")

    def _takes(self, number: float) -> bool:
        return self.least <= number <= self.most and self.above < number < self.below

    def _range(self) -> str:
        if self.below < math.inf:
            return f"{self.least:g} up to, not including, {self.below:g}"
        if self.most < math.inf:
            return f"{self.least:g} to {self.most:g}"
        return f"at least {self.least:g}" if self.least > -math.inf else f"above {self.above:g}"


@dataclass(frozen=True)
class Data:
    image_size: Annotated[int, Setting("side of the images, pixels", least=1)]
    source: Annotated[
        str, Setting("digits, a folder, .zip, .npy, .npz or idx file of images, or latents; --data sets it")
    ] = ""
    augment: Annotated[
        tuple[str, ...],
        Setting(
            "random symmetries of the images; latents of dtrain encode --flip have hflip alone",
            choices=("hflip", "vflip", "rot90"),
        ),
    ] = ()
    label_dropout: Annotated[
        float, Setting('share of labels replaced by "no class": guidance needs it, usually 0.1', least=0, below=1)
    ] = 0.0
    # KNOWN_FROM_DATA:
    latent: dict[str, Any] = field(default_factory=dict)  # vae, scale, bias
    class_names: tuple[str, ...] = ()  # names of the labels 0, 1, ..., if the data has names
    num_images: int = 0
    fingerprint: str = ""  # of the images


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov & Hutter 2019)."""

    learning_rate: Annotated[float, Setting("highest learning rate of AdamW", above=0)] = 1e-4
    betas: Annotated[tuple[float, float], Setting("decay rates of AdamW's moments", least=0, below=1)] = (0.9, 0.99)
    weight_decay: Annotated[float, Setting("weight decay of AdamW", least=0)] = 0.01
    warmup_steps: Annotated[int, Setting("steps over which the rate rises from 0", least=0)] = 0
    decay_share: Annotated[
        float, Setting("last share of the run, in which the rate falls to 0 as a cosine", least=0, most=1)
    ] = 0.0
    grad_clip: Annotated[float, Setting("largest gradient norm; 0 is off", least=0)] = 0.0


@dataclass(frozen=True)
class Ema:
    """The average of the weights that is exported."""

    law: Annotated[
        str, Setting("ramp is EDM's, warmup the aerial-imagery article's", choices=("ramp", "warmup", "constant"))
    ] = "ramp"
    decay: Annotated[float, Setting("share of the old average kept at an update, at most", least=0, below=1)] = 0.9999
    every: Annotated[int, Setting("steps between updates", least=1)] = 1


@dataclass(frozen=True)
class Train:
    steps: Annotated[int, Setting("updates of the weights", least=1)]
    batch_size: Annotated[int, Setting("images in a step, over all processes", least=1)]
    seed: Annotated[int, Setting("seed of every random number", least=0)] = 0
    accumulate: Annotated[int, Setting("parts in which a process computes its share of a batch", least=1)] = 1
    precision: Annotated[
        str, Setting("precision of the arithmetic; weights stay fp32", choices=("auto", "fp32", "bf16", "fp16"))
    ] = "auto"
    compile: Annotated[str, Setting("torch.compile", choices=("auto", "on", "off"))] = "auto"
    log_every: Annotated[int, Setting("steps between lines of log.jsonl", least=1)] = 20
    save_every: Annotated[int, Setting("steps between checkpoints", least=1)] = 1000
    preview_every: Annotated[int, Setting("steps between previews", least=1)] = 1000
    num_previews: Annotated[int, Setting("images of a preview", least=1, most=MAX_PREVIEWS)] = 16
    preview_steps: Annotated[int, Setting("DDIM steps of a preview", least=1)] = 50
    keep_checkpoints: Annotated[int, Setting("newest checkpoints that are kept", least=1)] = 3


@dataclass(frozen=True)
class Recipe:
    name: str
    model: dict[str, Any]  # see dtrain.models.build
    process: dict[str, Any]  # see drun.diffusion.process
    objective: dict[str, Any]  # `name` and the options of dtrain.objectives.<name>
    data: Data
    train: Train
    optimizer: Optimizer = field(default_factory=Optimizer)
    ema: Ema = field(default_factory=Ema)

    def __post_init__(self) -> None:
        for section in ("model", "process", "objective"):
            _check_plain(section, getattr(self, section))
        _check_plain("data.latent", self.data.latent)
        if "\0" in self.data.source:
            raise ConfigError("data.source holds a NUL character, expected the path of a file or folder")
        if not self.name or not self.name.isprintable() or "/" in self.name:
            raise ConfigError(f"a recipe's name got {self.name!r:.40}, expected text without slashes")
        for section, kind in SECTIONS.items():
            for key, setting in settings_of(kind).items():
                setting.check(f"{section}.{key}", getattr(getattr(self, section), key))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


#: The sections with fixed settings. Those of model, process and objective follow from their name or kind.
SECTIONS: dict[str, type[Any]] = {"data": Data, "optimizer": Optimizer, "ema": Ema, "train": Train}


def settings_of(kind: type[Any]) -> dict[str, Setting]:
    """The settings of a section that the user may change, by key, without those that a run fills in when it starts."""
    hints = get_type_hints(kind, include_extras=True)
    return {key: hint.__metadata__[0] for key, hint in hints.items() if hasattr(hint, "__metadata__")}


#: The settings that a run fills in when it has opened the data.
KNOWN_FROM_DATA = tuple(field.name for field in dataclasses.fields(Data) if field.name not in settings_of(Data))


def plain(value: Any) -> Any:
    """Tuples as lists, as a file has them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_plain(name: str, value: Any) -> None:
    """Raises ConfigError for values that JSON does not have, such as TOML's dates."""
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_plain(f"{name}.{key}", item)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{name} got {value}, expected text, a number, true or false")
