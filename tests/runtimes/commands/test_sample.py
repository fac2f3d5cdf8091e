"""`drun sample`, which the bare command is, too: what it prints, writes and answers to wrong options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifest_files import edit
from outcomes import fails, refused
from runs import load, record

from drun.bundle import card as cards
from drun.bundle import manifest as manifests
from drun.diffusion import samplers
from drun.diffusion.noise import PhiloxNoise
from drun.run import images

Drun = Callable[..., Any]


MakeBundle = Callable[..., Path]


def test_the_command_of_the_readme(make_bundle: MakeBundle, drun: Drun, tmp_path: Path) -> None:
    """Nothing but a backend and a number of steps, beside a bundles/ folder."""
    make_bundle("digits")
    result = drun("--backend", "ort", "--steps", 5)
    assert result.code == 0
    folder = tmp_path / "out" / "digits" / "ort-ddim-5-seed0"
    assert len(list(folder.glob("0*.png"))) == 16
    assert load(folder / "samples.npz")["arr_0"].shape == (16, 8, 8, 3)
    assert (folder / "grid.png").is_file()
    lines = result.out.splitlines()
    assert lines[0] == "digits, onnx-fp32, on ONNX Runtime on CPU: 16 images, ddim, 5 steps, seed 0"
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
    assert load(tmp_path / "here" / "samples.npz")["arr_1"].tolist() == [4, 1, 4]
    assert load(tmp_path / "here" / "raw.npz")["x"].dtype == np.float64
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
        assert load(tmp_path / name / "raw.npz")["x"].shape == (2, 3, 8, 8)
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
    named, numbered = (load(Path(folder, "samples.npz")) for folder in ("named", "numbered"))
    assert named["arr_1"].tolist() == [4, 1] * 10
    assert np.array_equal(named["arr_0"], numbered["arr_0"])
    expected = images.grid(named["arr_0"], names=["pullover", "bag"] * 10)
    assert np.array_equal(images.read_png(Path("named", "grid.png")), expected)


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
    [("cuda", "ort-gpu"), ("GPU", "ort-gpu"), ("cpu", "ort"), ("onnx", "ort")],
)
def test_a_backend_by_another_name(drun: Drun, word: str, extra: str) -> None:
    """Before a bundle is looked for."""
    message = f"unknown backend '{word}': use --backend ort, which is ONNX Runtime; install it with: pip install"
    fails(drun("--backend", word), f"{message} 'dexport[{extra}]'")


def test_wrong_precision(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle("x")
    result = drun("--precision", "int4")
    assert result.code == 1
    assert result.err.startswith("error: --precision got int4, the backends here can compute in fp32")
    assert "no backend here computes this bundle in int4" in result.err


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
