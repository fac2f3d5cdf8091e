"""The `drun` command line: its help, its bundles, usage errors and interruptions."""

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

import pytest
from manifest_files import edit
from outcomes import fails, refused
from typer.main import get_command

from drun import cli
from drun.diffusion import samplers

Drun = Callable[..., Any]


MakeBundle = Callable[..., Path]


Python = Callable[..., "subprocess.CompletedProcess[str]"]


MAIN = "from drun.cli import main; main()"


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["--steps", "--bundle", "check", "samplers"]), (["check", "--help"], ["--all", "--backend"]),
        (["info", "--help"], ["Bundle folder"]), (["cache", "--help"], ["--clear"]),
    ],
)  # fmt: skip
def test_help(drun: Drun, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = drun(*arguments)
    assert (result.code, result.err) == (0, "")
    assert [word for word in ("Usage: ", "--json", "--quiet", *words) if word not in result.out] == []


def test_every_option_is_explained_with_its_unit() -> None:
    commands = [get_command(cli.app), *get_command(cli.app).commands.values()]  # type: ignore[attr-defined]
    options = {option.opts[0]: option for command in commands for option in command.params}
    assert all(getattr(option, "help", None) for option in options.values())
    units = {
        "--steps": "Sampling steps", "-n": "Number of images", "--batch": "Images", "--interval": "model's time",
        "--threads": "Processor threads", "--cfg-channels": "channels", "--noise": "(N,C,H,W)",
    }  # fmt: skip
    assert {name: unit for name, unit in units.items() if unit not in options[name].help} == {}


def test_a_bundle_as_a_command(make_bundle: MakeBundle, drun: Drun) -> None:
    make_bundle()
    message = "'bundles/tiny' is not a command: to sample from a bundle, type drun --bundle bundles/tiny --steps 3"
    fails(drun("bundles/tiny", "--steps", 3), message)


@pytest.mark.parametrize("command", [["check"], ["info"], ["--bundle"]])
@pytest.mark.parametrize("file", ["manifest.json", "denoiser.fp32.onnx"])
def test_a_file_of_a_bundle(make_bundle: MakeBundle, drun: Drun, command: list[str], file: str) -> None:
    path = make_bundle()
    fails(drun(*command, path / file), f"'{path / file}' is a file of a bundle, expected its folder: '{path}'")


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


@pytest.mark.parametrize("command", [["check"], ["info"], ["--bundle"]])
def test_a_bundle_with_a_wrong_field(make_bundle: MakeBundle, drun: Drun, command: list[str]) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(step="x"))
    message = "wrong or missing field: manifest.model.checkpoint.step got 'x', expected a whole number; export again"
    refused(drun(*command, path), message)


@pytest.mark.parametrize("command", ["check", "info"])
def test_a_missing_file(make_bundle: MakeBundle, drun: Drun, command: str) -> None:
    path = make_bundle()
    (path / "denoiser.fp32.onnx").unlink()
    refused(drun(command, path), "lacks 'denoiser.fp32.onnx': copy the whole directory or export again")


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
