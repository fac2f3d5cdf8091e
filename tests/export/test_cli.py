import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporting import STATIC, content, export, load_trained
from typer.main import get_command

from dexport import cli, commands, targets
from dexport.commands import parse_batch
from dexport.options import ExportOptions
from dexport.proof import QUICK_PROOF
from drun.bundle import reading as bundles
from drun.bundle.artifact import TOLERANCES, Tolerance
from drun.errors import ConfigError

#: What runs a command in a process of its own, and with the plugins.
MAIN = "from {package}.cli import main; main()"


@pytest.fixture
def dexport(in_process: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    return in_process("dexport")


def run(package: str, *arguments: object, cwd: Path, plugins: Path | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", MAIN.format(package=package)] if plugins is None else [str(plugins), package]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_bare_export_then_bare_run(dexport: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """`dexport onnx ckpt.pt`, then `drun --backend ort --steps N`, as written in the mission."""
    done = run("dexport", "onnx", tiny_checkpoint.parent, "--quick", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"'{tiny_checkpoint}' is the newest checkpoint in '{tiny_checkpoint.parent}'" in done.stdout
    assert "added onnx-fp32\n" in done.stdout
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
    refused = dexport(*again)
    assert (refused.code, "ema weights: add --force to replace all that it holds" in refused.err) == (1, True)
    done = dexport(*again, "--force")
    assert f"replaced a bundle of {tiny_checkpoint.name} (" in done.out
    assert "initial weights" not in done.err
    done = run("drun", "check", f"bundles/{tiny_checkpoint.stem}", "--all", "--backend", "ort", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "parity with eager PyTorch holds on 1 of 1 targets" in done.stdout


@pytest.mark.slow
def test_a_derived_target_of_a_checkpoint_makes_its_source_first(
    tiny_checkpoint: Path, plugins: Path, tmp_path: Path
) -> None:
    arguments = ["dexport", "mirror", tiny_checkpoint, "-o", "b", "--batch", "2", "--quick"]
    done = run(*arguments, cwd=tmp_path, plugins=plugins)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("added", "kept", "sample", "b"))]
    assert said == [
        "added onnx-fp32", "added mirror-fp32", "kept onnx-fp32", "b",
        "sample from it: drun --backend mirror --steps 250 --bundle b",
    ]  # fmt: skip
    assert done.stdout.count("5-step") == 0
    assert done.stdout.count("call, batch 1, t = 500") == 2  # both parity tables
    assert {artifact.batch for artifact in bundles.read(tmp_path / "b").manifest.artifacts} == {(2, 2)}


def test_an_answer_for_programs(onnx_bundle: Path, plugins: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx_bundle, tmp_path / "bundles" / "b")
    done = run("dexport", "mirror", "b", "--json", cwd=tmp_path, plugins=plugins)
    document = json.loads(done.stdout)
    (made,) = document["exports"]
    assert (document["bundle"], made["artifact"], made["kept"]) == ("bundles/b", "mirror-fp32", ["onnx-fp32"])
    assert (len(made["checks"]), all(check["passed"] for check in made["checks"])) == (16, True)
    assert (made["dropped"], made["unproven"], made["quick"], made["replaced_bundle"]) == ([], {}, False, None)


def test_every_command_says_what_is_not_proven(onnx_bundle: Path, plugins: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx_bundle, tmp_path / "b")
    done = run("--without", "onnxruntime", "dexport", "mirror", "b", cwd=tmp_path, plugins=plugins)
    assert done.returncode == 0, done.stderr
    assert "warning: mirror-fp32 is not proven here (onnxruntime" in done.stderr
    assert "added mirror-fp32\nkept onnx-fp32\n" in done.stdout
    sample = ["--bundle", "b", "--steps", "2", "-n", "1", "--backend", "mirror"]
    for words in (["check", "b", "--backend", "mirror"], ["info", "b"], sample):
        done = run("drun", *words, cwd=tmp_path, plugins=plugins)
        assert done.returncode == 0, done.stderr
        assert "not proven where it was made" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("few_states")
def test_an_int8_graph_that_drifts_is_written_if_asked_for_and_every_command_warns(
    dexport: Callable[..., Any],
    in_process: Callable[[str], Callable[..., Any]],
    free_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(free_bundle, tmp_path / "b")
    before = content(folder)
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(1e-5, 1e-5))
    order = ["openvino", "b", "--precision", "int8"]
    refused = dexport(*order)
    assert refused.code == 3
    assert "error: openvino-int8: " in refused.err
    assert refused.err.endswith("; nothing was written; to keep it nevertheless, add --allow-drift\n")
    assert content(folder) == before
    written = dexport(*order, "--allow-drift")
    warning = "warning: openvino-int8 of 'b' is further from eager PyTorch than is allowed: see drun info\n"
    assert (written.code, written.err.count(warning)) == (0, 1)
    assert "  FAILED" in written.out
    assert "added openvino-int8\nkept onnx-fp32\nfinal images " in written.out
    assert "sample from it: drun --backend openvino --precision int8 " in written.out
    drun = in_process("drun")
    line = drun("info", "b").out.splitlines()[-1]
    assert ", more than is allowed: written by --allow-drift, final images " in line
    assert " dB from those of fp32 (16 images, 8 steps of ddpm, the farthest at " in line
    for words, code in (
        (["check", "b", "--precision", "int8"], 3),
        (["check", "b", "--all", "--backend", "openvino"], 3),
        (["--bundle", "b", "--precision", "int8", "--steps", "2", "-n", "1"], 0),
    ):
        done = drun(*words)
        assert (done.code, done.err.count(warning)) == (code, 1), words
    assert "warning" not in drun("--bundle", "b", "--steps", "2", "-n", "1").err
    document = json.loads(dexport(*order, "--allow-drift", "--json").out)
    assert document["exports"][0]["loss"]["images"] == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["openvino", "b"], "--allow-drift is for int8 alone, this graph is in fp32: leave it out"),
        (["onnx", "b"], "'b' is a bundle, and onnx is made of the network itself: type dexport onnx "),
    ],
)
def test_drift_is_for_int8_alone(
    dexport: Callable[..., Any], free_bundle: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    shutil.copytree(free_bundle, tmp_path / "b")
    done = dexport(*arguments, "--allow-drift")
    assert (done.code, message in done.err) == (1, True)
    assert "--allow-drift" in dexport("openvino", "--help").out
    assert "--allow-drift" not in dexport("onnx", "--help").out


def test_int8_of_a_bundle_without_a_float32_graph(
    dexport: Callable[..., Any], free_bundle: Path, tmp_path: Path
) -> None:
    bundle = bundles.read(shutil.copytree(free_bundle, tmp_path / "b"))
    other = replace(bundle.manifest.artifacts[0], precision="fp16", tolerance=TOLERANCES["fp16"])
    manifest = replace(bundle.manifest, artifacts=(other,))
    (bundle.path / "manifest.json").write_text(manifest.to_json())
    done = dexport("openvino", "b", "--precision", "int8")
    assert done.code == 1
    assert "error: bundle 'b' has no onnx artifact in fp32, of which openvino is made: type dexport onnx " in done.err


def test_the_targets_are_those_of_the_registry() -> None:
    assert list(get_command(cli.app).commands) == targets.names()  # type: ignore[attr-defined]


def test_help_needs_no_pytorch(plugins: Path, tmp_path: Path) -> None:
    for words in (["--help"], ["onnx", "--help"], ["mirror", "--help"]):
        done = run("--without", "torch", "dexport", *words, cwd=tmp_path, plugins=plugins)
        assert done.returncode == 0, done.stderr
    assert "Copy the ONNX graph into a folder" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CKPT"], "no target: type dexport onnx CKPT (targets: TARGETS)"),
        (["x.pt", "onnx", "--quick"], "no target: type dexport onnx x.pt --quick (targets: TARGETS)"),
        (["x.pt", "--quick"], "no target: type dexport onnx x.pt --quick (targets: TARGETS)"),
        (["tensorrt", "CKPT"], "unknown target 'tensorrt': type dexport onnx CKPT (targets: TARGETS)"),
        (["onx", "CKPT", "-o", "b"], "unknown target 'onx': type dexport onnx CKPT -o b (targets: TARGETS)"),
        (["verify", "b"], "unknown target 'verify': type dexport onnx b (targets: TARGETS)"),
        (["coremll"], "unknown target 'coremll': type dexport onnx CHECKPOINT (targets: TARGETS)"),
        (["onnx", "a-0000001.pt", "CKPT"], "got 2 sources, expected one, such as the last: dexport onnx CKPT"),
        (["onnx", "."], "'.' is a folder without checkpoints, expected one that 'dtrain run' wrote"),
        (["onnx", "none.pt"], "no such checkpoint: 'none.pt'"),
        (["onnx", "CKPT", "--batch", "many"], "--batch got 'many', expected a size such as 8 or a range such as 1..64"),
        (["onnx", "CKPT", "--weights", "best"], "--weights got 'best', expected ema or online"),
        (["onnx", "CKPT", "--set", "size"], "--set got 'size', expected option=value"),
        (["onnx", "CKPT", "--trajectory-steps", "2000"], "the model has 1000"),
        (["onnx", "CKPT", "--vae", "nowhere"], "--vae got 'nowhere', but this model draws pixels"),
        (["onnx", "CKPT", "--precision", "fp8"], "--precision got 'fp8', dexport onnx makes "),
        (["onnx", "CKPT", "-o", "file/bundle"], "cannot write 'file/bundle': Not a directory"),
        (["onnx", "CKPT", "-o", "file"], "'file' exists and is not a bundle: choose another -o"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    dexport: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    done = dexport(*(tiny_checkpoint if word == "CKPT" else word for word in arguments))
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 1
    assert len(errors) == 1
    assert message.replace("CKPT", str(tiny_checkpoint)).replace("TARGETS", ", ".join(targets.names())) in errors[0]
    assert os.listdir(tmp_path) == ["file"]


def test_a_target_of_the_network_asks_for_the_checkpoint_of_a_bundle(
    dexport: Callable[..., Any], tiny_checkpoint: Path, plugins: Path, tmp_path: Path
) -> None:
    trained = load_trained(tiny_checkpoint, "online", image_size="32")
    export(trained, tmp_path / "bundles" / "b", "eager", STATIC, QUICK_PROOF)
    done = dexport("onnx", "b")
    command = f"dexport onnx PATH/TO/{tiny_checkpoint.name} -o bundles/b --weights online --set image_size=32"
    assert (done.code, done.err) == (
        1, f"error: 'bundles/b' is a bundle, and onnx is made of the network itself: type {command}\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--quick", {"quick": True}), ("--force", {"force": True}), ("--out", {"out": Path("c")}),
        ("--vae", {"vae": "none"}), ("--set", {"settings": ("a=b",)}), ("--weights", {"weights": "online"}),
        ("--trajectory-steps", {"trajectory_steps": 3}),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("plugins")
def test_options_of_checkpoints_are_refused_with_a_bundle(
    onnx_bundle: Path, option: str, given: dict[str, Any]
) -> None:
    message = f"{option}: only for the export of a checkpoint, '{onnx_bundle}' is a bundle: leave it out"
    with pytest.raises(ConfigError, match=message):
        commands.export("mirror", [onnx_bundle], ExportOptions(**given))


@pytest.mark.parametrize(("text", "sizes"), [("8", (8, 8)), ("1..64", (1, 64)), ("2..2", (2, 2)), (None, None)])
def test_batch_sizes(text: str | None, sizes: tuple[int, int] | None) -> None:
    assert parse_batch(text) == sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [(text, "a size such as 8 or a range such as 1..64") for text in ("", "a..b", "1..")]
    + [(text, "sizes from 1 to 65,536, the smaller one first") for text in ("0", "8..2", "-1", "1..10000000000")],
)
def test_wrong_batch_sizes(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^--batch got '{text}', expected {expected}$"):
        parse_batch(text)
