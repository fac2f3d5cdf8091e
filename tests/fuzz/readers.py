"""Every reader of foreign content; those of training data are in `data`, those of targets in `targets`."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from base import TESTS, Bytes, Reader, helpers, listed_anew
from data import Archive, Arrays, Index, Latents, Mnist, Pictures
from mutate import change_value, damage, other_array
from targets import Compiled, Graphs, Identity, Ir, Packages, Programs, Record, Trusted, TwoGraphs, Untrusted

from drun.bundle import reading as bundles
from drun.bundle.hashes import seal
from drun.commands.info import info
from drun.console import silent
from drun.foreign import read_npz
from drun.run import parity
from drun.run.folder import run
from drun.run.opening import Opened, choose, open_candidate
from drun.run.output import Output
from drun.run.session import Session
from drun.settings import SamplingSettings

SMALL_UNET = [
    "model.dim=8", "model.dim_mults=[1,2]", "train.batch_size=4", "train.log_every=1", "train.num_previews=1",
    "train.preview_steps=2", "train.preview_every=1000",
]  # fmt: skip


# ---- bundles --------------------------------------------------------------------------------------------


class Bundle(Bytes):
    """Any byte of a bundle: every flip is found."""

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)

    def read(self, folder: Path) -> Any:
        bundle = bundles.read(folder / "b")
        bundle.check_files()
        return repr(bundle.manifest)


class Manifest(Bundle):
    """Other values, sealed as if they were meant so."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "manifest.json"
        fields = json.loads(path.read_text())
        del fields["sha256"]
        path.write_text(seal(change_value(fields, draw)))

    def read(self, folder: Path) -> Any:
        bundle = bundles.read(folder / "b")
        with contextlib.redirect_stdout(io.StringIO()):
            info(folder / "b")
        draw_images(bundle, folder / "out")


def draw_images(bundle: bundles.Bundle, out: Path, settings: SamplingSettings | None = None) -> None:
    default = bundle.manifest.sampler
    settings = settings or SamplingSettings(default.name, default.options, 3)
    with Session(bundle, opened(bundle)) as session:
        run(session, session.sampling(settings), Output(out, 3, 2, save_raw=True), silent)


def opened(bundle: bundles.Bundle) -> Opened:
    return open_candidate(bundle, choose(bundle, "ort"))


class Golden(Bundle):
    """A golden file of other arrays and another specification."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "golden.npz"
        if draw.random() < 0.3:
            path.write_bytes(damage(path.read_bytes(), draw))
        else:
            arrays = dict(read_npz(path))
            name = draw.choice(sorted(arrays))
            changed = json.dumps(change_value(json.loads(str(arrays["spec"])), draw))
            arrays |= {"spec": np.array(changed)} if draw.random() < 0.6 else {name: other_array(arrays[name], draw)}
            np.savez(path, allow_pickle=True, **arrays)
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        bundle = bundles.read(folder / "b")
        with opened(bundle) as one:
            parity.check(bundle, one, silent)


class Graph(Bundle):
    """An ONNX file of other bytes, which the manifest says are right."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "b" / "denoiser.fp32.onnx"
        path.write_bytes(damage(path.read_bytes(), draw))
        listed_anew(folder / "b")

    def read(self, folder: Path) -> Any:
        opened(bundles.read(folder / "b")).close()


class Samples(Reader):
    """A folder of images, some of them damaged: what is drawn is right all the same."""

    def make(self, folder: Path) -> None:
        helpers().write_bundle(folder / "b", conditional=True)
        draw_images(bundles.read(folder / "b"), folder / "out")

    def attack(self, folder: Path, draw: random.Random) -> None:
        file = draw.choice(sorted(path for path in (folder / "out").rglob("*") if path.is_file()))
        file.write_bytes(damage(file.read_bytes(), draw))
        for name in ("samples.npz", "raw.npz", "grid.png"):
            (folder / "out" / name).unlink(missing_ok=True)

    def read(self, folder: Path) -> Any:
        draw_images(bundles.read(folder / "b"), folder / "out")
        return [(folder / "out" / name).read_bytes() for name in ("samples.npz", "raw.npz", "grid.png")]


class Noise(Bytes):
    """An .npz file of arrays."""

    def make(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        arrays = {"x": draw.standard_normal((2, 3)), "z": np.arange(4), "text": np.array("x")}
        np.savez(folder / "a.npz", **arrays)
        np.savez_compressed(folder / "b.npz", **arrays)

    def read(self, folder: Path) -> Any:
        both = [read_npz(folder / name) for name in ("a.npz", "b.npz")]
        # A member's name has no checksum: what has another one is another array.
        return [{name: array.tobytes() for name, array in arrays.items() if len(name) < 5} for arrays in both]


# ---- checkpoints ----------------------------------------------------------------------------------------


def small_unet(folder: Path, steps: int = 1) -> Path:
    from dtrain import config
    from dtrain.device import Placement
    from dtrain.train.loop import train

    recipe = config.load("digits-unet", [*SMALL_UNET, f"train.steps={steps}"])
    return train(recipe, folder, Placement(torch.device("cpu"), "fp32", False, ()), False, silent)


def content_of(path: Path) -> Any:
    """What the commands make of a checkpoint: its weights' bytes."""
    from dtrain import published

    with contextlib.redirect_stderr(io.StringIO()):
        state = published.load(path, settings={"image_size": "16"}).network.state_dict()
    return [(name, tensor.numpy().tobytes()) for name, tensor in state.items()]


class Checkpoint(Bytes):
    """Any byte of a checkpoint of ours."""

    def make(self, folder: Path) -> None:
        shutil.copy(small_unet(folder / "run"), folder / "a.pt")
        shutil.rmtree(folder / "run")

    def read(self, folder: Path) -> Any:
        return content_of(folder / "a.pt")


class Signed(Checkpoint):
    """Other content in a checkpoint of ours, signed as if it were meant so."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        from dtrain.checkpoints.ours import content_digest

        content = change_tensors(torch.load(folder / "a.pt", weights_only=True), draw)
        with contextlib.suppress(NotImplementedError, RuntimeError):  # of what our writer could not sign
            content["sha256"] = content_digest(content)
        torch.save(content, folder / "a.pt")

    def read(self, folder: Path) -> Any:
        content_of(folder / "a.pt")


def change_tensors(content: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    content = change_value(content, draw) if draw.random() < 0.6 else content
    states = [content.get(key) for key in ("model", "ema")]
    state = draw.choice([state for state in states if isinstance(state, dict) and state] or [{"x": torch.zeros(1)}])
    name = draw.choice(sorted(map(str, state)))
    tensor = state.get(name)
    if isinstance(tensor, torch.Tensor):
        state[name] = draw.choice([
            lambda: tensor.flatten(), lambda: tensor.double(), lambda: tensor.to(torch.complex64),
            lambda: torch.full_like(tensor, torch.nan), lambda: tensor[:0], lambda: tensor.int(),
            lambda: torch.zeros(1).expand(10**6), lambda: tensor.to_sparse(), lambda: "text", lambda: tensor,
        ])()  # fmt: skip
    return content


class Older(Checkpoint):
    """Files without checksums: PyTorch's older format and safetensors."""

    def make(self, folder: Path) -> None:
        from safetensors.torch import save_file

        super().make(folder)
        content = torch.load(folder / "a.pt", weights_only=True)
        torch.save(content["ema"], folder / "b.pt", _use_new_zipfile_serialization=False)
        save_file({name: tensor.contiguous() for name, tensor in content["ema"].items()}, folder / "c.safetensors")
        (folder / "a.pt").unlink()

    def read(self, folder: Path) -> Any:
        for name in ("b.pt", "c.safetensors"):
            content_of(folder / name)


class Published(Older):
    """A training checkpoint of SiT's layout."""

    def make(self, folder: Path) -> None:
        import argparse

        from dtrain.models.transformer.networks import SiT

        size = {"hidden_size": 8, "depth": 2, "num_heads": 2}
        state = SiT(input_size=4, size=size, patch_size=2, channels=4, num_classes=3).state_dict()
        args = argparse.Namespace(model="SiT-XS/2", path_type="Linear", prediction="velocity", sample_eps=None)
        torch.save({"ema": state, "model": state, "args": args, "opt": {}}, folder / "a.pt")

    def attack(self, folder: Path, draw: random.Random) -> None:
        if draw.random() < 0.3:
            super().attack(folder, draw)
            return
        content = torch.load(folder / "a.pt", weights_only=False)
        content["args"].__dict__.update(change_value(vars(content["args"]), draw))
        torch.save(change_tensors(content, draw), folder / "a.pt")

    def read(self, folder: Path) -> Any:
        from dtrain import published

        with contextlib.redirect_stderr(io.StringIO()):
            published.load(folder / "a.pt", settings={"num_heads": "2"})


class Pickled(Published):
    """An archive of right checksums with another pickle in it."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "a.pt"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", draw.choice([zipfile.ZIP_STORED] * 9 + [zipfile.ZIP_DEFLATED])) as archive:
            for name, content in members.items():
                if name.endswith("data.pkl"):
                    content = damage(content, draw) if draw.random() < 0.9 else pickle.dumps([Exception, print])
                elif draw.random() < 0.05:
                    content = damage(content, draw)
                archive.writestr(name, content)


class Resumed(Reader):
    """An optimizer state and a run's records, from which training goes on."""

    def make(self, folder: Path) -> None:
        small_unet(folder / "run")

    def attack(self, folder: Path, draw: random.Random) -> None:
        from dtrain.checkpoints.ours import content_digest

        path = next((folder / "run").glob("*.pt"))
        if draw.random() < 0.3:
            for name in ("recipe.json", "log.jsonl"):
                (folder / "run" / name).write_bytes(damage((folder / "run" / name).read_bytes(), draw))
            return
        content = torch.load(path, weights_only=True)
        moments = draw.choice(list(content["optimizer"]["state"].values()))
        name = draw.choice(sorted(moments))
        moments[name] = draw.choice([moments[name].reshape(-1)[:1], torch.zeros(3), torch.tensor(torch.nan), 3, None])
        if draw.random() < 0.3:
            content["optimizer"] = change_value(content["optimizer"], draw)
        torch.save(content | {"sha256": content_digest(content)}, path)

    def read(self, folder: Path) -> Any:
        from dtrain import config
        from dtrain.device import Placement
        from dtrain.train.loop import train

        recipe = config.load("digits-unet", [*SMALL_UNET, "train.steps=2"])
        train(recipe, folder / "run", Placement(torch.device("cpu"), "fp32", False, ()), True, silent)


class Recipe(Bytes):
    """A recipe in a .toml file."""

    def make(self, folder: Path) -> None:
        shutil.copy(TESTS.parent / "trainer" / "dtrain" / "recipes" / "digits-unet.toml", folder / "a.toml")

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "a.toml"
        if draw.random() < 0.5:
            super().attack(folder, draw)
            return
        lines = path.read_text().splitlines()
        place = draw.choice([i for i, line in enumerate(lines) if "=" in line])
        values = ["nan", "-1", "1e400", "[]", "[[1]]", "true", "'x'", "9" * 40, "{}", "{a=1}", "1979-05-27", "[" * 500]
        lines[place] = f"{lines[place].partition('=')[0]} = {draw.choice(values)}"
        if draw.random() < 0.2:
            lines.append(draw.choice(["[name]", "[extends]", "x = 1", "[model.more]", "[ema]", "[[train]]"]))
        path.write_text("\n".join(lines))

    def read(self, folder: Path) -> Any:
        from drun.diffusion import process
        from dtrain import config, models, objectives

        recipe = config.load(str(folder / "a.toml"))
        process_ = process.from_dict(recipe.process)
        objectives.build(recipe.objective, process_, torch.device("cpu"))
        with torch.device("meta"):
            models.build(recipe.model)


# ---- results --------------------------------------------------------------------------------------------


class Measured(Reader):
    """A result of dbench and a training log."""

    def make(self, folder: Path) -> None:
        from dbench.core import machine, record

        rows = tuple(record.ResultRow("latency", name, 1.5, "ms", 1.0, 2.0) for name in ("a", "b"))
        result = record.Result(rows, {"name": "x"}, {"batch": 1}, machine.fingerprint(1), "dbench")
        record.write(result, folder)[0].rename(folder / "latency.json")
        (folder / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / draw.choice(["latency.json", "log.jsonl"])
        if path.suffix == ".json" and draw.random() < 0.5:
            path.write_text(json.dumps(change_value(json.loads(path.read_text()), draw)))
        else:
            path.write_bytes(damage(path.read_bytes(), draw))

    def read(self, folder: Path) -> Any:
        from dbench.core import record
        from dbench.report.sources import read_losses

        record.to_markdown(record.read(folder / "latency.json"))
        read_losses(folder / "log.jsonl")


class Judged(Reader):
    """Samples whose quality is measured: the array, and what run.json says of it."""

    def make(self, folder: Path) -> None:
        np.savez(folder / "samples.npz", arr_0=np.arange(640, dtype=np.uint8).reshape(10, 8, 8, 1))
        settings = {"classes": {"count": 3, "null_label": 3, "names": ["a", "b", "c"]}, "labels": "b,0", "seed": 4}
        seen = {"source": "digits", "num_images": 1797, "image_size": 16, "channels": 1, "fingerprint": "0" * 64}
        (folder / "run.json").write_text(json.dumps({"settings": settings, "trained_on": seen}))

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / draw.choice(["samples.npz", "run.json"])
        if path.suffix == ".json" and draw.random() < 0.5:
            path.write_text(json.dumps(change_value(json.loads(path.read_text()), draw)))
        else:
            path.write_bytes(damage(path.read_bytes(), draw))

    def read(self, folder: Path) -> Any:
        from dbench.quality.samples import open_samples

        samples = open_samples(folder)
        samples.labels()
        _ = samples.trained_on
        return samples.images.tobytes()


#: name -> (reader, share of the mutants)
READERS: dict[str, tuple[Reader, float]] = {
    kind.__name__.lower(): (kind(), share)
    for kind, share in (
        (Bundle, 2), (Manifest, 2), (Golden, 1), (Graph, 1), (Samples, 1), (Noise, 2), (Checkpoint, 2), (Signed, 1),
        (Older, 1), (Pickled, 1), (Published, 1), (Resumed, 0.3), (Recipe, 1), (Pictures, 1), (Archive, 1),
        (Mnist, 1), (Arrays, 1), (Latents, 1), (Index, 1), (Measured, 1), (Judged, 1),
        (Ir, 1), (Packages, 1), (Programs, 3), (Graphs, 1), (Identity, 1), (TwoGraphs, 1), (Compiled, 1), (Record, 1),
        (Untrusted, 0.5), (Trusted, 0.3),
    )
}  # fmt: skip
