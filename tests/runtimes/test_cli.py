"""The `drun` command: what it prints, writes and answers to wrong input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import drun as package
from drun import cli
from drun.bundle import card as cards
from drun.bundle import manifest as manifests
from drun.bundle.hashes import seal
from drun.diffusion import samplers
from drun.diffusion.noise import PhiloxNoise
from drun.run import images

Drun = Callable[..., Any]
MakeBundle = Callable[..., Path]
Python = Callable[..., "subprocess.CompletedProcess[str]"]

RUNTIMES = Path(package.__file__).parents[1]
MAIN = "from drun.cli import main; main()"


def npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def fails(result: Any, message: str, code: int = 1) -> None:
    """One clear line on stderr, and the exit code."""
    assert (result.code, result.err) == (code, f"error: {message}\n")


def refused(result: Any, *parts: str) -> None:
    """One line on stderr that holds all of `parts`, and exit code 1."""
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [part for part in parts if part not in result.err] == []


# --- sampling


def test_the_command_of_the_readme(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    """Nothing but a backend and a number of steps, beside a bundles/ folder."""
    make_bundle("digits")
    result = drun("--backend", "ort", "--steps", 5)
    assert result.code == 0
    folder = tmp_path / "out" / "digits" / "ort-ddim-5-seed0"
    assert len(list(folder.glob("0*.png"))) == 16
    assert npz(folder / "samples.npz")["arr_0"].shape == (16, 8, 8, 3)
    assert (folder / "grid.png").is_file()
    lines = result.out.splitlines()
    assert lines[0] == "digits on ONNX Runtime on CPU: 16 images, ddim, 5 steps, seed 0"
    assert "16 images computed in" in lines[1]
    assert lines[2] == "out/digits/ort-ddim-5-seed0/grid.png, samples.npz"
    assert "Traceback" not in result.err


def test_a_second_setting_has_a_folder_of_its_own(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    """And the same command finds its own again, with more images, too."""
    make_bundle("digits", conditional=True)
    np.savez(tmp_path / "noise.npz", x=PhiloxNoise(7, range(2), (3, 8, 8))())
    changes = [
        [], ["--cfg", 1.5], ["--cfg", 2.5], ["--labels", "1,2"], ["--set", "eta=0.5"], ["--set", "grid=trailing"],
        ["--state-dtype", "float64"], ["--cfg", 1.5, "--interval", "0,50"], ["--uint8", "floor"],
        ["--noise", "noise.npz"], ["--cfg-channels", 1], ["--seed", 1], ["--sampler", "ddpm"], ["--backend", "null"],
    ]  # fmt: skip
    for change in changes:
        assert "2 images computed" in drun("--steps", 3, "-n", 2, *change).out
    assert len(list((tmp_path / "out" / "digits").iterdir())) == len(changes)
    assert "1 images computed" in drun("--steps", 3, "-n", 3, "--cfg", 1.5, "--batch", 2).out
    assert "nothing to compute" in drun("--steps", 3, "-n", 2, "--precision", "fp32", "--set", "eta=0").out


def test_online_weights_are_named(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(weights="online"))
    assert drun("--steps", 3, "-n", 1).code == 0
    assert (tmp_path / "out" / "tiny" / "ort-ddim-3-seed0-weights=online" / "grid.png").is_file()


def test_sample_is_the_bare_command(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    assert "2 images computed" in drun("sample", "--steps", 3, "-n", 2).out
    assert "nothing to compute" in drun("--steps", 3, "-n", 2).out
    fails(drun("--steps", 3, "sample"), "--steps stands before 'sample', expected behind it: drun sample ...")
    fails(drun("-n", 3, "info"), "-n stands before 'info', expected behind it: drun info ...")


@pytest.mark.parametrize("command", ["check", "info"])
def test_the_newest_bundle_is_meant(make_bundle: MakeBundle, drun: Drun, command: str) -> None:
    fails(drun(command), "no bundle under 'bundles/': run 'dexport onnx CHECKPOINT', or name the folder of one")
    os.utime(make_bundle("old") / "manifest.json", (1, 1))
    make_bundle("new")
    assert drun(command).out.startswith("new: ")


def test_a_bundle_by_its_name(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle("fashion")
    make_bundle("other")
    for command in (["info"], ["check"], ["--steps", 3, "-n", 1, "--bundle"]):
        assert drun(*command, "fashion").out.startswith("fashion")


def test_a_checkpoint_in_place_of_a_bundle(drun: Drun, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "net-0000001.pt").touch()
    for place in ("run", "run/net-0000001.pt"):
        message = f"'{place}' is not a bundle: it has no manifest.json; make one with 'dexport onnx {place}'"
        fails(drun("--bundle", place), message)


def test_the_installed_command(make_bundle: MakeBundle, tmp_path: Path) -> None:
    make_bundle()
    command = shutil.which("drun", path=str(Path(sys.executable).parent))
    assert command is not None
    result = subprocess.run([command, "--steps", "3", "-n", "2"], cwd=tmp_path, capture_output=True, check=True)
    assert b"2 images computed" in result.stdout
    assert b"2 images, ddim, 3 steps" in result.stdout


def test_the_same_command_again_computes_nothing(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    drun("--steps", 3, "-n", 2)
    assert "nothing to compute" in drun("--steps", 3, "-n", 2).out


def test_options_reach_the_run(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    path = make_bundle(conditional=True)
    result = drun(
        "--bundle", path, "--backend", "null", "--steps", 6, "--sampler", "ddpm", "--set", "clip_x0=false",
        "--set", "variance = fixed_large", "-n", 3, "--batch", 2, "--seed", 7, "--labels", "4,1", "--cfg", 1.5,
        "--interval", "10,60", "--cfg-channels", 2, "--state-dtype", "float64", "--out", "here", "--save-raw",
        "--trajectory", "t.webp", "--threads", 1, "--uint8", "floor",
    )  # fmt: skip
    assert result.code == 0
    assert record(tmp_path / "here")["settings"].items() >= {
        "checkpoint_sha256": "0" * 64, "backend": "null", "precision": "fp32", "sampler": "ddpm", "num_steps": 6,
        "options": {"grid": "auto", "variance": "fixed_large", "clip_x0": False, "dynamic_threshold": 0.0},
        "seed": 7, "labels": "4,1", "cfg": 1.5, "interval": [10, 60], "cfg_channels": 2, "state_dtype": "float64",
        "uint8": "floor", "noise": None,
    }.items()  # fmt: skip
    assert npz(tmp_path / "here" / "samples.npz")["arr_1"].tolist() == [4, 1, 4]
    assert npz(tmp_path / "here" / "raw.npz")["x"].dtype == np.float64
    assert (tmp_path / "t.webp").is_file()
    assert result.out.splitlines()[-2:] == ["here/grid.png, samples.npz, raw.npz", "t.webp"]


@pytest.mark.parametrize(
    ("arguments", "sampler", "options"),
    [
        ([], "ddim", {"eta": 0.5, "grid": "leading"}),
        (["--set", "eta=0.25"], "ddim", {"eta": 0.25, "grid": "leading"}),
        (["--sampler", "ddim"], "ddim", {"eta": 0.5, "grid": "leading"}),
        (["--sampler", "euler"], "euler", {"grid": "auto", "clip_x0": False}),
    ],
)
def test_the_command_line_goes_before_the_bundle_before_the_defaults(
    make_bundle: MakeBundle, drun: Drun, tmp_path: Path, arguments: list[str], sampler: str, options: dict[str, Any]
) -> None:
    make_bundle(sampler=cards.Sampler("ddim", {"eta": 0.5, "grid": "leading"}))
    assert drun("--steps", 3, "-n", 1, "--out", "here", *arguments).code == 0
    settings = record(tmp_path / "here")["settings"]
    assert settings["sampler"] == sampler
    assert settings["options"] == samplers.defaults(sampler) | options


def test_latents_are_not_clipped_unless_asked_for(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    make_bundle(data=cards.StateSpace("latent", (3, 8, 8)), sampler=cards.Sampler("euler", {}))
    for name, options in (("a", []), ("b", ["--set", "clip_x0=true"])):
        result = drun("--backend", "null", "--steps", 3, "-n", 2, "--sampler", "ddim", "--out", name, *options)
        assert result.code == 0
        assert "has no decoder, so only latents are written" in result.out
        assert record(tmp_path / name)["settings"]["options"]["clip_x0"] == bool(options)
        assert npz(tmp_path / name / "raw.npz")["x"].shape == (2, 3, 8, 8)
        assert not list((tmp_path / name).glob("*.png"))


@pytest.mark.parametrize(("text", "channels"), [(None, None), ("all", 0), ("2", 2)])
def test_guided_channels(
    make_bundle: MakeBundle, drun: Drun, tmp_path: Path, text: str | None, channels: int | None
) -> None:
    """`all` means all, also where the bundle says fewer."""
    make_bundle(conditional=True, guidance={"channels": 1})
    arguments = [] if text is None else ["--cfg-channels", text]
    assert drun("--steps", 3, "-n", 1, "--cfg", 3, "--out", "here", *arguments).code == 0
    assert record(tmp_path / "here")["settings"]["cfg_channels"] == channels


def test_shards(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    make_bundle()
    first = drun("--steps", 3, "-n", 5, "--shard", "0/2", "--out", "here")
    assert "here/ waits for the other shards; the last one writes samples.npz and grid.png" in first.out
    assert "2 images computed" in drun("--steps", 3, "-n", 5, "--shard", "1/2", "--out", "here").out
    drun("--steps", 3, "-n", 5, "--out", "whole")
    for name in ("samples.npz", "grid.png", "000004.png"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_noise_of_another_implementation(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    make_bundle()
    np.savez(tmp_path / "noise.npz", x=PhiloxNoise(7, range(3), (3, 8, 8))())
    drun("--steps", 3, "-n", 3, "--seed", 7, "--out", "seed")
    drun("--steps", 3, "-n", 3, "--noise", "noise.npz", "--out", "noise")
    for name in ("samples.npz", "000002.png"):
        assert (tmp_path / "seed" / name).read_bytes() == (tmp_path / "noise" / name).read_bytes()


# --- the other commands


@pytest.mark.parametrize("batch", [(1, 8), (2, 2)])
def test_check(make_bundle: MakeBundle, drun: Drun, batch: tuple[int, int]) -> None:
    result = drun("check", make_bundle(conditional=True, batch=batch))
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "tiny: every sha256 is right"
    assert " ".join(lines[1].split()) == "check relative L2 allowed max abs p99 abs mean abs PSNR dB"
    assert len(lines) == 7
    assert lines[-1] == "parity with eager PyTorch holds on ONNX Runtime on CPU: 4 of 4 checks"


@pytest.mark.parametrize("gain", [1.01, float("nan")])
def test_failed_parity(make_bundle: MakeBundle, drun: Drun, gain: float) -> None:
    result = drun("check", make_bundle(gain=gain))
    assert result.code == 3
    assert result.out.count("FAILED") == 4
    error = result.err.splitlines()[-1]
    assert error.startswith("error: 4 of 4 checks on ONNX Runtime on CPU failed, the worst at relative L2 ")
    assert error.endswith(": do not use this target")
    assert ("nan" in error) == (gain != gain)


def test_a_network_that_computes_nothing_but_nan(make_bundle: MakeBundle, drun: Drun) -> None:
    result = drun("--bundle", make_bundle(gain=float("nan")), "--steps", 3, "-n", 2)
    assert result.code == 1
    assert result.err.splitlines()[-1] == (
        "error: the images are not finite between steps 1 and 3 of 3 (t = 99 to 32): try --precision fp32, "
        "clip_x0=true or another grid"
    )


def test_classes_by_name(make_bundle: MakeBundle, drun: Drun) -> None:
    names = ("ankle-boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "trouser", "t-shirt-top")
    trained_on = manifests.TrainedOn("/photos", 60_000, 8, 3, "1f2e" * 16)
    path = make_bundle(classes=cards.Classes(10, 10, names), trained_on=trained_on, conditional=True)
    listed = drun("info", path).out
    assert "            0 ankle-boot, 1 bag, 2 coat, 3 dress, 4 pullover, 5 sandal, 6 shirt, 7 sneaker, " in listed
    assert "trained on  60,000 images of /photos, 8x8 colour, sha256 1f2e1f2e1f2e…\n" in listed
    result = drun("--steps", 3, "-n", 20, "--labels", "pullover,1", "--out", "named")
    assert result.out.endswith("\nclasses in turn: pullover, bag\n")
    drun("--steps", 3, "-n", 20, "--labels", "4,1", "--out", "numbered")
    named, numbered = (npz(Path(folder, "samples.npz")) for folder in ("named", "numbered"))
    assert named["arr_1"].tolist() == [4, 1] * 10
    assert np.array_equal(named["arr_0"], numbered["arr_0"])
    expected = images.grid(named["arr_0"], names=["pullover", "bag"] * 10)
    assert np.array_equal(images.read_png(Path("named", "grid.png")), expected)


def test_info(make_bundle: MakeBundle, drun: Drun) -> None:
    result = drun("info", make_bundle(conditional=True))
    assert result.code == 0
    assert result.out.splitlines() == [
        "tiny: gaussian, 100 parameters, ema weights",
        "states      3 x 8 x 8 (pixel), pixels -1 to 1",
        "process     kind=discrete schedule=linear num_timesteps=100",
        "prediction  noise",
        "sampler     ddim ",
        "classes     10, null label 10",
        "trained on  unknown: the checkpoint does not say",
        "checkpoint  tiny.pt, step 7",
        "made by     tests",
        "onnx        fp32, batch 1 to 8, opset=20, 0.0 MB, parity at export: 1.0e-07 (call, batch 1, t = 0)",
    ]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest, as its exporter could have written it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    del manifest["sha256"]
    (path / "manifest.json").write_text(seal(manifest))


def test_info_says_what_an_average_holds_of_the_initial_weights(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share=0.6066, step=5000))
    assert (
        "average     still holds 60.7 % of the initial weights at step 5,000 and may draw noise: export --weights "
        "online, train longer, or train with --set ema.law=ramp"
    ) in drun("info", path).out.splitlines()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share=0.004))
    assert "average" not in drun("info", path).out
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share="most"))
    assert "initial_share got 'most', expected a number" in drun("info", path).err


def test_info_of_an_artifact_that_was_never_compared(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["artifacts"][0].pop("parity"))
    assert drun("info", path).out.splitlines()[-1].endswith("parity at export: not proven where it was made")


def test_a_quick_proof_is_called_quick(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    assert "quick" not in drun("info", path).out + drun("check", path).out
    edit(path, lambda manifest: manifest["artifacts"][0]["parity"].update(quick=True))
    assert drun("info", path).out.splitlines()[-1].endswith("1.0e-07 (call, batch 1, t = 0), quick: 4 checks only")
    last = "these are the few checks of dexport --quick: export again without it for the full proof"
    assert drun("check", path).out.splitlines()[-1] == last


def test_backends(drun: Drun) -> None:
    result = drun("backends")
    assert result.code == 0
    assert "null     ready    closed-form denoiser" in result.out
    assert "ort      ready    ONNX Runtime: onnxruntime 1." in result.out


def test_samplers(drun: Drun) -> None:
    result = drun("samplers")
    assert result.code == 0
    for name in samplers.names():
        assert f"{name:14} {samplers.summary(name)}" in result.out
    assert "grid=auto eta=0.0 clip_x0=True dynamic_threshold=0.0" in result.out


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["info", "--help"], ["samplers", "--help"]])
def test_help(drun: Drun, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = drun(*arguments)
    assert (result.code, result.err) == (0, "")
    assert "Usage: " in result.out


def test_every_option_is_explained_with_its_unit() -> None:
    commands = [get_command(cli.app), *get_command(cli.app).commands.values()]  # type: ignore[attr-defined]
    options = {option.opts[0]: option for command in commands for option in command.params}
    assert all(getattr(option, "help", None) for option in options.values())
    units = {
        "--steps": "Sampling steps", "-n": "Number of images", "--batch": "Images", "--interval": "model's time",
        "--threads": "Processor threads", "--cfg-channels": "channels", "--noise": "(N,C,H,W)",
    }  # fmt: skip
    assert {name: unit for name, unit in units.items() if unit not in options[name].help} == {}


# --- wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 0], "cannot sample in 0 steps: this model has 100 timesteps, choose from 1 to 100"),
        (["--steps", 101], "cannot sample in 101 steps: this model has 100 timesteps, choose from 1 to 100"),
        (["--sampler", "plms"], f"unknown sampler 'plms': choose one of {', '.join(samplers.names())}"),
        (["--set", "eta"], "--set got 'eta', expected option=value"),
        (["--set", "eta=a"], "option eta got 'a', expected a finite number"),
        (["--set", "eta=2"], "eta got 2.0, expected a share of the ancestral noise from 0 to 1"),
        (["--set", "clip_x0=2"], "option clip_x0 got '2', expected true or false"),
        (["--set", "rho=7"], "sampler 'ddim' has no option 'rho': choose from grid, eta, clip_x0, dynamic_threshold"),
        (["--shard", "3/3"], "--shard got '3/3', expected I from 0 to K-1"),
        (["--shard", "1"], "--shard got '1', expected I/K such as 0/4"),
        (["--interval", "3"], "--interval got '3', expected two times such as 0,0.7"),
        (["--interval", "5,1"], "the guidance interval 5,1 is empty: write the smaller time first"),
        (["--cfg-channels", "0"], "--cfg-channels got '0', expected all or a number such as 3"),
        (["--cfg-channels", "x"], "--cfg-channels got 'x', expected all or a number such as 3"),
        (["--state-dtype", "float16"], "--state-dtype got 'float16', expected float32 or float64"),
        (["--uint8", "ceil"], "--uint8 got 'ceil', expected round or floor or adm"),
        (["--cfg", 2], "this model is unconditional: leave out --labels and --cfg"),
        (["--labels", "1"], "this model is unconditional: leave out --labels and --cfg"),
        (["--noise", "n.npz"], "no such noise file: 'n.npz'"),
        (["--bundle", "b"], "'b' is not a bundle: it has no manifest.json; make one with 'dexport onnx CHECKPOINT'"),
        (["--seed", 2**64], f"seed got {2**64}, expected a whole number from 0 to 2^64 - 1"),
    ],
)
def test_wrong_options(make_bundle: MakeBundle, drun: Drun, tmp_path: Path, arguments: list[Any], message: str) -> None:
    make_bundle()
    steps = [] if "--steps" in arguments else ["--steps", 3]
    fails(drun(*steps, *arguments), message)
    assert not (tmp_path / "out").exists()


def test_wrong_backend(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    refused(drun("--backend", "tpu"), "unknown backend 'tpu': choose one of", "null", "ort")


@pytest.mark.parametrize(
    ("word", "extra"),
    [("cuda", "ort-gpu"), ("GPU", "ort-gpu"), ("tensorrt", "ort-gpu"), ("cpu", "ort"), ("onnx", "ort")],
)
def test_a_backend_by_another_name(drun: Drun, word: str, extra: str) -> None:
    """Before a bundle is looked for."""
    message = f"unknown backend '{word}': use --backend ort, which is ONNX Runtime; install it with: pip install"
    fails(drun("--backend", word), f"{message} 'dexport[{extra}]'")


def test_a_bundle_as_a_command(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    message = "'bundles/tiny' is not a command: to sample from a bundle, type drun --bundle bundles/tiny --steps 3"
    fails(drun("bundles/tiny", "--steps", 3), message)


@pytest.mark.parametrize("command", [["check"], ["info"], ["--bundle"]])
@pytest.mark.parametrize("file", ["manifest.json", "denoiser.fp32.onnx"])
def test_a_file_of_a_bundle(make_bundle: MakeBundle, drun: Drun, command: list[str], file: str) -> None:
    path = make_bundle()
    fails(drun(*command, path / file), f"'{path / file}' is a file of a bundle, expected its folder: '{path}'")


def test_wrong_precision(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle("x")
    result = drun("--precision", "int4")
    assert result.code == 1
    assert result.err.startswith("error: --precision got int4, the backends here can compute in fp32")
    assert "no backend here computes this bundle in int4" in result.err


def test_no_bundle(drun: Drun) -> None:
    message = "no bundle under 'bundles/': run 'dexport onnx CHECKPOINT', or name the folder of one"
    fails(drun("sample"), message)
    fails(drun("--backend", "ort"), message)


def test_a_bare_command_shows_help_and_samples_nothing(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    make_bundle()
    result = drun()
    assert (result.code, "Usage: " in result.out, "--steps" in result.out) == (2, True, True)
    expected = "got no option of a run, expected one such as --steps 250: type drun sample for the defaults"
    fails(drun("--quiet"), expected)
    assert not (tmp_path / "out").exists()


def test_what_there_is_as_one_json_document(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()

    def document(*words: str) -> dict[str, Any]:
        result = drun(*words, "--json", "--quiet")
        assert (result.code, result.err) == (0, "")
        return dict(json.loads(result.out))

    bundle = document("info")
    assert (bundle["name"], bundle["manifest"]["prediction"]) == ("tiny", "noise")
    assert bundle["artifact_bytes"] == {"onnx-fp32": (path / "denoiser.fp32.onnx").stat().st_size}
    assert document("samplers")["euler"]["options"] == samplers.defaults("euler")
    assert document("backends")["null"]["available"] is True
    assert drun("info", "--quiet").out == ""


def test_labels_of_another_model(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle(conditional=True)
    fails(drun("--steps", 3, "--labels", "10"), "--labels got '10', expected balanced, random, or numbers from 0 to 9")


def test_a_trajectory_of_another_type(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    fails(drun("--steps", 3, "--trajectory", "a.gif"), "--trajectory got 'a.gif', expected a file that ends in .webp")


def test_a_folder_that_cannot_be_written(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    make_bundle()
    (tmp_path / "file").write_text("")
    message = "cannot write 'file/out': Not a directory; choose another folder"
    fails(drun("--steps", 3, "--out", "file/out"), message)


def test_a_folder_of_other_settings(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    drun("--steps", 3, "-n", 1, "--out", "here")
    refused(drun("--steps", 4, "-n", 1, "--out", "here"), "'here' holds images made with num_steps = 3", "--out")


@pytest.mark.parametrize("command", [["check"], ["info"], ["--bundle"]])
def test_a_bundle_with_a_wrong_field(make_bundle: MakeBundle, drun: Drun, command: list[str]) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(step="x"))
    message = "wrong or missing field: manifest.model.checkpoint.step got 'x', expected a whole number; export again"
    refused(drun(*command, path), message)


@pytest.mark.parametrize("file", ["denoiser.fp32.onnx", "golden.npz"])
def test_check_finds_a_flipped_byte(make_bundle: MakeBundle, drun: Drun, file: str) -> None:
    path = make_bundle()
    data = bytearray((path / file).read_bytes())
    data[-3] ^= 4
    (path / file).write_bytes(data)
    refused(drun("check", path), f"{file}' is damaged: sha256 got", "expected")


def test_check_names_what_the_manifest_does_not_list(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    (path / "evil\x1b[2J.data").write_text("")
    result = drun("check", path)
    assert result.code == 0
    assert f"warning: the manifest of '{path}' does not list 'evil\\x1b[2J.data': nothing opens it" in result.err


@pytest.mark.parametrize(
    "options",
    [["--interval", "nan,nan"], ["--interval", "0,inf"], ["--cfg", "nan"], ["--seed", 10**30], ["--steps", 10**9]],
)
def test_numbers_that_are_none(make_bundle: MakeBundle, drun: Drun, options: list[Any]) -> None:
    make_bundle(conditional=True)
    refused(drun(*options, "-n", 1, "--labels", "random", "--cfg-channels", "9" * 3))
    refused(drun("-n", 1, "--cfg-channels", "9" * 5000), "--cfg-channels got")


@pytest.mark.parametrize("options", [["--threads", 2147483648], ["-n", 10**20], ["--batch", 10**20]])
def test_counts_that_no_machine_has(drun: Drun, options: list[Any]) -> None:
    assert drun(*options).code == 2


def test_check_reads_every_artifact(make_bundle: MakeBundle, drun: Drun) -> None:
    """Also those of other backends."""
    path = make_bundle()
    other = {"format": "coreml", "files": [{"path": "other.bin", "sha256": "0" * 64}]}
    edit(path, lambda manifest: manifest["artifacts"].append(manifest["artifacts"][0] | other))
    (path / "other.bin").write_bytes(b"x")
    refused(drun("check", path), "other.bin' is damaged")


@pytest.mark.parametrize("command", ["check", "info"])
def test_a_missing_file(make_bundle: MakeBundle, drun: Drun, command: str) -> None:
    path = make_bundle()
    (path / "denoiser.fp32.onnx").unlink()
    refused(drun(command, path), "lacks 'denoiser.fp32.onnx': copy the whole directory or export again")


def test_nothing_to_check(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    fails(
        drun("check", path, "--backend", "null"),
        "backend 'null' opens no artifact of a bundle, so there is nothing to check",
    )


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "many"], ["-n", "0"], ["--batch", "0"], ["--seed", "-1"], ["--none"], ["paint"], ["info", "a", "b"]],
)
def test_usage_errors(drun: Drun, arguments: list[str]) -> None:
    result = drun(*arguments)
    assert result.code == 2
    assert "Usage: " in result.err
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback(make_bundle: MakeBundle, python: Python) -> None:
    make_bundle()
    plain, debug = (python("-c", MAIN, "--steps", "0", *flags) for flags in ([], ["--debug"]))
    message = "cannot sample in 0 steps: this model has 100 timesteps, choose from 1 to 100"
    assert (plain.returncode, plain.stdout, plain.stderr) == (1, "", f"error: {message}\n")
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback")
    assert debug.stderr.endswith(f"drun.errors.ConfigError: {message}\n")


def test_control_c(make_bundle: MakeBundle, tmp_path: Path) -> None:
    path, folder = make_bundle(), tmp_path / "out"
    options = ["--backend", "null", "--bundle", path, "--steps", "50", "-n", "9999", "--out", folder]
    # A shell's background jobs, and what they start, ignore the signal.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"
    with subprocess.Popen([sys.executable, "-c", code, *options], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (folder / "000003.png").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    message = "error: interrupted: the same command goes on from what was finished"
    assert errors.splitlines() == ["sampling, steps of all images …", message]
    assert {path.suffix for path in folder.iterdir()} == {".png", ".json"}


# --- where torch and the runtimes are not installed


IMPORT_ALL = """
import importlib, pkgutil, sys
import drun
names = [module.name for module in pkgutil.walk_packages(drun.__path__, "drun.")]
for name in names:
    importlib.import_module(name)
assert len(names) > 25, names
assert not {"torch", "onnx", "onnxruntime", "dtrain", "dexport", "dbench"} & set(sys.modules)
"""


def test_importing_every_module_has_no_side_effects(python: Python, bare: Path, tmp_path: Path) -> None:
    result = python("-W", "error", "-c", IMPORT_ALL, path=[bare, RUNTIMES])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "Sample images from a bundle on any backend"),
        (["samplers"], "Ancestral sampling of the reverse chain"),
        (["info", "bundles/tiny"], "schedule=linear num_timesteps=100"),
        (["--backend", "null", "--steps", "3", "-n", "2"], "2 images computed"),
        (["backends"], "ort      missing  ONNX Runtime: onnxruntime is not installed"),
        (["backends"], "                  pip install 'dexport[ort]'"),
        (["backends"], "pt2      missing  PyTorch, a torch.export program: torch is not installed"),
        (["backends"], "                  pip install 'dexport[pt2]'"),
    ],
)
def test_commands_without_torch_and_onnxruntime(
    make_bundle: MakeBundle, python: Python, bare: Path, arguments: list[str], text: str
) -> None:
    make_bundle()
    result = python("-c", MAIN, *arguments, path=[bare, RUNTIMES])
    assert result.returncode == 0, result.stderr
    assert text in result.stdout


def test_a_backend_that_is_not_installed(make_bundle: MakeBundle, python: Python, bare: Path, tmp_path: Path) -> None:
    make_bundle()
    result = python("-c", MAIN, "--backend", "ort", "--steps", "3", path=[bare, RUNTIMES])
    assert result.returncode == 1
    assert result.stderr == (
        "error: backend 'ort' is not available: onnxruntime is not installed; "
        "install it with: pip install 'dexport[ort]' (or 'dexport[ort-gpu]' for NVIDIA GPUs)\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_backend_that_does_not_load(make_bundle: MakeBundle, python: Python, bare: Path, tmp_path: Path) -> None:
    """As where a shared library is missing."""
    make_bundle()
    (tmp_path / "stub" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "stub" / "onnxruntime" / "__init__.py").write_text("raise ImportError('libcudart.so: no such file')")
    result = python("-c", MAIN, "--steps", "3", path=[tmp_path / "stub", bare, RUNTIMES])
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: no backend here can open 'bundles/tiny': 'ort' is not available, onnxruntime is installed but does not "
        "load (libcudart.so: no such file); install it with: pip install"
    )
    assert result.stderr.count("\n") == 1


# --- the folders are the registries

SAMPLER = '''"""One jump, whatever the number of steps."""

from drun.diffusion.table import Step

CLIP_X0 = True


def steps(process, num_steps, *, strength: float = 1.0):
    return [Step(float(process.num_timesteps - 1), a=0.0, b=strength)]
'''

BACKEND = '''"""A backend in one file."""

from drun.backends.null import Runtime as Null


class Runtime(Null):
    summary = "the null backend again"
'''


@pytest.fixture
def extended(tmp_path: Path, bare: Path) -> list[Path]:
    """A copy of the package with one more sampler and one more backend: two new files, nothing edited."""
    copy = shutil.copytree(RUNTIMES / "drun", tmp_path / "copy" / "drun", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "diffusion" / "samplers" / "jump.py").write_text(SAMPLER)
    (copy / "backends" / "again.py").write_text(BACKEND)
    return [copy.parent, bare]


def test_a_dropped_in_file_is_found_by_name(
    make_bundle: MakeBundle, python: Python, extended: list[Path], tmp_path: Path
) -> None:
    make_bundle()
    listed = python("-c", MAIN, "samplers", path=extended).stdout
    assert f"{'jump':14} One jump, whatever the number of steps." in listed
    assert "strength=1.0 clip_x0=True dynamic_threshold=0.0" in listed
    assert "again    ready    the null backend again: built in" in python("-c", MAIN, "backends", path=extended).stdout
    options = ["--backend", "again", "--sampler", "jump", "--steps", "9", "--set", "strength=0.5", "-n", "2"]
    result = python("-c", MAIN, *options, path=extended)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out" / "tiny" / "again-jump-9-seed0-strength=0.5"
    assert record(folder)["settings"]["options"] == {"strength": 0.5, "clip_x0": True, "dynamic_threshold": 0.0}
    assert len(npz(folder / "samples.npz")["arr_0"]) == 2


def test_a_dropped_in_file_is_named_where_another_is_not_found(python: Python, extended: list[Path]) -> None:
    script = "from drun.diffusion import samplers; samplers.defaults('plms')"
    refused = python("-c", script, path=extended).stderr
    assert "choose one of ddim, ddpm, dpmpp_2m, euler, euler_maruyama, heun, jump" in refused
