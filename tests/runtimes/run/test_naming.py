"""The names of default folders: readable, safe, and another one for other images."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from drun.run.naming import run_name
from drun.settings import SamplingSettings

USUAL = {"eta": 0.0, "grid": "auto", "clip_x0": True}
PLAIN = SamplingSettings("ddim", USUAL, 50)


def name(artifact: dict[str, str] | None = None, **changes: Any) -> str:
    return run_name("ort", replace(PLAIN, **changes), USUAL, artifact or {})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ort-ddim-50-seed0"),
        ({"seed": 7, "num_steps": 9, "sampler": "heun"}, "ort-heun-9-seed7"),
        ({"cfg": 1.5}, "ort-ddim-50-seed0-cfg=1.5"),
        ({"cfg": 2.0}, "ort-ddim-50-seed0-cfg=2"),
        ({"labels": "207,360", "cfg": 4.0}, "ort-ddim-50-seed0-labels=207,360-cfg=4"),
        ({"interval": (0.0, 0.7)}, "ort-ddim-50-seed0-interval=0,0.7"),
        ({"options": USUAL | {"eta": 0.5, "clip_x0": False}}, "ort-ddim-50-seed0-eta=0.5-clip_x0=false"),
        ({"state_dtype": "float64", "uint8": "adm"}, "ort-ddim-50-seed0-state_dtype=float64-uint8=adm"),
        ({"cfg_channels": 0}, "ort-ddim-50-seed0-cfg_channels=0"),
        ({"artifact": {"precision": "fp16"}, "cfg": 1.5}, "ort-ddim-50-seed0-precision=fp16-cfg=1.5"),
    ],
)
def test_what_differs_from_its_default_is_named(changes: dict[str, Any], expected: str) -> None:
    assert name(**changes) == expected


@pytest.mark.parametrize(
    "labels", [",".join(map(str, range(40))), "../x", "T-shirt/top", "a b", "a=b", "ключ", "", "a\0b", "a\nb"]
)
def test_long_and_unsafe_values_are_hashed(labels: str) -> None:
    assert re.fullmatch(r"ort-ddim-50-seed0-labels=[0-9a-f]{8}", name(labels=labels))
    assert name(labels=labels) == name(labels=labels) != name(labels=f"{labels}1")


def test_many_settings_are_one_hash() -> None:
    many = {
        "labels": "1,2,3,4", "interval": (0.123456789, 0.7), "state_dtype": "float64", "uint8": "floor",
        "noise": "f" * 64, "options": {"eta": 0.123456789, "grid": "karras", "clip_x0": False},
    }  # fmt: skip
    assert re.fullmatch(r"ort-ddim-50-seed0-settings=[0-9a-f]{8}", name(**many))
    assert name(**many) != name(**many, cfg_channels=3)


def test_neighbouring_numbers_have_two_names() -> None:
    assert name(cfg=1.5) != name(cfg=1.5000000000000002)
