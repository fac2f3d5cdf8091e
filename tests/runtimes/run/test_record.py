"""`run.json`: images of other settings, other networks or nobody's making are never adopted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from openings import as_if
from runs import ANCESTRAL, draw, results

from drun.backends import null
from drun.bundle import artifact as artifacts
from drun.bundle import manifest as manifests
from drun.bundle import reading as bundles
from drun.bundle.reading import Bundle
from drun.errors import ConfigError, UserError
from drun.run.output import Output
from drun.run.record import claim
from drun.run.session import Session
from drun.settings import SamplingSettings

MakeBundle = Callable[..., Path]


def test_the_record_is_enough_to_repeat_the_run(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = bundles.read(make_bundle(conditional=True))
    settings = SamplingSettings("ddim", {"eta": 0.5}, 6, 4, "random", 2.5, (10, 60), 2, "float64")
    draw(bundle, tmp_path / "first", settings)
    record = json.loads((tmp_path / "first" / "run.json").read_text())
    assert set(record) == {
        "settings", "num_images", "batches", "bundle_sha256", "trained_on", "runs_on", "versions", "machine", "command",
    }  # fmt: skip
    assert record["bundle_sha256"] == bundle.sha256
    own = {key: value for key, value in record["settings"].items() if key in SamplingSettings.__dataclass_fields__}
    draw(bundle, tmp_path / "second", SamplingSettings(**own), num_images=record["num_images"])
    assert results(tmp_path / "second") == results(tmp_path / "first")


def test_the_record_says_what_the_model_learned_from(make_bundle: MakeBundle, tmp_path: Path) -> None:
    trained_on = manifests.TrainedOn("photos", 60_000, 8, 3, "f" * 64)
    draw(bundles.read(make_bundle(trained_on=trained_on)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["trained_on"] == asdict(trained_on)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed = 3, this run has 4"),
        ({"num_steps": 6}, "num_steps = 5, this run has 6"),
        ({"sampler": "ddim", "options": {}}, "sampler = ddpm, this run has ddim"),
        ({"options": {"clip_x0": False}}, "options = {.*'clip_x0': True.*}, this run has {'clip_x0': False}"),
        ({"state_dtype": "float64"}, "state_dtype = float32, this run has float64"),
        ({"noise": "abc"}, "noise = None, this run has abc"),
    ],
)
def test_other_settings_are_refused(
    bundle: Bundle, tmp_path: Path, whole: dict[str, bytes], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"holds images made with {message}: choose another --out, or delete the"):
        draw(bundle, tmp_path / "whole", replace(ANCESTRAL, **change))
    assert results(tmp_path / "whole") == whole


def test_a_bundle_is_no_folder_for_images(bundle: Bundle) -> None:
    """The next export would refuse it."""
    before = sorted(path.name for path in bundle.path.iterdir())
    with pytest.raises(ConfigError, match=r"is a bundle, which images would damage: choose another --out"):
        draw(bundle, bundle.path, ANCESTRAL)
    assert [name for name in sorted(path.name for path in bundle.path.iterdir()) if not name.startswith(".")] == before


def test_another_checkpoint_is_refused(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    model = replace(bundle.manifest.model, checkpoint=bundle.manifest.model.checkpoint | {"sha256": "1" * 64})
    other = replace(bundle, manifest=replace(bundle.manifest, model=model))
    with pytest.raises(ConfigError, match=r"holds images made with checkpoint_sha256 = 0+, this run has 1+:"):
        draw(other, tmp_path / "whole")


def test_settings_that_json_spells_differently_are_the_same(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A tuple comes back as a list."""
    bundle = bundles.read(make_bundle(conditional=True))
    settings = replace(ANCESTRAL, cfg=2.0, interval=(10, 60.5))
    draw(bundle, tmp_path, settings)
    assert draw(bundle, tmp_path, settings) == 0


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_record_is_a_user_error(bundle: Bundle, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run.json': .+; delete the folder, or choose another --out"):
        draw(bundle, tmp_path)


def test_an_animation_of_another_run_is_not_taken_for_ones_own(bundle: Bundle, tmp_path: Path) -> None:
    for name, settings in (("one", ANCESTRAL), ("two", replace(ANCESTRAL, seed=4))):
        draw(bundle, tmp_path / name, settings)
        draw(bundle, tmp_path / name, settings, trajectory=tmp_path / "way.webp")
    draw(bundle, tmp_path / "fresh", replace(ANCESTRAL, seed=4), trajectory=tmp_path / "fresh.webp")
    assert (tmp_path / "way.webp").read_bytes() == (tmp_path / "fresh.webp").read_bytes()


@pytest.mark.parametrize("name", ["grid.png", "samples.npz", "raw.npz"])
def test_files_of_somebody_else_are_not_overwritten(bundle: Bundle, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=f"holds '{name}', and no run.json says how it was made"):
        draw(bundle, tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_images_without_a_record_are_not_adopted(bundle: Bundle, tmp_path: Path, whole: dict[str, bytes]) -> None:
    (tmp_path / "whole" / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"holds '.*', and no run.json says how it was made: choose another"):
        draw(bundle, tmp_path / "whole")
    assert results(tmp_path / "whole") == whole


OTHER = artifacts.FileEntry("other.onnx", "1" * 64)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("graph_sha256", lambda m: {"artifacts": (replace(m.artifacts[0], files=(OTHER,)),)}),
        ("weights", lambda m: {"model": replace(m.model, checkpoint=m.model.checkpoint | {"weights": "online"})}),
        ("process", lambda m: {"process": m.process | {"schedule": "cosine"}}),
        ("prediction", lambda m: {"prediction": "x0"}),
        ("guidance", lambda m: {"guidance": {"channels": 2}}),
    ],
)  # fmt: skip
def test_images_of_another_network_are_not_adopted(
    bundle: Bundle, tmp_path: Path, key: str, change: Callable[[manifests.Manifest], dict[str, Any]]
) -> None:
    """Though the bundle has the same name, and its checkpoint the same hash."""

    def claimed(bundle: Bundle) -> None:
        session = Session(bundle, as_if(null.Runtime(bundle), bundle))
        claim(session, session.sampling(ANCESTRAL), Output(tmp_path, 7, 3))

    claimed(bundle)
    claimed(bundle)
    other = replace(bundle, manifest=replace(bundle.manifest, **change(bundle.manifest)))
    with pytest.raises(ConfigError, match=rf"holds images made with {key} = "):
        claimed(other)


def test_another_batch_is_said(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(bundle, tmp_path, num_images=2)
    for _ in range(2):  # as long as they are there
        draw(bundle, tmp_path)
        assert "are computed 2 and 3 at a time: they agree within the tolerance" in capsys.readouterr().err


def test_a_batch_that_computes_nothing_is_not_recorded(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(bundle, tmp_path, num_images=2, batch=2)
    draw(bundle, tmp_path, num_images=2, batch=1)
    assert json.loads((tmp_path / "run.json").read_text())["batches"] == [2]
    assert capsys.readouterr().err == ""
