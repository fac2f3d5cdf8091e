"""Which decoder goes into the bundle of a latent model, and which are refused."""

import sys
from pathlib import Path
from typing import Any

import pytest
from latent_models import describe_latents, with_states

from dexport import commands
from dexport.latents import ImageDecoder, find_decoder
from dexport.options import ExportOptions
from drun.bundle.card import StateSpace
from drun.errors import ConfigError
from dtrain import published
from dtrain.published import Denoiser


def test_auto_takes_the_vae_that_the_checkpoint_names(sit: Denoiser, tiny_vae: Path) -> None:
    found = find_decoder(describe_latents(sit, str(tiny_vae)), "auto")
    assert isinstance(found, ImageDecoder)
    assert found.shape == (3, 64, 64)


def test_auto_goes_on_without_it_and_says_why(sit: Denoiser, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_decoder(describe_latents(sit, "nowhere"), "auto") is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "drun will write latents only" in line
    assert "unknown VAE 'nowhere'" in line
    assert "--vae NAME_OR_DIR" in line


def test_a_hub_name_in_a_checkpoint_is_fetched_only_when_the_user_repeats_it(
    sit: Denoiser, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def reach() -> None:
        asked.append("")
        raise OSError("no network")

    monkeypatch.setattr("dtrain.hub.reach", reach)
    assert find_decoder(describe_latents(sit, "owner/name"), "auto") is None
    assert "and such repositories are not downloaded: repeat it by --vae owner/name" in capsys.readouterr().out
    assert not asked
    with pytest.raises(ConfigError, match="cannot get 'owner/name' from the Hugging Face hub: no network; check the"):
        find_decoder(describe_latents(sit, "owner/name"), "owner/name")
    assert len(asked) == 1
    assert find_decoder(describe_latents(sit, published.LATENT["vae"]), "auto") is None  # as published: ours to ask for
    assert len(asked) == 2


def test_auto_goes_on_without_diffusers(
    sit: Denoiser, tiny_vae: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert find_decoder(describe_latents(sit, str(tiny_vae)), "auto") is None
    assert "pip install 'dexport[latents]'" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"pip install 'dexport\[latents\]'"):
        find_decoder(sit, str(tiny_vae))


def test_none_is_none(sit: Denoiser, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_decoder(sit, "none") is None
    assert find_decoder(with_states(sit, StateSpace.of((4, 8, 8))), "none") is None
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 8, 8)}, r"decodes latents of 4 channels, the model's have 3: give the VAE that it was"),
        ({"scale": 0.18216}, r"has scale \(0.18215, .*, the checkpoint \(0.18216, .*--vae none for latents only"),
        ({"bias": 1e-5}, r"has bias \(0.0, .*, the checkpoint \(1e-05, "),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "VAE"])
def test_a_vae_that_does_not_fit_is_refused(
    sit: Denoiser, tiny_vae: Path, changes: dict[str, Any], message: str, choice: str
) -> None:
    wrong = describe_latents(sit, str(tiny_vae), **changes)
    with pytest.raises(ConfigError, match=message):
        find_decoder(wrong, str(tiny_vae) if choice == "VAE" else choice)


def test_pixels_are_not_decoded(sit: Denoiser, tiny_vae: Path) -> None:
    pixels = with_states(sit, StateSpace.of((4, 8, 8)))
    assert find_decoder(pixels, "auto") is None
    with pytest.raises(ConfigError, match="but this model draws pixels, not latents: leave it out"):
        find_decoder(pixels, str(tiny_vae))


def test_rounding_of_the_scale_is_forgiven(sit: Denoiser, tiny_vae: Path) -> None:
    assert find_decoder(describe_latents(sit, "", scale=0.1821505), str(tiny_vae)) is not None


def test_a_vae_that_was_asked_for_must_load(sit_checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(tmp_path / "b", settings=["num_heads=2"], vae="nowhere")
    with pytest.raises(ConfigError, match="unknown VAE 'nowhere'"):
        commands.export("onnx", [sit_checkpoint], options)
    assert not list(tmp_path.iterdir())
