"""The readers of training data: pictures, archives, arrays with labels, latents."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from base import Bytes, Reader
from mutate import change_value, damage, other_array
from PIL import Image


class Pictures(Bytes):
    """A folder of pictures of every format."""

    def make(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        (folder / "in").mkdir()
        for suffix in ("png", "jpg", "tif", "webp", "bmp"):
            Image.fromarray(draw.integers(256, size=(9, 12, 3), dtype=np.uint8)).save(folder / "in" / f"a.{suffix}")
        np.save(folder / "in" / "stack.npy", draw.integers(256, size=(2, 9, 9, 3), dtype=np.uint8))

    def read(self, folder: Path) -> Any:
        train_on(folder / "in", num_classes=0)


class Archive(Pictures):
    """A zip of pictures with labels."""

    def make(self, folder: Path) -> None:
        super().make(folder)
        (folder / "in" / "stack.npy").unlink()
        names = sorted(path.name for path in (folder / "in").iterdir())
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(folder / "in" / name, name)
            archive.writestr("dataset.json", json.dumps({"labels": [[name, i] for i, name in enumerate(names)]}))
        shutil.rmtree(folder / "in")

    def read(self, folder: Path) -> Any:
        train_on(folder / "a.zip")


class Latents(Reader):
    """What `dtrain encode` wrote: every changed number of a shard is found."""

    def make(self, folder: Path) -> None:
        from drun.files import write_json
        from dtrain.data.latent_index import FORMAT
        from dtrain.data.shards import save_shard

        draw = np.random.default_rng(0)
        save_shard(folder, "moments", 0, np.abs(draw.standard_normal((3, 8, 2, 2), np.float32)))
        save_shard(folder, "images", 0, draw.integers(256, size=(3, 16, 16, 3), dtype=np.uint8))
        write_json(folder / "index.json", FORMAT | {
            "image_size": 16, "shape": [4, 2, 2], "scale": [0.2] * 4, "bias": [0.0] * 4, "flipped": False,
            "vae": {"name": "x/y", "fingerprint": ""}, "shard_size": 3, "classes": ["a", "b"], "labels": [0, 1, 1],
            "names": ["a.png", "b.png", "c.png"],
        })  # fmt: skip

    def attack(self, folder: Path, draw: random.Random) -> None:
        file = draw.choice(sorted(folder.glob("*.npy")))
        file.write_bytes(damage(file.read_bytes(), draw))

    def read(self, folder: Path) -> Any:
        from dtrain.data.latents import open_latents

        latents = open_latents(folder)
        assert latents.images is not None
        return latents.moments(np.arange(3)).tobytes(), latents.images(np.arange(3)).tobytes()


class Index(Latents):
    """The index of latents, which has no checksum."""

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "index.json"
        if draw.random() < 0.5:
            path.write_bytes(damage(path.read_bytes(), draw))
        else:
            path.write_text(json.dumps(change_value(json.loads(path.read_text()), draw)))

    def read(self, folder: Path) -> Any:
        super().read(folder)


def train_on(source: Path, num_classes: int = 10) -> None:
    """As `dtrain run` looks at images, then decodes them."""
    from dtrain import config
    from dtrain.data.pixels import load_images
    from dtrain.data.survey import survey

    survey(config.load("digits-sit", ["model.channels=3", f"model.num_classes={num_classes}"], str(source)))
    load_images(source, 8, 3)


class Mnist(Reader):
    """idx files, gzipped, of other bytes, or of headers that lie."""

    def make(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        (folder / "in").mkdir()
        images, labels = draw.integers(256, size=(20, 9, 12), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / "in" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), mtime=0))

    def attack(self, folder: Path, draw: random.Random) -> None:
        file = draw.choice(sorted((folder / "in").iterdir()))
        if draw.random() < 0.5:
            file.write_bytes(damage(file.read_bytes(), draw))
            return
        content = gzip.decompress(file.read_bytes())
        content = damage(content[:20], draw) + content[20:]
        file.write_bytes(gzip.compress(content, mtime=0) if draw.random() < 0.5 else content)

    def read(self, folder: Path) -> Any:
        train_on(folder / "in")


class Arrays(Reader):
    """An .npz file of other bytes, or of other arrays than images and labels."""

    def make(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        images = draw.integers(256, size=(20, 9, 12, 3), dtype=np.uint8)
        np.savez(folder / "a.npz", images=images, labels=np.arange(20) % 10)

    def attack(self, folder: Path, draw: random.Random) -> None:
        path = folder / "a.npz"
        if draw.random() < 0.5:
            path.write_bytes(damage(path.read_bytes(), draw))
            return
        arrays = dict(np.load(path))
        name = draw.choice(sorted(arrays))
        arrays[draw.choice([name, "images", "x", "arr_0", "labels", "pictures"])] = other_array(arrays[name], draw)
        np.savez(path, allow_pickle=True, **arrays)

    def read(self, folder: Path) -> Any:
        train_on(folder / "a.npz")
