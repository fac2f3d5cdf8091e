"""What is at the place of a bundle: the same one, another one, or nothing that an export may touch."""

from pathlib import Path

import pytest
from exporting import export, load_trained

from dexport.proof import full_proof
from dexport.writer.create import Trained, create_bundle
from dexport.writer.place import look
from dexport.writer.staging import Order
from drun.bundle import reading as bundles
from drun.bundle.manifest import CheckpointEntry
from drun.bundle.reading import Bundle
from drun.console import silent
from drun.errors import BundleError


@pytest.fixture
def bundle(trained: Trained, plugins: Path, tmp_path: Path) -> Bundle:
    export(trained, tmp_path / "bundle", "eager")
    return bundles.read(tmp_path / "bundle")


def test_a_bundle_is_its_checkpoint_its_weights_and_its_settings(bundle: Bundle) -> None:
    out, source = bundle.path, bundle.manifest.model.checkpoint
    assert look(out, source).held == bundle
    of = rf"a bundle of {source['file']} \({source['sha256'][:12]}…\), ema weights"
    for change in ({"sha256": "f" * 64}, {"weights": "online"}, {"settings": {"image_size": "32"}}):
        other: CheckpointEntry = source | change  # type: ignore[assignment, operator]
        with pytest.raises(BundleError, match=rf"is {of}: add --force to replace all that it holds, or use another -o"):
            look(out, other)
        place = look(out, other, force=True)
        assert place.held is None
        assert place.replaced is not None


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_no_bundle_lists_is_never_lost(bundle: Bundle, force: bool) -> None:
    (bundle.path / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"holds 'notes.txt', which is not of the bundle: move it away"):
        look(bundle.path, bundle.manifest.model.checkpoint, force)


@pytest.mark.parametrize("file", ["manifest.json", "golden.npz", "denoiser.fp32.eager"])
def test_a_damaged_bundle_is_replaced_by_force_only(bundle: Bundle, file: str) -> None:
    path, source = bundle.path / file, bundle.manifest.model.checkpoint
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        BundleError, match=r"is a bundle that cannot be read .*: add --force to replace all that it holds"
    ):
        look(bundle.path, source)
    assert look(bundle.path, source, force=True).held is None


def test_force_writes_the_bundle_of_another_checkpoint_anew(bundle: Bundle, trained: Trained) -> None:
    online = load_trained(trained.checkpoint, "online")
    order = Order("eager")
    with pytest.raises(BundleError, match="ema weights: add --force"):
        create_bundle(online, order, bundle.path, full_proof(3), silent)
    written = create_bundle(online, order, bundle.path, full_proof(3), silent, force=True)
    assert written.replaced is not None
    assert bundles.read(bundle.path).manifest.model.checkpoint["weights"] == "online"


def test_a_folder_that_is_not_a_bundle_is_never_replaced(trained: Trained, plugins: Path, tmp_path: Path) -> None:
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "photo.jpg").touch()
    (out / "manifest.json").write_text('{"name": "an application of the web"}')
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        export(trained, out, "eager")
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "photo.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]
