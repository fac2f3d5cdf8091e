"""The subjects of results, samples and training runs, by content: things that share a hash belong together."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drun.bundle.reading import Bundle
from drun.files import sha256

#: The keys of a subject that tie it to a model, the finest first -> what they are the sha256 of. A value may be a list.
TIES = {
    "samples_sha256": "samples",  # of samples.npz
    "bundle_sha256": "bundle",  # its manifest's hash of itself, and with it of every file
    "checkpoint_sha256": "checkpoint",
    "recipe_sha256": "recipe",  # of what is trained, see `of_recipe`
}
#: The sections of a recipe that say what is trained, and towards what.
TRAINED = ("model", "process", "objective")
SHOWN_DIGITS, LONGEST_NAME = 8, 60


def of_bundle(bundle: Bundle) -> dict[str, Any]:
    """The subject of a bundle."""
    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "model": manifest.model.name,
        "parameters": manifest.model.parameters,
        "checkpoint_sha256": manifest.model.checkpoint["sha256"],
        "bundle_sha256": bundle.sha256,
        "artifacts": {artifact.id: [entry.sha256 for entry in artifact.files] for artifact in manifest.artifacts},
    }


def of_samples(file: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """The subject of samples: the name of their folder, and the known hashes of them and of their model.

    Args:
        file: samples.npz.
        run: the content of run.json; empty for samples of other tools.
    """
    settings = run.get("settings")
    ties = {
        "samples_sha256": sha256(file),
        "bundle_sha256": run.get("bundle_sha256"),
        "checkpoint_sha256": settings.get("checkpoint_sha256") if isinstance(settings, Mapping) else None,
    }
    return {"name": file.resolve().parent.name} | {key: value for key, value in ties.items() if value}


def of_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's name and the hash of what it trains, whatever the data and the length of a run.

    Args:
        recipe: as `Recipe.to_dict` gives and recipe.json holds.
    """
    return {"name": recipe["name"], "recipe_sha256": _digest({key: recipe[key] for key in TRAINED})}


def file_name(subject: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The subject's name, and a short hash of the subject and the settings, so that no two results share a file."""
    name = re.sub(r"[^\w.-]+", "-", str(subject["name"])).strip("-.")[:LONGEST_NAME]
    return f"{name or 'unnamed'}-{_digest([subject, settings])[:SHOWN_DIGITS]}"


def order(subject: Mapping[str, Any]) -> tuple[str, str, bool, str]:
    """A sorting key: results of the same samples stay together, the comparison with the training images first."""
    reference = subject.get("reference", {})
    samples, source = str(subject.get("samples_sha256", "")), str(reference.get("source", ""))
    return str(subject["name"]), samples, not reference.get("learned", False), source


def mismatch(subject: Mapping[str, Any], of: Mapping[str, str]) -> str:
    """Why a subject does not belong to a model, in words; empty if it does.

    It belongs if it shares a hash, and every hash that both state is the same.

    Args:
        of: the model's known values of TIES.
    """
    shared = [key for key in TIES if key in of and subject.get(key)]
    for key in shared:
        if of[key] not in (stated := _listed(subject[key])):
            return f"of {TIES[key]} {stated[0][:SHOWN_DIGITS]}…, not {of[key][:SHOWN_DIGITS]}…"
    return "" if shared else f"of unknown {', '.join(TIES[key] for key in TIES if key in of)}"


def _listed(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]


def _digest(value: Any) -> str:
    """sha256 of a value as JSON, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
