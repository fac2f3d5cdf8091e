"""The export of a checkpoint onto nothing, onto its own bundle, and onto something else."""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import FULL_CHECKS, QUICK_CHECKS, STATIC, content, export, ids, load_trained
from torch import nn

from dexport import describe, targets
from dexport.latents import find_decoder
from dexport.proof import QUICK_PROOF, full_proof
from dexport.writer import create
from dexport.writer.add import add_artifact
from dexport.writer.create import Trained, create_bundle
from dexport.writer.pairs import pairs_of
from dexport.writer.proving import prove
from dexport.writer.staging import Order
from drun import backends
from drun.backends import Probe
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.console import silent
from drun.errors import BackendUnavailable, CheckpointError, ConfigError, ExportError, NotTrusted, ParityError


@pytest.fixture
def bundle(onnx_bundle: Path, plugins: Path, tmp_path: Path) -> Path:
    """A bundle of ONNX and what was made of it."""
    shutil.copytree(onnx_bundle, tmp_path / "bundle")
    add_artifact(tmp_path / "bundle", Order("mirror"), silent)
    return tmp_path / "bundle"


def golden_sha256(path: Path) -> str:
    return bundles.read(path).manifest.golden.sha256


def rewritten(path: Path, **changes: Any) -> None:
    """A bundle whose manifest says something else."""
    manifest = replace(bundles.read(path).manifest, **changes)
    (path / "manifest.json").write_text(manifest.to_json())


# ---- a new bundle ---------------------------------------------------------------------------------------


def test_the_bundle_is_complete_and_describes_the_checkpoint(onnx_bundle: Path, tiny_checkpoint: Path) -> None:
    manifest = bundles.read(onnx_bundle).manifest
    (artifact,) = manifest.artifacts
    assert sorted(path.name for path in onnx_bundle.iterdir()) == ["denoiser.fp32.onnx", "golden.npz", "manifest.json"]
    assert manifest.model.checkpoint["sha256"] == hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()
    assert manifest.model.checkpoint["initial_share"] == 0.99
    assert (manifest.prediction, manifest.data.shape, manifest.classes) == ("noise", (1, 16, 16), None)
    assert manifest.process == {"kind": "discrete", "schedule": "linear", "num_timesteps": 1000}
    assert (artifact.id, artifact.batch, artifact.derived_from) == ("onnx-fp32", STATIC, None)
    assert artifact.parity is not None
    assert artifact.parity["checks"] == FULL_CHECKS
    assert (artifact.parity["passed"], artifact.parity["quick"]) == (True, False)
    assert (artifact.parity["backend"], artifact.parity["steps"]) == ("ONNX Runtime on CPU", 3)
    assert artifact.parity["worst"]["relative_l2"] > 0
    assert json.loads(manifest.to_json())["schema_version"] == manifests.SCHEMA_VERSION


@pytest.mark.usefixtures("plugins")
def test_any_target_creates_the_bundle(trained: Trained, tmp_path: Path) -> None:
    written = export(trained, tmp_path / "b", "eager")
    assert (written.made, written.held, written.replaced, written.unproven) == ("eager-fp32", (), None, {})
    assert ids(tmp_path / "b") == ["eager-fp32"]
    assert bundles.read(tmp_path / "b").manifest.artifacts[0].parity == written.bundle.manifest.artifacts[0].parity
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.usefixtures("plugins")
def test_a_wrong_target_fails_and_leaves_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets.load("eager"), "GAIN", 1.0001)
    with pytest.raises(ParityError, match=r"eager-fp32: .*relative L2 .*, allowed .*; nothing was written") as caught:
        export(trained, tmp_path / "wrong", "eager")
    assert caught.value.exit_code == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("plugins")
def test_a_target_that_hides_a_file_is_refused(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.load("eager")
    real = target.export

    def untidy(part: Any, folder: Path) -> Any:
        (folder / "notes.txt").touch()
        return real(part, folder)

    monkeypatch.setattr(target, "export", untidy)
    with pytest.raises(ExportError, match=r"eager-fp32 wrote 'notes.txt' and does not list it"):
        export(trained, tmp_path / "b", "eager")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("plugins")
def test_two_exports_begin_one_bundle(trained: Trained, tmp_path: Path) -> None:
    orders = [Order("eager", precision) for precision in ("fp32", "bf16")]
    with ThreadPoolExecutor() as threads:
        begun = [
            threads.submit(create_bundle, trained, order, tmp_path / "b", full_proof(3), silent) for order in orders
        ]
        assert sorted(len(one.result().held) for one in begun) == [0, 1]
    assert sorted(ids(tmp_path / "b")) == ["eager-bf16", "eager-fp32"]


# ---- the weights, which are maps of the checkpoint ------------------------------------------------------


@pytest.fixture
def own_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A file that no other test maps."""
    return Path(shutil.copy(tiny_checkpoint, tmp_path / "own.pt"))


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list a process's maps")
@pytest.mark.parametrize("target", ["onnx", "pt2"])
def test_the_weights_leave_the_memory_before_the_proof(
    own_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    own, real, before_proof = load_trained(own_checkpoint), create.complete, list[bool]()

    def complete(*arguments: Any) -> Any:
        before_proof.append(is_mapped(own_checkpoint))
        return real(*arguments)

    monkeypatch.setattr(create, "complete", complete)
    for number, is_last in enumerate((False, True)):
        out = tmp_path / str(number)
        written = create_bundle(own, Order(target, "fp32", STATIC), out, QUICK_PROOF, silent, is_last=is_last)
        assert written.results
    assert before_proof == [True, False]
    assert {parameter.device.type for parameter in own.denoiser.network.parameters()} == {"meta"}


@pytest.mark.usefixtures("plugins")
def test_a_checkpoint_that_is_written_to_meanwhile_is_refused(own_checkpoint: Path, tmp_path: Path) -> None:
    """A new file in its place, as our training makes it, is another matter: the old one stays as it was."""
    own = load_trained(own_checkpoint)
    with own_checkpoint.open("r+b") as file:
        file.write(b"P")  # as every archive begins
    os.utime(own_checkpoint, (1e9, 1e9))
    with pytest.raises(CheckpointError, match=r"own\.pt' was written to during the export: run the command again"):
        export(own, tmp_path / "b", "eager", STATIC, QUICK_PROOF)
    assert [path.name for path in tmp_path.iterdir()] == ["own.pt"]
    own = load_trained(own_checkpoint)
    (tmp_path / "new.pt").write_bytes(b"of the next step")
    (tmp_path / "new.pt").replace(own_checkpoint)
    assert export(own, tmp_path / "b", "eager", STATIC, QUICK_PROOF).results


# ---- the bundle of the same checkpoint ------------------------------------------------------------------


def test_a_second_target_is_added_and_nothing_else_changes(trained: Trained, bundle: Path) -> None:
    before, held = content(bundle), bundles.read(bundle).manifest.artifacts
    written = export(trained, bundle, "eager")
    assert (written.made, written.held, written.dropped) == ("eager-fp32", ["onnx-fp32", "mirror-fp32"], [])
    assert not written.has_new_golden
    after = content(bundle)
    assert after.items() >= {name: data for name, data in before.items() if "manifest" not in name}.items()
    assert {Path(name).name for name in after.keys() - before.keys()} == {"denoiser.fp32.eager"}
    assert bundles.read(bundle).manifest.artifacts[:2] == held
    bundles.read(bundle).check_files()


def test_a_second_precision_is_another_artifact(trained: Trained, bundle: Path) -> None:
    export(trained, bundle, "eager")
    create_bundle(trained, Order("eager", "bf16"), bundle, full_proof(3), silent)
    assert ids(bundle) == ["onnx-fp32", "mirror-fp32", "eager-fp32", "eager-bf16"]


@pytest.mark.slow
def test_a_graph_with_equal_bytes_keeps_what_was_derived_from_it(trained: Trained, bundle: Path) -> None:
    written = export(trained, bundle, "onnx", STATIC)
    assert written.dropped == []
    assert ids(bundle) == ["onnx-fp32", "mirror-fp32"]


def test_a_graph_with_other_bytes_drops_what_was_derived_from_the_old_one(trained: Trained, bundle: Path) -> None:
    export(trained, bundle, "eager")
    written = export(trained, bundle, "onnx", (3, 3))
    assert (written.made, written.dropped) == ("onnx-fp32", ["mirror-fp32"])
    assert ids(bundle) == ["onnx-fp32", "eager-fp32"]
    assert bundles.read(bundle).manifest.artifacts[0].batch == (3, 3)
    assert not (bundle / "denoiser.fp32.mirror").exists()
    assert bundles.read(bundle).unlisted() == []


def test_a_failed_proof_changes_nothing(trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(bundle)
    monkeypatch.setattr(targets.load("eager"), "GAIN", 1.0001)
    with pytest.raises(ParityError):
        export(trained, bundle, "eager")
    assert content(bundle) == before


def test_a_target_that_cannot_be_proven_here_says_so(
    trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe(False, "it needs another machine", "pip install another")
    monkeypatch.setattr(backends.load("eager"), "probe", staticmethod(lambda: probe))
    written = export(trained, bundle, "eager")
    assert written.results == ()
    assert written.unproven == {"eager-fp32": "it needs another machine; install it with: pip install another"}
    assert [artifact.parity is None for artifact in bundles.read(bundle).manifest.artifacts] == [False, False, True]


# ---- the golden file ------------------------------------------------------------------------------------


def proofs(path: Path) -> Sequence[tuple[int, bool] | None]:
    found = [artifact.parity for artifact in bundles.read(path).manifest.artifacts]
    return [parity and (parity["checks"], parity["quick"]) for parity in found]


def test_a_quick_export_keeps_the_full_proof(trained: Trained, bundle: Path) -> None:
    before = golden_sha256(bundle)
    written = export(trained, bundle, "eager", proof=QUICK_PROOF)
    assert (golden_sha256(bundle), written.is_quick, written.has_new_golden) == (before, False, False)
    assert proofs(bundle) == [(FULL_CHECKS, False)] * 3


@pytest.mark.usefixtures("plugins")
@pytest.mark.slow
def test_a_full_proof_replaces_a_quick_one_and_proves_all_again(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "b"
    assert export(trained, out, "onnx", STATIC, QUICK_PROOF).is_quick
    add_artifact(out, Order("mirror"), silent)
    assert proofs(out) == [(QUICK_CHECKS, True)] * 2
    written = export(trained, out, "eager")
    assert (written.has_new_golden, written.is_quick) == (True, False)
    assert proofs(out) == [(FULL_CHECKS, False)] * 3
    assert len(written.results) == FULL_CHECKS


def test_a_longer_trajectory_is_never_cut(trained: Trained, bundle: Path) -> None:
    assert export(trained, bundle, "eager", proof=full_proof(4)).has_new_golden
    before = golden_sha256(bundle)
    assert not export(trained, bundle, "eager", proof=full_proof(2)).has_new_golden
    assert golden_sha256(bundle) == before
    assert bundles.read(bundle).manifest.artifacts[0].parity["worst"]["tolerance"] > 0


def test_another_version_makes_the_golden_file_anew(trained: Trained, bundle: Path) -> None:
    rewritten(bundle, created_by="dexport 0.0.1")
    written = export(trained, bundle, "eager", proof=QUICK_PROOF)
    assert written.has_new_golden
    assert bundles.read(bundle).manifest.created_by == describe.created_by()
    assert proofs(bundle) == [(FULL_CHECKS, False)] * 3  # as full as it was


def test_what_cannot_be_proven_again_here_is_unproven(
    trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.load("mirror"), "probe", staticmethod(lambda: Probe(False, "gone", "pip")))
    written = export(trained, bundle, "eager", proof=full_proof(4))
    assert written.unproven == {"mirror-fp32": "gone; install it with: pip"}
    assert proofs(bundle) == [(FULL_CHECKS, False), None, (FULL_CHECKS, False)]


def test_a_library_that_does_not_load_proves_nothing(
    trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is installed, so that a look at it says nothing."""

    def lost(*_: object) -> tuple[str, ...]:
        raise BackendUnavailable("mirror does not load: it lacks a library")

    monkeypatch.setattr(backends.load("mirror"), "arithmetics", lost)
    written = export(trained, bundle, "eager", proof=full_proof(4))
    assert written.unproven == {"mirror-fp32": "mirror does not load: it lacks a library"}


def test_a_proof_trusts_nobody(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle may hold a stranger's program."""
    written = export(trained, tmp_path / "b", "pt2", STATIC, QUICK_PROOF)
    (pair,) = pairs_of(written.bundle.manifest)
    assert prove(written.bundle, pair, silent).results
    monkeypatch.setenv("DEXPORT_STATE", str(tmp_path / "elsewhere"))
    with pytest.raises(NotTrusted):
        prove(written.bundle, pair, silent)


class Louder(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = 1.01 * self.network(x, t)
        return out


@pytest.mark.usefixtures("plugins")
def test_a_held_artifact_that_fails_the_new_proof_stops_the_export(trained: Trained, tmp_path: Path) -> None:
    """Such as one of another version of PyTorch, which computed something else."""
    export(trained, tmp_path / "b", "eager")
    before = content(tmp_path / "b")
    louder = replace(trained.denoiser, network=Louder(trained.denoiser.network))
    with pytest.raises(ParityError, match=r"eager-fp32: .*nothing was written"):
        export(replace(trained, denoiser=louder), tmp_path / "b", "onnx", STATIC, full_proof(4))
    assert content(tmp_path / "b") == before


# ---- the decoder ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def latent(sit_checkpoint: Path, tiny_vae: Path) -> Trained:
    bare = load_trained(sit_checkpoint, num_heads="2")
    return replace(bare, decoder=find_decoder(bare.denoiser, str(tiny_vae)))


def decoder_ids(path: Path) -> list[str]:
    decoder = bundles.read(path).manifest.decoder
    return [artifact.id for artifact in decoder.artifacts] if decoder else []


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
def test_each_target_has_a_decoder_of_its_own(latent: Trained, tmp_path: Path) -> None:
    out = tmp_path / "b"
    export(latent, out, "onnx", STATIC)
    add_artifact(out, Order("mirror"), silent)
    export(latent, out, "eager")
    assert ids(out) == decoder_ids(out) == ["onnx-fp32", "mirror-fp32", "eager-fp32"]
    decoder = bundles.read(out).manifest.decoder
    assert decoder is not None
    for artifact in decoder.artifacts:
        assert artifact.parity is not None
        assert (artifact.parity["checks"], artifact.parity["worst"]["name"]) == (1, "decoder, batch 2")
    assert [artifact.parity["backend"] for artifact in decoder.artifacts if artifact.parity] == [
        "ONNX Runtime on CPU", "ONNX Runtime on CPU", "unpickled PyTorch",
    ]  # fmt: skip


@pytest.mark.usefixtures("plugins")
def test_a_decoder_comes_later_and_stays(latent: Trained, tmp_path: Path) -> None:
    out, bare = tmp_path / "b", replace(latent, decoder=None)
    export(bare, out, "eager")
    assert decoder_ids(out) == []
    assert export(latent, out, "eager").has_new_golden
    assert decoder_ids(out) == ["eager-fp32"]
    assert not export(bare, out, "eager").has_new_golden
    assert decoder_ids(out) == ["eager-fp32"]
    with pytest.raises(ConfigError, match=r"golden file of .* is to be made anew.*name the decoder's VAE by --vae"):
        export(bare, out, "eager", proof=full_proof(4))


@pytest.mark.usefixtures("plugins")
def test_another_decoder_replaces_all_of_the_old_one(
    latent: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    export(latent, out, "eager")
    assert latent.decoder is not None
    other = copy.deepcopy(latent.decoder.network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1.01
    changed = replace(latent, decoder=replace(latent.decoder, network=other))
    written = create_bundle(changed, Order("eager", "bf16"), out, full_proof(3), silent)
    assert written.has_new_golden
    assert "the VAE is another one: the bundle loses the old decoder of eager-fp32" in capsys.readouterr().out
    assert (ids(out), decoder_ids(out)) == (["eager-fp32", "eager-bf16"], ["eager-bf16"])
    assert bundles.read(out).unlisted() == []
