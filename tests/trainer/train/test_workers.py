"""Many processes learn what one learns: DDP and FSDP2 over gloo on CPUs, parts of a batch, fp16's skipped steps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from drun.console import silent
from drun.errors import ConfigError, UserError
from dtrain import config, device, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.device import Placement
from dtrain.train import loop
from dtrain.train.workers import MAX_SKIPPED, Workers

CPU = Placement(torch.device("cpu"), "fp32", compile=False, reasons=())
SMALL = [
    "train.steps=6", "train.batch_size=8", "train.log_every=1", "train.save_every=3", "train.preview_every=6",
    "train.num_previews=1", "train.preview_steps=2", "model.size={hidden_size=16,depth=2,num_heads=2}",
    "data.augment=['hflip']", "optimizer.learning_rate=1e-2", "optimizer.decay_share=0.0",
]  # fmt: skip

#: One process of a run. accelerate starts FSDP on GPUs only, so it is told here.
PROCESS = """
import sys
from pathlib import Path
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from drun.console import silent
from dtrain import config
from dtrain.train import loop
from dtrain.train import workers
from dtrain.device import Placement

class Sharded(workers.Workers):
    def __init__(self, placement):
        super().__init__(placement)
        state = self.accelerator.state
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=["Block"],
            cpu_offload=False, state_dict_type="FULL_STATE_DICT",
        )

    def prepare(self, module, optimizer):
        prepared = super().prepare(module, optimizer)
        assert "FSDP" in type(prepared[0]).__name__
        return prepared

kind, out, name, *assignments = sys.argv[1:]
if kind == "fsdp":
    loop.Workers = Sharded
placement = Placement(torch.device("cpu"), "fp32", False, ())
loop.train(config.load(name, assignments), Path(out), placement, kind == "resume", silent)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_processes(kind: str, out: Path, name: str, assignments: list[str], count: int = 2) -> None:
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, kind, str(out), name, *assignments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    for process in started:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors[-3000:]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    inner = value.items() if isinstance(value, dict) else []
    return {path: tensor for key, item in inner for path, tensor in tensors(item, f"{name}.{key}").items()}


def same(one: Path, other: Path) -> None:
    """All that two checkpoints hold agrees to rounding."""
    first, second = checkpoint.read(one), checkpoint.read(other)
    for part in ("model", "ema", "optimizer", "objective"):
        a, b = tensors(getattr(first, part)), tensors(getattr(second, part))
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=2e-5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = config.load("digits-teacher", ["model.hidden_size=8", "model.depth=1", "model.num_heads=2"])
    state = models.build(recipe.model).state_dict()
    return checkpoint.save(Checkpoint(recipe, 1, state, state, {}), tmp_path_factory.mktemp("teacher"), 1)


@pytest.fixture(scope="module")
def aligned(teacher: Path) -> list[str]:
    """REPA on the digits, tiny."""
    return [
        *SMALL, f"objective.teachers=['{teacher}']", "objective.encoder_depth=1", "objective.projector_width=8",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(aligned: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone")
    loop.train(config.load("digits-sit-repa", aligned), out, CPU, False, silent)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(kind: str, alone: Path, aligned: list[str], tmp_path: Path) -> None:
    run_processes(kind, tmp_path, "digits-sit-repa", aligned)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    name = "digits-sit-repa-0000006.pt"
    same(tmp_path / name, alone / name)
    assert (tmp_path / "previews" / "step-0000006.png").is_file()


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped(alone: Path, aligned: list[str], tmp_path: Path) -> None:
    half = [each.replace("train.steps=6", "train.steps=3") for each in aligned]
    loop.train(config.load("digits-sit-repa", half), tmp_path, CPU, False, silent)
    run_processes("resume", tmp_path, "digits-sit-repa", aligned)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    same(tmp_path / "digits-sit-repa-0000006.pt", alone / "digits-sit-repa-0000006.pt")


@pytest.mark.parametrize("accumulate", [2, 8])
def test_parts_of_a_batch_add_up_to_it(alone: Path, aligned: list[str], tmp_path: Path, accumulate: int) -> None:
    recipe = config.load("digits-sit-repa", [*aligned, f"train.accumulate={accumulate}"])
    loop.train(recipe, tmp_path, CPU, False, silent)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    same(tmp_path / "digits-sit-repa-0000006.pt", alone / "digits-sit-repa-0000006.pt")


def test_a_batch_that_cannot_be_divided(tmp_path: Path) -> None:
    recipe = config.load("digits-sit", [*SMALL, "train.accumulate=3"])
    message = "train.batch_size got 8, expected a multiple of 1 processes times train.accumulate = 3"
    with pytest.raises(ConfigError, match=message):
        loop.train(recipe, tmp_path / "out", CPU, False, silent)
    assert not (tmp_path / "out").exists()


class Scaled(Workers):
    """Workers with fp16's scaler, which torch has for CPUs, too. Gradients overflow above a scale of `limit`."""

    limit = 2.0**14

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)

    def prepare(self, module: Any, optimizer: Any) -> Any:
        self.weights = list(module.parameters())
        return super().prepare(module, optimizer)

    def backward(self, loss: torch.Tensor) -> None:
        super().backward(loss)
        if self.accelerator.scaler.get_scale() > self.limit:
            self.weights[-1].grad.fill_(torch.inf)


@pytest.mark.parametrize(("precision", "is_fused"), [("fp32", True), ("bf16", False)])
def test_attention_on_a_processor_is_computed_in_parts_in_bf16(precision: str, is_fused: bool) -> None:
    workers = Workers(device.choose("cpu", precision, "off"))
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    with workers.autocast():
        mixed = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    names, reached = {type(mixed.grad_fn).__name__}, [mixed.grad_fn]
    while reached and (node := reached.pop()) is not None:
        names.add(type(node).__name__)
        reached += [parent for parent, _ in node.next_functions]
    assert any("FlashAttention" in name for name in names) == is_fused
    expected = torch.softmax(q @ q.transpose(-2, -1) / 8**0.5, dim=-1) @ q
    torch.testing.assert_close(mixed.float(), expected, rtol=0.02, atol=0.02)
    again = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert "FlashAttention" in type(again.grad_fn).__name__  # outside of a step nothing has changed


def test_a_skipped_fp16_step_advances_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale is halved twice, each time for nothing else; then the steps are those of float32."""
    recipe = config.load("digits-sit", SMALL)
    loop.train(recipe, tmp_path / "plain", CPU, False, silent)
    monkeypatch.setattr(loop, "Workers", Scaled)
    attempts: list[int] = []
    update = loop.update

    def counted(run: loop.Run, parts: Any) -> bool:
        before = run.step, {name: tensor.clone() for name, tensor in run.ema.average.items()}
        assert update(run, parts) == (run.step > before[0])
        attempts.append(run.step)
        if run.step == before[0]:
            assert all(torch.equal(tensor, before[1][name]) for name, tensor in run.ema.average.items())
        return run.step > before[0]

    monkeypatch.setattr(loop, "update", counted)
    scaled = loop.train(recipe, tmp_path / "scaled", CPU, False, silent)
    assert attempts == [0, 0, 1, 2, 3, 4, 5, 6]
    # A scaled gradient meets Adam's epsilon otherwise.
    assert losses(tmp_path / "scaled") == pytest.approx(losses(tmp_path / "plain"), rel=5e-4)
    assert checkpoint.read(scaled).scaler["scale"] == 2.0**14


def test_endless_overflow_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scaled, "limit", 0.0)
    monkeypatch.setattr(loop, "Workers", Scaled)
    with pytest.raises(UserError, match=f"fp16 overflowed {MAX_SKIPPED} times in a row: training stopped"):
        loop.train(config.load("digits-sit", SMALL), tmp_path, CPU, False, silent)


def test_a_resumed_alignment_goes_on_bit_for_bit(alone: Path, aligned: list[str], tmp_path: Path) -> None:
    """Weights, projectors, average and optimizer, on one process."""
    half = [each.replace("train.steps=6", "train.steps=3") for each in aligned]
    loop.train(config.load("digits-sit-repa", half), tmp_path, CPU, False, silent)
    last = loop.train(config.load("digits-sit-repa", aligned), tmp_path, CPU, True, silent)
    got, expected = checkpoint.read(last), checkpoint.read(alone / last.name)
    assert losses(tmp_path) == losses(alone)
    for part in ("model", "ema", "optimizer", "objective"):
        a, b = tensors(getattr(got, part)), tensors(getattr(expected, part))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), part


def test_an_alignment_may_end_between_two_lines_of_the_log(aligned: list[str], tmp_path: Path) -> None:
    """The line's mean of the alignment is over the steps that had one."""
    every, rare = tmp_path / "every", tmp_path / "rare"
    for out, log_every in ((every, 1), (rare, 6)):
        changed = [each.replace("log_every=1", f"log_every={log_every}") for each in aligned]
        changed = [each.replace("save_every=3", "save_every=6") for each in changed]
        loop.train(config.load("digits-sit-repa", [*changed, "objective.stop_after=2"]), out, CPU, False, silent)
    lines = [json.loads(line) for line in (every / "log.jsonl").read_text().splitlines()]
    (last,) = [json.loads(line) for line in (rare / "log.jsonl").read_text().splitlines()]
    assert [("alignment" in line) for line in lines] == [True, True, False, False, False, False]
    assert last["alignment"] == pytest.approx(sum(line["alignment"] for line in lines[:2]) / 2, rel=1e-5)
    assert last["loss"] == pytest.approx(sum(line["loss"] for line in lines) / 6, rel=1e-5)
