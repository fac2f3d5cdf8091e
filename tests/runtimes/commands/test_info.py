"""`drun info`: what a manifest says, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifest_files import edit

Drun = Callable[..., Any]


MakeBundle = Callable[..., Path]


def test_info(make_bundle: MakeBundle, drun: Drun) -> None:
    result = drun("info", make_bundle(conditional=True))
    assert result.code == 0
    assert result.out.splitlines() == [
        "tiny: gaussian, 100 parameters, ema weights",
        "states      3 x 8 x 8 (pixel), pixels -1 to 1",
        "process     kind=discrete schedule=linear num_timesteps=100",
        "prediction  noise",
        "sampler     ddim ",
        "classes     10, null label 10",
        "trained on  unknown: the checkpoint does not say",
        "checkpoint  tiny.pt, step 7",
        "made by     tests",
        "onnx-fp32: denoiser, batch 1 to 8, 0.0 MB, opset=20",
        "            parity at export: 1.0e-07 (call, batch 1, t = 0)",
    ]


def test_info_says_what_an_average_holds_of_the_initial_weights(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share=0.6066, step=5000))
    assert (
        "average     still holds 60.7 % of the initial weights at step 5,000 and may draw noise: export --weights "
        "online, train longer, or train with --set ema.law=ramp"
    ) in drun("info", path).out.splitlines()
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share=0.004))
    assert "average" not in drun("info", path).out
    edit(path, lambda manifest: manifest["model"]["checkpoint"].update(initial_share="most"))
    assert "initial_share got 'most', expected a number" in drun("info", path).err


def test_info_of_an_artifact_that_was_never_compared(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    edit(path, lambda manifest: manifest["artifacts"][0].pop("parity"))
    assert drun("info", path).out.splitlines()[-1].endswith("parity at export: not proven where it was made")


def test_a_quick_proof_is_called_quick(make_bundle: MakeBundle, drun: Drun) -> None:
    path = make_bundle()
    assert "quick" not in drun("info", path).out + drun("check", path).out
    edit(path, lambda manifest: manifest["artifacts"][0]["parity"].update(quick=True))
    assert drun("info", path).out.splitlines()[-1].endswith("1.0e-07 (call, batch 1, t = 0), quick: 4 checks only")
    last = "these are the few checks of dexport --quick: export again without it for the full proof"
    assert drun("check", path).out.splitlines()[-1] == last
