"""Finds the conventions of a transformer: DiT, SiT and REPA have the same keys and shapes, but not the same times.

A wrong guess samples noise without an error. So an unclear convention is asked for, and an assumed one is printed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drun.diffusion.prediction import COMPONENTS, LEARNED_RANGE
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import SCHEDULES, DiscreteProcess
from drun.diffusion.process.flow import PATHS, FlowProcess
from drun.errors import CheckpointError, ConfigError
from dtrain.published.settings import choice, refuse_others, whole_number

#: convention -> its networks in words
CONVENTIONS = {
    "dit":  "a DiT, which counts timesteps",
    "sit":  "a SiT, to which t = 0 is noise and t = 1 data",
    "repa": "a SiT as REPA trains it, to which t = 1 is noise and t = 0 data",
}  # fmt: skip
TITLES = {"dit": "DiT", "sit": "SiT", "repa": "REPA"}
#: The arguments of the training scripts, under our names.
PATH_TYPES = {"linear": "linear", "gvp": "cosine", "cosine": "cosine", "vp": "vp"}
PREDICTIONS = {"velocity": "velocity", "v": "velocity", "noise": "noise", "score": "score"}
#: DiT and SiT guide the first three channels of a latent's four.
GUIDED_CHANNELS = 3
#: Settings that every transformer takes.
COMMON = ("process", "prediction", "num_heads", "image_size")


@dataclass(frozen=True)
class Evidence:
    """The evidence that may tell a convention."""

    path: Path  # the file, whose name may tell
    keys: Collection[str]  # the keys of the state dict, with REPA's projectors and early layout
    args: Mapping[str, Any]  # of the script that trained it
    channels: int  # of the input
    num_rows: int  # of the head
    doubled: bool  # the head makes two channels for each of the input


@dataclass(frozen=True)
class Clue:
    convention: str  # dit | sit | repa
    why: str  # a clause


@dataclass(frozen=True)
class Meaning:
    """The meaning of a network's inputs and outputs."""

    process: Process
    prediction: str
    variance: str | None
    guided_channels: int | None
    reasons: tuple[str, ...]


def decide(evidence: Evidence, given: Mapping[str, str]) -> Meaning:
    """The conventions of a transformer and the reason: `process` in `given`, else the surest clue.

    Raises:
        ConfigError: nothing tells the convention, or a wrong setting. CheckpointError: args that are not known.
    """
    convention, why = _choose(evidence, given)
    if convention == "dit":
        process, prediction, how = _discrete(given)
    else:
        process, prediction, how = _flow(convention, evidence, given)
    variance = LEARNED_RANGE if evidence.doubled and convention == "dit" else None
    guided = GUIDED_CHANNELS if convention != "repa" and evidence.channels > GUIDED_CHANNELS else None
    reasons = (f"taken for {CONVENTIONS[convention]}: {why}", how, *_of_head(convention, evidence.doubled))
    return Meaning(process, prediction, variance, guided, reasons)


def clues(evidence: Evidence) -> list[Clue]:
    """All clues to a convention, the surest first."""
    prefixes = {key.partition(".")[0] for key in evidence.keys}
    found = [Clue("repa", f"it has {name}") for name in ("projectors", "decoder_blocks") if name in prefixes]
    if trainer := trainer_of(evidence.args):
        found.append(Clue(trainer, f"its args are those of {TITLES[trainer]}'s train script"))
    name = evidence.path.stem.lower()
    # Published SiTs have a doubled head. REPA's models have no doubled head, and are called SiT, too.
    if name.startswith("dit-") or (name.startswith("sit-") and evidence.doubled):
        found.append(Clue(name[:3], f"its file is called {evidence.path.stem}"))
    return found


def trainer_of(args: Mapping[str, Any]) -> str | None:
    """dit | sit | repa by the arguments that only this train script has."""
    if {"enc_type", "proj_coeff", "encoder_depth"} & set(args):
        return "repa"
    if {"path_type", "prediction"} <= set(args) and {"loss_weight", "sample_eps", "train_eps"} & set(args):
        return "sit"
    return "dit" if str(args.get("model", "")).startswith("DiT-") else None


def margin(path: str, prediction: str, args: Mapping[str, Any], file: Path) -> tuple[float, str]:
    """The margin at the ends of time in SiT's `create_transport`, and the argument that states it; see `FlowProcess`.

    Its `sample_eps`, else its `train_eps`: a network is not asked where it was not trained. Of velocities on the linear
    and the cosine path SiT takes neither, but 0.

    Raises:
        CheckpointError: an argument that is no number in [0, 0.5).
    """
    if path != "vp" and prediction not in ("noise", "score"):
        return 0.0, ""
    for name in ("sample_eps", "train_eps"):
        if args.get(name) is not None:
            return _margin_argument(args[name], name, file), name
    return (1e-5 if path == "vp" else 1e-3), ""


def _margin_argument(value: Any, name: str, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 0.5:
        raise CheckpointError(
            f"'{file}' was trained with {name} {value!r}, expected a number from 0 up to, not including, 0.5: "
            "put it right in its args"
        )
    return float(value)


def _choose(evidence: Evidence, given: Mapping[str, str]) -> tuple[str, str]:
    """The convention and the reason."""
    found = clues(evidence)
    if "process" in given:
        convention = choice(given, "process", CONVENTIONS, "")
        others = [clue for clue in found if clue.convention != convention]
        doubts = "".join(f", although {clue.why}, which says {TITLES[clue.convention]}" for clue in others)
        return convention, f"as set{doubts}"
    if found:
        return found[0].convention, found[0].why
    either = "a DiT or a SiT" if evidence.doubled else "a SiT or a REPA without its projectors"
    raise ConfigError(
        f"'{evidence.path}' has a head of {evidence.num_rows} rows and may be {either}, which count time differently; "
        "its keys, args and file name do not say which: add --set process=dit|sit|repa"
    )


def _of_head(convention: str, doubled: bool) -> tuple[str, ...]:
    if convention == "dit":
        return ("a learned variance by its head",) if doubled else ("no learned variance by its head",)
    return ("the half of its head that predicts nothing is left out",) if doubled else ()


def _discrete(given: Mapping[str, str]) -> tuple[Process, str, str]:
    """Process, prediction, and how they are known."""
    refuse_others(given, (*COMMON, "schedule", "timesteps"), "a DiT")
    process = DiscreteProcess(choice(given, "schedule", SCHEDULES, "linear"), whole_number(given, "timesteps", 1000))
    prediction = choice(given, "prediction", COMPONENTS, "noise")
    chosen = " and ".join(key for key in ("schedule", "timesteps", "prediction") if key in given)
    how = f"{chosen} as set" if chosen else "assumed, as published"
    return process, prediction, f"{process.schedule} schedule, {process.num_timesteps} timesteps, {prediction}: {how}"


def _flow(convention: str, evidence: Evidence, given: Mapping[str, str]) -> tuple[Process, str, str]:
    """Process, prediction, and how they are known."""
    refuse_others(given, (*COMMON, "path"), f"a {TITLES[convention]}")
    # The path or prediction of another script does not count here.
    args = evidence.args if trainer_of(evidence.args) == convention else {}
    path, how_path = (
        (choice(given, "path", PATHS, ""), "as set")
        if "path" in given
        else _argument(args, "path_type", PATH_TYPES, "linear", evidence.path)
    )
    prediction, how_prediction = (
        (choice(given, "prediction", COMPONENTS, ""), "as set")
        if "prediction" in given
        else _argument(args, "prediction", PREDICTIONS, "velocity", evidence.path)
    )
    near, argument = margin(path, prediction, args, evidence.path)
    process = FlowProcess(path, int(convention == "repa"), near)
    how_near = f"; margin {near:g}: by its {argument}" if argument else ""
    return process, prediction, f"{path} path: {how_path}; {prediction} prediction: {how_prediction}{how_near}"


def _argument(args: Mapping[str, Any], name: str, known: Mapping[str, str], usual: str, path: Path) -> tuple[str, str]:
    """Our name for an argument of the training script, else the usual value; and which of the two it is."""
    if args.get(name) is None:
        return usual, "assumed, as published"
    value = str(args[name])
    if value.lower() not in known:
        setting = name.removesuffix("_type")
        raise CheckpointError(
            f"'{path}' was trained with {name} '{value}', expected one of {', '.join(known)}: "
            f"add --set {setting}=NAME if it is one that is known here"
        )
    return known[value.lower()], "by its args"
