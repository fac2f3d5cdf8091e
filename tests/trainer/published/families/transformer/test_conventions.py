"""Which of DiT's, SiT's and REPA's conventions a transformer follows: every clue, every setting, every doubt."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drun.bundle.card import Sampler
from drun.diffusion import samplers
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import CheckpointError, ConfigError
from dtrain import models, published
from dtrain.published.families.transformer.conventions import Evidence, Meaning, clues, decide, trainer_of

#: What the train scripts write into their checkpoints' `args`, as far as the facts go.
COMMON_ARGS = {
    "data_path": "imagenet", "results_dir": "results", "image_size": 256, "num_classes": 1000, "epochs": 1400,
    "global_batch_size": 256, "global_seed": 0, "vae": "ema", "num_workers": 4, "log_every": 100, "ckpt_every": 50000,
}  # fmt: skip
DIT_ARGS = {"model": "DiT-XL/2", **COMMON_ARGS}
SIT_ARGS = {
    "model": "SiT-XL/2", **COMMON_ARGS, "cfg_scale": 4.0, "wandb": False, "ckpt": None, "sample_every": 10000,
    "path_type": "Linear", "prediction": "velocity", "loss_weight": None, "sample_eps": None, "train_eps": None,
}  # fmt: skip
REPA_ARGS = {
    "output_dir": "exps", "exp_name": "linear-dinov2-b-enc8", "model": "SiT-XL/2", "num_classes": 1000,
    "encoder_depth": 8, "fused_attn": True, "qk_norm": False, "resolution": 256, "batch_size": 256, "seed": 0,
    "allow_tf32": True, "mixed_precision": "fp16", "max_train_steps": 400000, "path_type": "linear", "prediction": "v",
    "cfg_prob": 0.1, "enc_type": "dinov2-vit-b", "proj_coeff": 0.5, "weighting": "uniform", "legacy": False,
}  # fmt: skip
SIT_SAMPLER, REPA_SAMPLER = (Sampler("euler_maruyama", {"form": form}) for form in ("sit", "repa"))


def evidence(
    name: str = "model.pt", keys: tuple[str, ...] = ("pos_embed",), args: Mapping[str, Any] | None = None,
    doubled: bool = True,
) -> Evidence:  # fmt: skip
    return Evidence(Path(name), keys, args or {}, 4, 32 if doubled else 16, doubled)


def reason(meaning: Meaning) -> str:
    return " | ".join(meaning.reasons)


# ---- who trained it ---------------------------------------------------------------------------------------


def test_train_scripts_are_known_by_their_own_arguments() -> None:
    assert [trainer_of(args) for args in (DIT_ARGS, SIT_ARGS, REPA_ARGS)] == ["dit", "sit", "repa"]
    assert trainer_of({}) is None
    assert trainer_of({"model": "SiT-XL/2"}) is None
    assert trainer_of({"model": 3}) is None
    assert trainer_of({"path_type": "linear", "prediction": "v"}) is None
    for key in ("enc_type", "proj_coeff", "encoder_depth"):
        assert trainer_of(SIT_ARGS | {key: 1}) == "repa"
    for key in ("loss_weight", "sample_eps", "train_eps"):
        assert trainer_of({"path_type": "Linear", "prediction": "noise", key: None}) == "sit"


@pytest.mark.parametrize(
    ("given", "convention", "why"),
    [
        (evidence(keys=("projectors.0.0.a",)), "a SiT as REPA trains it, to which t = 1 is noise", "it has projectors"),
        (evidence(keys=("decoder_blocks.0.a",)), "a SiT as REPA trains it", "it has decoder_blocks"),
        (evidence(args=REPA_ARGS, doubled=False), "a SiT as REPA", "its args are those of REPA's train script"),
        (evidence(args=SIT_ARGS), "a SiT, to which t = 0 is noise", "its args are those of SiT's train script"),
        (evidence(args=DIT_ARGS), "a DiT, which counts timesteps", "its args are those of DiT's train script"),
        (evidence("SiT-XL-2-256x256.pt"), "a SiT, to", "its file is called SiT-XL-2-256x256"),
        (evidence("sit-xl-2-256.safetensors"), "a SiT, to", "its file is called sit-xl-2-256"),
        (evidence("DiT-XL-2-512x512.pt"), "a DiT,", "its file is called DiT-XL-2-512x512"),
        (evidence("dit-mine.pt", doubled=False), "a DiT,", "its file is called dit-mine"),
        # The surest clue first.
        (evidence("DiT-XL-2-256x256.pt", ("projectors.0.0.weight",), SIT_ARGS), "a SiT as REPA", "it has projectors"),
        (evidence("DiT-XL-2-256x256.pt", args=SIT_ARGS), "a SiT, to", "its args are those of SiT's train script"),
    ],
)
def test_clues_decide_and_are_said(given: Evidence, convention: str, why: str) -> None:
    taken = decide(given, {}).reasons[0]
    assert taken.startswith(f"taken for {convention}")
    assert taken.endswith(f": {why}")


@pytest.mark.parametrize(
    ("name", "args", "doubled", "message"),
    [
        ("a.pt", {}, True, r"'a\.pt' has a head of 32 rows and may be a DiT or a SiT, .*--set process=dit\|sit\|repa"),
        ("a.pt", {}, False, r"a head of 16 rows and may be a SiT or a REPA without its projectors, .*--set process="),
        ("a.pt", {"model": "SiT-XL/2"}, True, "may be a DiT or a SiT"),
        # REPA's models are called SiT, and are not doubled.
        ("SiT-XL-2-256.pt", {}, False, "may be a SiT or a REPA without its projectors"),
        ("my-DiT-XL-2.pt", {}, True, "may be a DiT or a SiT"),
        ("last.pt", {}, False, "may be a SiT or a REPA"),
    ],
)
def test_what_nothing_tells_is_asked_for(name: str, args: dict[str, Any], doubled: bool, message: str) -> None:
    assert clues(evidence(name, args=args, doubled=doubled)) == []
    with pytest.raises(ConfigError, match=message):
        decide(evidence(name, args=args, doubled=doubled), {})


def test_a_setting_wins_and_contradictions_are_said() -> None:
    doubtful = evidence("DiT-XL-2-256x256.pt", ("projectors.0.0.weight",), SIT_ARGS)
    assert reason(decide(doubtful, {"process": "sit"})).startswith(
        "taken for a SiT, to which t = 0 is noise and t = 1 data: as set, although it has projectors, which says REPA, "
        "although its file is called DiT-XL-2-256x256, which says DiT | linear path"
    )
    assert decide(evidence(), {"process": "dit"}).reasons[0].endswith("timesteps: as set")
    with pytest.raises(ConfigError, match="--set process got 'ddpm', expected one of dit, sit, repa"):
        decide(evidence(), {"process": "ddpm"})


# ---- what follows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path_type", "path"), [("Linear", "linear"), ("GVP", "cosine"), ("VP", "vp"), (None, "linear")]
)
@pytest.mark.parametrize("prediction", ["velocity", "score", "noise"])
def test_sits_args_say_path_and_prediction(path_type: str | None, path: str, prediction: str) -> None:
    meaning = decide(evidence(args=SIT_ARGS | {"path_type": path_type, "prediction": prediction}), {})
    margin = 1e-5 if path == "vp" else 0.0 if prediction == "velocity" else 1e-3
    assert (meaning.process, meaning.prediction) == (FlowProcess(path, 0, margin), prediction)
    how = "by its args" if path_type else "assumed, as published"
    assert meaning.reasons[1] == f"{path} path: {how}; {prediction} prediction: by its args"
    assert samplers.step_table("euler_maruyama", meaning.process, prediction, 4, SIT_SAMPLER.options).rows


@pytest.mark.parametrize(
    ("path_type", "prediction", "eps", "margin", "said"),
    [
        ("Linear", "noise", {"sample_eps": 0.01, "train_eps": 0.02}, 0.01, "; margin 0.01: by its sample_eps"),
        ("GVP", "score", {"train_eps": 0.02}, 0.02, "; margin 0.02: by its train_eps"),
        ("VP", "velocity", {"sample_eps": 1e-3}, 1e-3, "; margin 0.001: by its sample_eps"),
        ("Linear", "score", {"sample_eps": 0}, 0.0, "; margin 0: by its sample_eps"),
        ("Linear", "noise", {}, 1e-3, ""),
        # SiT takes 0 here, whatever it is told.
        ("Linear", "velocity", {"sample_eps": 0.01, "train_eps": 0.02}, 0.0, ""),
        ("GVP", "velocity", {"sample_eps": 0.01}, 0.0, ""),
    ],
)
def test_sits_args_say_how_near_to_the_ends_it_samples(
    path_type: str, prediction: str, eps: dict[str, float], margin: float, said: str
) -> None:
    meaning = decide(evidence(args=SIT_ARGS | {"path_type": path_type, "prediction": prediction} | eps), {})
    assert isinstance(meaning.process, FlowProcess)
    assert meaning.process.margin == margin
    assert meaning.reasons[1].partition("prediction: by its args")[2] == said


@pytest.mark.parametrize("value", [0.5, -1e-3, float("nan"), float("inf"), "0.001", True])
@pytest.mark.parametrize("name", ["sample_eps", "train_eps"])
def test_a_wrong_margin_is_refused(name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"'model\.pt' was trained with {name} .*, expected a number from 0"):
        decide(evidence(args=SIT_ARGS | {"prediction": "noise", name: value}), {})


def test_another_scripts_margins_say_nothing() -> None:
    meaning = decide(evidence(args=REPA_ARGS | {"sample_eps": 0.01}), {"process": "sit", "prediction": "noise"})
    assert meaning.process == FlowProcess("linear", 0, 1e-3)


@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_repas_args_say_the_path(path: str) -> None:
    meaning = decide(evidence(args=REPA_ARGS | {"path_type": path}, doubled=False), {})
    assert (meaning.process, meaning.prediction) == (FlowProcess(path, 1, 0.0), "velocity")
    assert meaning.reasons[1] == f"{path} path: by its args; velocity prediction: by its args"


def test_what_no_args_say_is_assumed_or_set() -> None:
    assumed = decide(evidence("SiT-XL-2-256.pt"), {})
    assert (assumed.process, assumed.prediction) == (FlowProcess("linear", 0, 0.0), "velocity")
    assert assumed.reasons[1] == "linear path: assumed, as published; velocity prediction: assumed, as published"
    chosen = decide(evidence(args=SIT_ARGS), {"path": "cosine", "prediction": "noise"})
    assert (chosen.process, chosen.prediction) == (FlowProcess("cosine", 0, 1e-3), "noise")
    assert chosen.reasons[1] == "cosine path: as set; noise prediction: as set"


def test_another_scripts_args_say_nothing() -> None:
    meaning = decide(evidence(args=REPA_ARGS | {"path_type": "cosine"}), {"process": "sit"})
    assert meaning.process == FlowProcess("linear", 0, 0.0)


def test_a_dit_is_a_chain_with_a_learned_variance() -> None:
    meaning = decide(evidence("DiT-XL-2-256x256.pt"), {})
    assert (meaning.process, meaning.prediction) == (DiscreteProcess("linear", 1000), "noise")
    assert (meaning.variance, meaning.guided_channels) == ("learned_range", 3)
    assert meaning.reasons[1:] == (
        "linear schedule, 1000 timesteps, noise: assumed, as published", "a learned variance by its head"
    )  # fmt: skip
    chosen = decide(evidence(), {"process": "dit", "schedule": "cosine", "timesteps": "100", "prediction": "velocity"})
    assert (chosen.process, chosen.prediction) == (DiscreteProcess("cosine", 100), "velocity")
    assert "100 timesteps, velocity: schedule and timesteps and prediction as set" in chosen.reasons[1]


@pytest.mark.parametrize(
    ("given", "args", "error", "message"),
    [
        ({"process": "dit", "path": "linear"}, {}, ConfigError, "--set path has no use for a DiT"),
        ({"process": "sit", "schedule": "linear"}, {}, ConfigError, "--set schedule has no use for a SiT"),
        ({"process": "repa", "timesteps": "9"}, {}, ConfigError, "--set timesteps has no use for a REPA"),
        ({"process": "sit", "path": "gvp"}, {}, ConfigError, "--set path got 'gvp', expected one of linear, cosine"),
        ({"process": "sit", "prediction": "v"}, {}, ConfigError, "--set prediction got 'v', expected one of noise"),
        ({"process": "dit", "prediction": "v"}, {}, ConfigError, "--set prediction got 'v', expected one of noise"),
        ({"process": "dit", "schedule": "vp"}, {}, ConfigError, "--set schedule got 'vp', expected one of linear"),
        ({}, SIT_ARGS | {"path_type": "Cubic"}, CheckpointError, "trained with path_type 'Cubic', .*--set path=NAME"),
        ({}, SIT_ARGS | {"prediction": "x"}, CheckpointError, "trained with prediction 'x', .*--set prediction=NAME"),
    ],
)
def test_wrong_settings_and_args(
    given: dict[str, str], args: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        decide(evidence(args=args), given)


def test_args_that_are_not_known_are_overruled() -> None:
    meaning = decide(evidence(args=SIT_ARGS | {"path_type": "Cubic"}), {"path": "cosine"})
    assert meaning.process == FlowProcess("cosine", 0, 0.0)


# ---- whole checkpoints ------------------------------------------------------------------------------------


def write(path: Path, name: str, args: dict[str, Any] | None = None, **settings: Any) -> Path:
    torch.manual_seed(0)
    size = {"hidden_size": 24, "depth": 2, "num_heads": 3}
    network = models.build({"name": name, "input_size": 4, "size": size, "num_classes": 5} | settings)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = network.state_dict()
    content = {"model": state, "ema": state, "opt": {}, "args": argparse.Namespace(**args)} if args else state
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("network", "args", "process", "guided", "variance", "sampler"),
    [
        ("DiT", DIT_ARGS, DiscreteProcess("linear", 1000), 3, "learned_range",
         Sampler("ddpm", {"variance": "learned_range", "clip_x0": False})),
        ("SiT", DIT_ARGS, DiscreteProcess("linear", 1000), 3, None, Sampler("ddpm", {"clip_x0": False})),
        ("DiT", SIT_ARGS, FlowProcess("linear", 0), 3, None, SIT_SAMPLER),
        ("SiT", SIT_ARGS, FlowProcess("linear", 0), 3, None, SIT_SAMPLER),
        ("SiT", REPA_ARGS, FlowProcess("linear", 1), None, None, REPA_SAMPLER),
        ("DiT", REPA_ARGS, FlowProcess("linear", 1), None, None, REPA_SAMPLER),
    ],
)  # fmt: skip
def test_training_checkpoints_say_all_but_their_heads(
    tmp_path: Path, network: str, args: dict[str, Any], process: Any, guided: int | None, variance: str | None,
    sampler: Sampler,
) -> None:  # fmt: skip
    found = published.load(write(tmp_path / "0000010.pt", network, args), settings={"num_heads": "3"})
    assert (found.card.process, found.card.guided_channels, found.card.variance) == (process, guided, variance)
    assert (found.card.sampler, found.step) == (sampler, 10)
    table = samplers.step_table(
        found.card.sampler.name,
        found.card.process,
        found.card.prediction,
        5,
        found.card.sampler.options,
        found.card.variance,
    )
    assert len(table.rows) == 5
    assert found.card.data.latent == {"vae": "stabilityai/sd-vae-ft-ema", "scale": (0.18215,) * 4, "bias": (0.0,) * 4}
    assert "latents by its 4 channels, decoded by stabilityai/sd-vae-ft-ema: assumed, as published" in found.reasons


@pytest.mark.parametrize("channels", [1, 3])
def test_other_numbers_of_channels_are_pixels_all_guided(tmp_path: Path, channels: int) -> None:
    path = write(tmp_path / "DiT-pixels.pt", "DiT", channels=channels)
    found = published.load(path, settings={"num_heads": "3"})
    assert (found.card.data.latent, found.card.guided_channels, found.card.data.shape) == (None, None, (channels, 4, 4))
    assert "pixels by its channels" in found.reasons


def test_an_image_size_that_contradicts_is_said(tmp_path: Path) -> None:
    path, given = write(tmp_path / "DiT-a.pt", "DiT"), {"num_heads": "3"}
    same = published.load(path, settings=given | {"image_size": "32"})
    assert not [text for text in same.reasons if "image_size" in text]
    other = published.load(path, settings=given | {"image_size": "64"})
    assert "image_size=64 ignored: this network is of 32 pixels" in other.reasons
    assert other.card.data.shape == (4, 4, 4)
    with pytest.raises(ConfigError, match="--set image_size got 'big', expected a whole number"):
        published.load(path, settings=given | {"image_size": "big"})
