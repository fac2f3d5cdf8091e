"""A golden file is kept where it compares as much as is asked for."""

from pathlib import Path

import pytest
from networks import perturb

from dexport import commands, proof
from dexport.options import ExportOptions
from dexport.proof import QUICK_PROOF, Proof, full_proof, proof_of, usual_steps
from drun.bundle import reading as bundles
from drun.errors import ConfigError
from drun.run.golden import read_golden
from dtrain import config, models
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint


@pytest.mark.parametrize(
    ("held", "asked", "covers"),
    [
        (full_proof(25), QUICK_PROOF, True),
        (QUICK_PROOF, full_proof(25), False),
        (full_proof(250), full_proof(25), True),
        (full_proof(25), full_proof(250), False),
        (QUICK_PROOF, QUICK_PROOF, True),
        (Proof(5, (3,), 25), Proof(5, (1,), 25), False),
        (Proof(2, (1,), 9), full_proof(3), False),
    ],
)
def test_what_a_proof_covers(held: Proof, asked: Proof, covers: bool) -> None:
    assert held.covers(asked) is covers
    for one in (held, asked):
        assert held.united(asked).covers(one)


def test_a_quick_proof_stays_one_however_long_its_trajectory() -> None:
    assert QUICK_PROOF.is_quick
    assert Proof(2, (1,), 250).is_quick
    assert not full_proof(1).is_quick


def test_the_proof_of_a_golden_file(onnx_bundle: Path) -> None:
    assert proof_of(read_golden(bundles.read(onnx_bundle))) == full_proof(3)


def test_a_large_network_takes_fewer_steps() -> None:
    assert (usual_steps(300_000_000), usual_steps(300_000_001)) == (25, 10)
    assert full_proof(usual_steps(1)) == full_proof()


@pytest.mark.usefixtures("plugins")
def test_fewer_steps_are_said_and_stand_in_the_manifest(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proof, "LARGE", 1000)
    sentence = "the proof has 10 steps of the sampler, because the network has 0M parameters: see --trajectory-steps"
    for given, steps in ((None, 10), (3, 3)):
        out = tmp_path / str(steps)
        commands.export("eager", [tiny_checkpoint], ExportOptions(out, trajectory_steps=given))
        assert (sentence in capsys.readouterr().out) is (given is None)
        (artifact,) = bundles.read(out).manifest.artifacts
        assert artifact.parity is not None
        assert artifact.parity["steps"] == steps


@pytest.mark.usefixtures("plugins")
def test_a_short_chain_has_a_proof_of_as_many_steps(tmp_path: Path) -> None:
    recipe = config.load("digits-unet", ["model.dim=8", "model.dim_mults=[1,2]", "process.num_timesteps=12"])
    weights = perturb(models.build(recipe.model)).state_dict()
    path = checkpoint.save(Checkpoint(recipe, 1, weights, weights, {}), tmp_path / "run", keep=1)
    commands.export("eager", [path], ExportOptions(tmp_path / "out"))
    (artifact,) = bundles.read(tmp_path / "out").manifest.artifacts
    assert artifact.parity is not None
    assert artifact.parity["steps"] == 12
    with pytest.raises(ConfigError, match="--trajectory-steps got 13, the model has 12"):
        commands.export("eager", [path], ExportOptions(tmp_path / "other", trajectory_steps=13))
