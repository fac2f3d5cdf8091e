"""Recipes: what a training run is, as frozen dataclasses read from `recipes/*.toml`. One may extend another.

One precedence: `--set section.key=value`, then the recipe, then the defaults here.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from drun.errors import ConfigError, door
from drun.typed import typed


@dataclass(frozen=True)
class Data:
    image_size: int                    # pixels
    source: str = ""                   # `digits`, a folder, .zip, .npy, .npz or idx file of images, or latents
    augment: tuple[str, ...] = ()      # of hflip, vflip, rot90; of latents hflip, with dtrain encode --flip
    label_dropout: float = 0.0         # share of labels replaced by "no class", for guidance
    # KNOWN_FROM_DATA:
    latent: dict[str, Any] = field(default_factory=dict)  # vae, scale, bias
    class_names: tuple[str, ...] = ()  # of the labels 0, 1, ..., where the data names them
    num_images: int = 0
    fingerprint: str = ""              # of the images


#: What a run fills in when it has opened the data.
KNOWN_FROM_DATA = ("latent", "class_names", "num_images", "fingerprint")


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov & Hutter 2019)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup_steps: int = 0              # the rate rises linearly over these
    decay_share: float = 0.0           # and falls to zero over this last share of the run, as a cosine
    grad_clip: float = 0.0             # largest gradient norm; 0 is off


@dataclass(frozen=True)
class Ema:
    law: str = "ramp"                  # ramp (EDM's) | warmup (the aerial-imagery article's) | constant
    decay: float = 0.9999              # share of the old average kept at an update, at most
    every: int = 1                     # steps between updates


@dataclass(frozen=True)
class Train:
    steps: int
    batch_size: int                    # of all processes together
    seed: int = 0
    accumulate: int = 1                # parts that a process computes its share of a batch in
    precision: str = "auto"            # auto | fp32 | bf16 | fp16
    compile: str = "auto"              # auto | on | off
    log_every: int = 20                # steps
    save_every: int = 1000             # steps
    preview_every: int = 1000          # steps
    num_previews: int = 16             # images
    preview_steps: int = 50            # DDIM steps
    keep_checkpoints: int = 3


#: Images of a preview: they are drawn in one batch.
MAX_PREVIEWS = 1024
#: Counts and amounts below these make no run.
LOWEST = {
    "train.steps": 1, "train.batch_size": 1, "train.accumulate": 1, "train.log_every": 1, "train.save_every": 1,
    "train.preview_every": 1, "train.num_previews": 1, "train.preview_steps": 1, "train.keep_checkpoints": 1,
    "train.seed": 0, "ema.every": 1, "data.image_size": 1, "optimizer.weight_decay": 0, "optimizer.warmup_steps": 0,
    "optimizer.decay_share": 0, "optimizer.grad_clip": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    name: str
    model: dict[str, Any]              # see dtrain.models.build
    process: dict[str, Any]            # see drun.diffusion.process
    objective: dict[str, Any]          # `name` and the options of dtrain.objectives.<name>
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
        if self.train.num_previews > MAX_PREVIEWS:
            raise ConfigError(f"train.num_previews got {self.train.num_previews}, expected at most {MAX_PREVIEWS}")
        if not self.name or not self.name.isprintable() or "/" in self.name:
            raise ConfigError(f"a recipe's name got {self.name!r:.40}, expected text without slashes")
        for key, lowest in LOWEST.items():
            section, _, field_name = key.partition(".")
            if (got := getattr(getattr(self, section), field_name)) < lowest:
                raise ConfigError(f"{key} got {got}, expected at least {lowest}")
        for key, value, high in (
            ("ema.decay", self.ema.decay, 1.0), ("data.label_dropout", self.data.label_dropout, 1.0),
            ("optimizer.betas", min(self.optimizer.betas), 1.0), ("optimizer.betas", max(self.optimizer.betas), 1.0),
        ):  # fmt: skip
            if not 0 <= value < high:
                raise ConfigError(f"{key} got {value}, expected 0 up to, not including, {high:g}")
        _one_of("train.precision", self.train.precision, ("auto", "fp32", "bf16", "fp16"))
        _one_of("train.compile", self.train.compile, ("auto", "on", "off"))
        _one_of("ema.law", self.ema.law, ("ramp", "warmup", "constant"))
        if self.optimizer.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate got {self.optimizer.learning_rate}, expected above 0")
        if self.optimizer.decay_share > 1:
            raise ConfigError(f"optimizer.decay_share got {self.optimizer.decay_share}, expected at most 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


_SECTIONS = {"data": Data, "train": Train, "optimizer": Optimizer, "ema": Ema}


def names() -> list[str]:
    found = (file.name for file in files("dtrain.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def summary(name: str) -> str:
    """The recipe's first comment line."""
    return _text(name).partition("\n")[0].removeprefix("# ")


def load(name: str, assignments: list[str] | None = None, data: str | None = None) -> Recipe:
    """A recipe by name, or from a .toml file, with `section.key=value` assignments applied.

    Raises:
        ConfigError: unknown recipe, section or key, or a value of the wrong type.
    """
    sections = _sections(name)
    for assignment in assignments or []:
        _assign(sections, assignment)
    if data is not None:
        sections["data"]["source"] = data
    return from_dict({"name": Path(name).stem} | sections)


def from_dict(sections: dict[str, Any]) -> Recipe:
    """A recipe from `Recipe.to_dict` or a parsed TOML file. Raises ConfigError naming a wrong section or key."""
    name = sections.get("name")
    with door(f"recipe {name!r:.80} is wrong", ConfigError, "see dtrain run --dry-run for all settings"):
        for section, kind in _SECTIONS.items():
            if unknown := sorted(sections.get(section, {}).keys() - get_type_hints(kind).keys()):
                expected = ", ".join(get_type_hints(kind))
                raise ConfigError(f"unknown setting '{section}.{unknown[0]}': choose from {expected}")
        recipe: Recipe = typed(Recipe, {key: _listed(value) for key, value in sections.items()}, "")
        return recipe


def _listed(value: Any) -> Any:
    """Tuples as lists, as a file has them."""
    return _plain(value) if isinstance(value, dict) else value


def _sections(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sections of a recipe file, laid over those of the recipe that it `extends`.

    A section that gives a `name` or `kind` replaces the whole one below, for these decide what its other keys mean.
    """
    if name in above:
        raise ConfigError(f"recipe '{name}' extends itself, by {' and '.join(above)}: take one 'extends' out")
    with door(f"recipe '{name}' is not TOML", ConfigError, "mend it there"):
        sections = tomllib.loads(_text(name))
    base = sections.pop("extends", None)
    if "name" in sections:
        raise ConfigError(f"recipe '{name}' has a section 'name': a recipe has the name of its file")
    if alone := [key for key, values in sections.items() if not isinstance(values, dict)]:
        raise ConfigError(f"recipe '{name}' has '{alone[0]}' outside of a section: put it below one such as [train]")
    if base is None:
        return sections
    merged = _sections(str(base), (*above, name))
    for section, values in sections.items():
        merged[section] = values if {"name", "kind"} & set(values) else merged.get(section, {}) | values
    return merged


def _assign(sections: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set got '{assignment}', expected section.key=value such as train.steps=100")
    if section not in (*_SECTIONS, "model", "process", "objective"):
        raise ConfigError(f"--set got '{assignment}': unknown section '{section}'")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        value = text.strip()
    sections.setdefault(section, {})[name] = value


def _text(name: str) -> str:
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name).read_text(encoding="utf-8")
    if name not in names():
        raise ConfigError(f"unknown recipe '{name}': choose one of {', '.join(names())}, or give a .toml file")
    return files("dtrain.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def _check_plain(name: str, value: Any) -> None:
    """Raises ConfigError for what JSON does not know, such as TOML's dates."""
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_plain(f"{name}.{key}", item)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{name} got {value}, expected text, a number, true or false")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} got '{value}', expected one of {', '.join(choices)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
