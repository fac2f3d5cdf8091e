import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exporting import export, load_trained
from typer.main import get_command

from dexport import cli, targets
from dexport.commands import parse_batch
from dexport.options import ExportOptions
from dexport.writer.create import Trained
from drun.bundle import reading as bundles
from drun.errors import ConfigError

Command = Callable[..., Any]


@pytest.fixture
def dexport(in_process: Callable[[str], Command]) -> Command:
    return in_process("dexport")


@pytest.fixture
def with_plugins(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has the targets of the plugins, too."""
    for name in ("eager", "mirror"):
        cli.app.command(name, help=targets.summary(name))(cli._command_of(name))
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    del cli.app.registered_commands[-2:]


def run(package: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"from {package}.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)


def test_bare_export_then_bare_run(
    in_process: Callable[[str], Callable[..., Any]], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """`dexport onnx ckpt.pt`, then `drun --backend ort --steps N`, as written in the mission."""
    done = run("dexport", "onnx", str(tiny_checkpoint.parent), "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"'{tiny_checkpoint}' is the newest checkpoint in '{tiny_checkpoint.parent}'" in done.stdout
    assert "a quick proof, of 5 checks: export again without --quick before you rely on it" in done.stdout
    assert f"--steps 250 --bundle bundles/{tiny_checkpoint.stem}" in done.stdout
    warning = f"warning: the average in '{tiny_checkpoint}' still holds 99 % of the initial weights at step 1"
    assert done.stderr.count(warning) == 1
    done = run("drun", "--backend", "ort", "--steps", "3", "-n", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / tiny_checkpoint.stem / "ort-ddpm-3-seed0"
    names = {path.name for path in folder.iterdir()}
    assert names == {"000000.png", "000001.png", "grid.png", "run.json", "samples.npz"}
    out = ["-o", f"bundles/{tiny_checkpoint.stem}"]
    again = ["onnx", str(tiny_checkpoint), "--trajectory-steps", "2", "--weights", "online", "--batch", "2", *out]
    dexport = in_process("dexport")
    refused = dexport(*again)
    assert (refused.code, "ema weights: add --force to replace it" in refused.err) == (1, True)
    done = dexport(*again, "--force")
    assert f"replaced a bundle of {tiny_checkpoint.name} (" in done.out
    assert "initial weights" not in done.err
    done = dexport("verify", f"bundles/{tiny_checkpoint.stem}")
    assert done.code == 0, done.err
    assert "parity with eager PyTorch holds on ONNX Runtime on CPU" in done.out


def test_the_targets_are_those_of_the_registry() -> None:
    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    assert [name for name, command in commands.items() if cli.takes_checkpoint(command)] == targets.names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CKPT"], "no target: type dexport onnx CKPT (targets: onnx)"),
        (["x.pt", "onnx", "--quick"], "no target: type dexport onnx x.pt --quick (targets: onnx)"),
        (["x.pt", "--quick"], "no target: type dexport onnx x.pt --quick (targets: onnx)"),
        (["tensorrt", "CKPT"], "unknown target 'tensorrt': type dexport onnx CKPT (targets: onnx)"),
        (["onx", "CKPT", "-o", "b"], "unknown target 'onx': type dexport onnx CKPT -o b (targets: onnx)"),
        (["coreml"], "unknown target 'coreml': type dexport onnx CHECKPOINT (targets: onnx)"),
        (["onnx", "a-0000001.pt", "CKPT"], "got 2 checkpoints, expected one, such as the last: dexport onnx CKPT"),
        (["onnx", "."], "'.' is a folder without checkpoints, expected one that 'dtrain run' wrote"),
        (["onnx", "none.pt"], "no such checkpoint: 'none.pt'"),
        (["onnx", "CKPT", "--batch", "many"], "--batch got 'many'"),
        (["onnx", "CKPT", "--weights", "best"], "--weights got 'best'"),
        (["onnx", "CKPT", "--set", "size"], "--set got 'size', expected option=value"),
        (["onnx", "CKPT", "--trajectory-steps", "2000"], "the model has 1000"),
        (["onnx", "CKPT", "--vae", "nowhere"], "--vae got 'nowhere', but this model draws pixels"),
        (["onnx", "CKPT", "-o", "file/bundle"], "file"),
        (["verify", "nowhere"], "'nowhere' is not a bundle"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    in_process: Callable[[str], Callable[..., Any]],
    tiny_checkpoint: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "file").touch()
    done = in_process("dexport")(*(tiny_checkpoint if word == "CKPT" else word for word in arguments))
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 1
    assert len(errors) == 1
    assert message.replace("CKPT", str(tiny_checkpoint)) in errors[0]
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("text", "sizes"), [("8", (8, 8)), ("1..64", (1, 64)), ("2..2", (2, 2))])
def test_batch_sizes(text: str, sizes: tuple[int, int]) -> None:
    assert parse_batch(text) == sizes


@pytest.mark.parametrize("text", ["", "0", "8..2", "a..b", "1..", "-1", "1..10000000000"])
def test_wrong_batch_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="--batch got"):
        parse_batch(text)
