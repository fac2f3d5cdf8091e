"""Encoding images, and reading latents in both layouts; what files must hold is written out here by hand."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from drun.errors import ConfigError, DataError, NotFiniteError
from dtrain.data import encode as encoding
from dtrain.data.encode import EncodeSummary, encode
from dtrain.data.latents import Latents, open_latents, sample_moments
from dtrain.data.shards import save_shard
from dtrain.data.sources import open_source
from dtrain.models import vae as vaes

SIZE = 16


def tiny_vae(path: Path, seed: int = 0, **config: Any) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    settings = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, **config}
    model = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, **settings)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_vae(tmp_path_factory.mktemp("vae")))


def noise(height: int, width: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven images of many sizes in two classes, one of them two levels deep."""
    root = tmp_path / "pictures"
    for number, name in enumerate(["dog/b.png", "cat/a.png", "dog/a.bmp", "cat/x/z.png", "dog/c.png", "cat/c.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(17 + 9 * number, 70 - 8 * number, number).save(root / name)
    noise(40, 80, 9).convert("L").save(root / "dog" / "grey.tif")
    (root / "readme.txt").write_text("no image")
    (root / "cat" / "._a.png").write_bytes(b"resource fork")
    return root


NAMES = ["cat/a.png", "cat/c.png", "cat/x/z.png", "dog/a.bmp", "dog/b.png", "dog/c.png", "dog/grey.tif"]


def adm_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Dhariwal & Nichol 2021: halve while twice too large, bicubic to the short side, cut the centre."""
    image = image.convert("RGB")
    while min(*image.size) >= 2 * size:
        image = image.resize((image.size[0] // 2, image.size[1] // 2), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    pixels = np.array(image.resize(tuple(round(side * scale) for side in image.size), Image.Resampling.BICUBIC))
    y, x = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[y : y + size, x : x + size]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def everything(latents: Latents) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    indices = np.arange(len(latents))
    assert latents.images is not None
    return latents.moments(indices), latents.images(indices)


# ---- encoding -------------------------------------------------------------------------------------------


def test_what_encode_writes(pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    seen: list[tuple[str, int, int]] = []
    report = lambda what, done, total, note="": seen.append((what, done, total))  # noqa: E731
    out = tmp_path / "new" / "latents"
    summary = encode(pictures, out, vae, SIZE, report, "cpu", batch_size=2)
    assert summary == EncodeSummary(7, 2, 3, (4, 2, 2), rank=0, num_encoded=7)
    assert seen[-1] == ("encoding images", 7, 7)

    index = json.loads((out / "index.json").read_text())
    assert index["names"] == NAMES
    assert index["labels"] == [0, 0, 0, 1, 1, 1, 1]
    assert index["classes"] == ["cat", "dog"]
    assert open_latents(out).class_names == ("cat", "dog")
    assert index["vae"] == {"name": vae, "fingerprint": vaes.load(vae, "cpu").fingerprint}
    assert (index["image_size"], index["shape"], index["shard_size"]) == (SIZE, [4, 2, 2], 3)
    assert index["scale"] == [0.18215] * 4
    assert index["bias"] == [0.0] * 4
    shards = ["00000.npy", "00001.npy", "00002.npy"]
    files = {f"{sums}{kind}-{shard}" for sums in ("", "crc32-") for kind in ("moments", "images") for shard in shards}
    assert set(contents(out)) == {"index.json", "origin.json", *files}

    crops = np.stack([adm_crop(Image.open(pictures / name), SIZE) for name in NAMES])
    images = [np.load(out / f"images-{shard}") for shard in shards]
    moments = [np.load(out / f"moments-{shard}") for shard in shards]
    assert [len(shard) for shard in images] == [len(shard) for shard in moments] == [3, 3, 1]
    assert np.array_equal(np.concatenate(images), crops)
    expected = vaes.load(vae, "cpu").moments(torch.from_numpy(crops)).numpy()
    assert np.concatenate(moments).dtype == np.float32
    assert np.std(expected[:, :4]) > 0.01
    np.testing.assert_allclose(np.concatenate(moments), expected, rtol=1e-5, atol=1e-6)


def test_flip_encodes_the_mirror_images_too(
    pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SiT's and DiT's scripts crop, mirror half of the images, and encode."""
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    out, plain = tmp_path / "both", tmp_path / "plain"
    assert encode(pictures, out, vae, SIZE, batch_size=2, flip=True) == EncodeSummary(7, 2, 3, (4, 2, 2), 0, 7)
    encode(pictures, plain, vae, SIZE, batch_size=2)
    assert [json.loads((folder / "index.json").read_text())["flipped"] for folder in (out, plain)] == [True, False]
    shards = [f"{number:05d}.npy" for number in range(3)]
    assert set(contents(out)) - set(contents(plain)) == {
        f"{sums}moments-flipped-{shard}" for sums in ("", "crc32-") for shard in shards
    }
    same = [f"{kind}-{shard}" for kind in ("moments", "images") for shard in shards]
    assert all(contents(out)[name] == contents(plain)[name] for name in same)

    mirrored = np.stack([adm_crop(Image.open(pictures / name), SIZE)[:, ::-1] for name in NAMES])
    expected = vaes.load(vae, "cpu").moments(torch.from_numpy(mirrored)).numpy()
    flipped = np.concatenate([np.load(out / f"moments-flipped-{shard}") for shard in shards])
    np.testing.assert_allclose(flipped, expected, rtol=1e-5, atol=1e-6)
    moments, _ = everything(open_latents(out))
    assert np.abs(flipped - moments).max() > 1e-3
    assert np.abs(flipped - moments[..., ::-1]).max() > 1e-3  # of a mirror image, not mirrored


def test_each_image_is_read_in_the_version_that_is_asked_for(pictures: Path, vae: str, tmp_path: Path) -> None:
    out = tmp_path / "both"
    encode(pictures, out, vae, SIZE, flip=True)
    latents, indices = open_latents(out), np.array([5, 0, 3])
    plain, flipped = (np.load(out / f"{kind}-00000.npy")[indices] for kind in ("moments", "moments-flipped"))
    mixed = latents.moments(indices, np.array([True, False, True]))
    assert np.array_equal(mixed, np.stack([flipped[0], plain[1], flipped[2]]))
    assert np.array_equal(latents.moments(indices, np.ones(3, np.bool_)), flipped)
    assert np.array_equal(latents.moments(indices, np.zeros(3, np.bool_)), plain)
    broken = np.load(out / "moments-flipped-00000.npy")
    broken[3] = np.nan
    save_shard(out, "moments-flipped", 0, broken)
    with pytest.raises(DataError, match=r"broken latent: row 3 of '.*moments-flipped-00000\.npy' holds others"):
        open_latents(out).moments(indices, np.array([True, False, True]))


def test_only_missing_mirror_images_are_encoded_again(
    pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    out = tmp_path / "both"
    encode(pictures, out, vae, SIZE, flip=True)
    whole = contents(out)
    (out / "moments-flipped-00001.npy").unlink()
    with pytest.raises(DataError, match="moments-flipped-00001"):
        open_latents(out)
    assert encode(pictures, out, vae, SIZE, flip=True).num_encoded == 3
    assert contents(out) == whole


@pytest.mark.parametrize("flip", [False, True])
def test_flips_are_never_added_or_left_out_half_way(pictures: Path, vae: str, tmp_path: Path, flip: bool) -> None:
    out = tmp_path / "latents"
    encode(pictures, out, vae, SIZE, flip=flip)
    with pytest.raises(DataError, match=rf"begun with another flip \({flip}, now {not flip}\); choose another folder"):
        encode(pictures, out, vae, SIZE, flip=not flip)


def test_a_folder_from_before_flips_goes_on(pictures: Path, vae: str, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    encode(pictures, out, vae, SIZE)
    for name, key in (("origin.json", "flip"), ("index.json", "flipped")):
        content = json.loads((out / name).read_text())
        del content[key]
        (out / name).write_text(json.dumps(content))
    assert open_latents(out).flipped is None
    assert encode(pictures, out, vae, SIZE).num_encoded == 0
    with pytest.raises(DataError, match="begun with another flip"):
        encode(pictures, out, vae, SIZE, flip=True)


def test_labels_of_dataset_json_and_of_none(pictures: Path, vae: str, tmp_path: Path) -> None:
    labels = [[name, number] for number, name in enumerate(reversed(NAMES))] + [["other.png", 99]]
    (pictures / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert encode(pictures, tmp_path / "a", vae, SIZE).num_classes == 7
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert (index["labels"], index["classes"]) == ([6, 5, 4, 3, 2, 1, 0], None)

    # Wrong labels are put right without encoding again.
    (pictures / "dataset.json").write_text('{"labels": null}')
    assert encode(pictures, tmp_path / "a", vae, SIZE) == EncodeSummary(7, 0, 1, (4, 2, 2), rank=0, num_encoded=0)
    assert open_latents(tmp_path / "a").labels is None
    assert open_latents(tmp_path / "a").num_classes == 0

    (pictures / "dataset.json").unlink()
    noise(20, 20, 1).save(pictures / "top.png")
    assert encode(pictures, tmp_path / "b", vae, SIZE).num_classes == 0


def test_zip_gives_what_its_folder_gives(pictures: Path, vae: str, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.ZIP"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(pictures.rglob("*.*"), reverse=True):
            file.write(path, path.relative_to(pictures).as_posix())
    encode(pictures, tmp_path / "a", vae, SIZE)
    encode(archive, tmp_path / "b", vae, SIZE)
    for name in ("images-00000.npy", "moments-00000.npy", "index.json"):
        assert contents(tmp_path / "a")[name] == contents(tmp_path / "b")[name]
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("dataset.json", json.dumps({"labels": [[name, 4] for name in NAMES]}))
    encode(archive, tmp_path / "b", vae, SIZE)
    assert (open_latents(tmp_path / "b").labels == 4).all()
    assert open_latents(tmp_path / "b").num_classes == 5


@pytest.mark.parametrize("damage", ["moments gone", "images gone", "cut short", "no index"])
def test_only_what_is_missing_is_encoded_again(
    pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    out = tmp_path / "latents"
    encode(pictures, out, vae, SIZE)
    whole, inodes = contents(out), {path.name: path.stat().st_ino for path in out.glob("*.npy")}
    broken = out / ("images-00001.npy" if damage == "images gone" else "moments-00001.npy")
    if damage == "cut short":
        broken.write_bytes(broken.read_bytes()[:-1])
    elif damage == "no index":
        (out / "index.json").unlink()
    else:
        broken.unlink()
    with pytest.raises(DataError, match="run the same dtrain encode again" if damage == "no index" else broken.name):
        open_latents(out)
    assert encode(pictures, out, vae, SIZE).num_encoded == (0 if damage == "no index" else 3)
    assert contents(out) == whole
    kept = {name: inode for name, inode in inodes.items() if damage == "no index" or "00001" not in name}
    assert {name: (out / name).stat().st_ino for name in kept} == kept


def test_a_run_that_fails_half_way_keeps_what_was_finished(
    pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    out, broken = tmp_path / "latents", pictures / "dog" / "c.png"
    whole, stat = broken.read_bytes(), broken.stat()
    broken.write_bytes(b"?" * len(whole))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match=r"cannot decode image .*dog/c\.png\': unknown format.*; repair or remove it"):
        encode(pictures, out, vae, SIZE)
    first = {f"{sums}{kind}-00000.npy" for sums in ("", "crc32-") for kind in ("moments", "images")}
    assert set(contents(out)) == {"origin.json", *first}
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert encode(pictures, out, vae, SIZE).num_encoded == 4


def test_nothing_else_is_added_to_an_output(pictures: Path, vae: str, tmp_path: Path) -> None:
    out = tmp_path / "latents"
    encode(pictures, out, vae, SIZE)
    whole = contents(out)
    other_vae = str(tiny_vae(tmp_path / "other", seed=1))
    with pytest.raises(DataError, match=r"Cannot go on in .*latents: it was begun with another image size \(16, now 8"):
        encode(pictures, out, vae, 8)
    with pytest.raises(DataError, match=r"begun with another vae .*; choose another folder, or remove it"):
        encode(pictures, out, other_vae, SIZE)
    os.utime(pictures / "cat" / "a.png", ns=(0, 0))
    with pytest.raises(DataError, match="begun with another source"):
        encode(pictures, out, vae, SIZE)
    with pytest.raises(DataError, match=r"holds .*, expected an empty folder: choose another"):
        encode(pictures, pictures.parent / "other", vae, SIZE)
    assert contents(out) == whole
    (out / "origin.json").write_text("[")
    with pytest.raises(DataError, match=r"Cannot go on in .*: cannot read '.*origin\.json': "):
        encode(pictures, out, vae, SIZE)


def test_arrays_are_encoded_with_their_labels(vae: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=[2, 0, 1])
    assert encode(tmp_path / "a.npz", tmp_path / "out", vae, SIZE).num_classes == 3
    latents = open_latents(tmp_path / "out")
    assert latents.labels is not None
    assert latents.labels.tolist() == [2, 0, 1]
    assert np.array_equal(everything(latents)[1], images)


def test_wrong_sources(pictures: Path, vae: str, tmp_path: Path) -> None:
    def refuses(source: Path, message: str, out: Path = tmp_path / "out") -> None:
        with pytest.raises(DataError, match=message):
            encode(source, out, vae, SIZE)
        assert not out.exists()

    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("notes.txt", "hello")
    refuses(tmp_path / "missing", "no such file or folder .*missing")
    refuses(tmp_path / "empty", "no images in folder .*empty")
    refuses(tmp_path / "bad.zip", "cannot read the zip file .*bad.zip': File is not a zip file")
    refuses(tmp_path / "gone.zip", "cannot read the zip file .*gone.zip': there is no such file")
    refuses(tmp_path / "none.zip", "no images in the zip file .*none.zip")
    refuses(pictures / "cat" / "a.png", r"unsupported image source: got the file .*a\.png', expected a folder, a .zip")
    refuses(pictures, "The output .* is inside the image folder .*: put it elsewhere", pictures / "latents")


LABELS: list[tuple[Any, str]] = [
    ("{", r"wrong labels in dataset\.json of '.*pictures': Expecting property .*; expected \{\"labels\": \[\["),
    ("[]", "wrong labels .*: it holds list, expected a JSON object"),
    ("{}", "wrong labels .*: it lacks 'labels'"),
    ({"labels": [["cat/a.png"]]}, r"wrong labels .*: got \[\'cat/a\.png\'\]"),
    ({"labels": [[name, 0] for name in NAMES[1:]]}, r"no label for 'cat/a\.png' in dataset\.json of .*': add it"),
    ({"labels": [[name, -1] for name in NAMES]}, r"wrong label .*: got -1 for 'cat/a\.png', expected a whole number"),
    ({"labels": [[name, 0.5] for name in NAMES]}, "wrong label .*: got 0.5 for"),
    ({"labels": [[name, True] for name in NAMES]}, "wrong label .*: got True for"),
    ({"labels": [[name, [0, 1]] for name in NAMES]}, r"wrong label .*: got \[0, 1\] for"),
]


@pytest.mark.parametrize(("content", "message"), LABELS)
def test_wrong_labels(pictures: Path, vae: str, tmp_path: Path, content: Any, message: str) -> None:
    (pictures / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message):
        encode(pictures, tmp_path / "out", vae, SIZE)


def test_wrong_settings(pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="Got batch size 0 and image size 16, expected at least 1"):
        encode(pictures, out, vae, SIZE, batch_size=0)
    with pytest.raises(ConfigError, match="8x8 pixels: got image size 20, expected a multiple of 8"):
        encode(pictures, out, vae, 20)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        encode(pictures, out, vae, SIZE, device="gpu")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"needs accelerate.*: install it with: pip install 'dexport\[latents\]'"):
        encode(pictures, out, vae, SIZE)
    assert not out.exists()


def test_vae_that_gives_no_numbers(pictures: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny_vae(tmp_path / "nan") / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["quant_conv.bias"][7] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(NotFiniteError, match=r"gave NaN or infinity for cat/a\.png: use another VAE"):
        encode(pictures, tmp_path / "out", str(path.parent), SIZE)
    assert set(contents(tmp_path / "out")) == {"origin.json"}


def test_command(
    pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dtrain(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dtrain", *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("dtrain", run_name="__main__")
        return int(stop.value.code or 0)

    out = tmp_path / "latents"
    assert dtrain("encode", str(pictures), str(out), "--vae", vae, "--size", "16", "--batch", "3") == 0
    printed = capsys.readouterr()
    assert printed.out == f"7 images, 2 classes: 4x2x2 latents in {out}, shards: 1\n"
    assert printed.err == "encoding images …\n"
    words = ("encode", str(pictures), str(tmp_path / "both"), "--vae", vae, "--size", "16", "--flip")
    assert dtrain(*words) == 0
    assert capsys.readouterr().out.startswith("7 images, each also mirrored, 2 classes: 4x2x2 latents")
    assert open_latents(tmp_path / "both").flipped is not None
    assert dtrain("encode", str(pictures), str(out), "--vae", vae, "--size", "24") == 1
    assert capsys.readouterr().err.startswith("error: Cannot go on in ")


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(vae: str, tmp_path: Path) -> None:
    archive, num_images = tmp_path / "pictures.zip", encoding.SHARD_SIZE + 60
    noise(8, 8, 0).save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(num_images):
            content[-2:] = number.to_bytes(2, "big")
            file.writestr(f"{number % 3}/{number:05d}.bmp", bytes(content))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    code = "import sys; from pathlib import Path; from dtrain.data.encode import encode\n"
    code += "print(encode(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], 8, batch_size=64))"
    command = [sys.executable, "-W", "error", "-c", code, str(archive), str(tmp_path / "two"), vae]
    processes = []
    for rank in ("0", "1"):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = {**os.environ, **address, **ranks}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    one = encode(archive, tmp_path / "one", vae, 8, batch_size=64)
    printed = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed

    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert (one.num_images, one.num_shards, one.num_encoded) == (num_images, 2, num_images)
    share = encoding.SHARD_SIZE, 60
    for rank, (out, _) in enumerate(printed):
        expected = EncodeSummary(num_images, 3, 2, (4, 1, 1), rank=rank, num_encoded=share[rank])
        assert out.decode().splitlines()[-1] == str(expected)


# ---- reading what encode wrote ----------------------------------------------------------------------------


@pytest.fixture
def encoded(pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(encoding, "SHARD_SIZE", 3)
    encode(pictures, tmp_path / "latents", vae, SIZE)
    return tmp_path / "latents"


def test_reading_by_index(encoded: Path) -> None:
    latents = open_latents(encoded)
    assert (len(latents), latents.shape, latents.image_size, latents.num_classes) == (7, (4, 2, 2), SIZE, 2)
    assert (latents.scale, latents.bias) == ((0.18215,) * 4, (0.0,) * 4)
    assert latents.labels is not None
    assert latents.labels.dtype == np.int64
    assert latents.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]

    moments = np.concatenate([np.load(path) for path in sorted(encoded.glob("moments-*"))])
    images = np.concatenate([np.load(path) for path in sorted(encoded.glob("images-*"))])
    assert len(np.unique(moments[:, 0, 0, 0])) == 7
    indices = np.array([6, 0, 3, 2, 3, 5])
    for opened in (latents, pickle.loads(pickle.dumps(latents))):  # as workers of a data loader get it
        assert np.array_equal(opened.moments(indices), moments[indices])
        assert opened.moments(indices).dtype == np.float32
        assert opened.images is not None
        assert np.array_equal(opened.images(indices), images[indices])
        assert opened.images(indices).dtype == np.uint8
    assert latents.moments(np.empty(0, np.int64)).shape == (0, 8, 2, 2)


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range(encoded: Path, index: int) -> None:
    latents = open_latents(encoded)
    assert latents.images is not None
    for read in (latents.moments, latents.images):
        with pytest.raises(IndexError, match=r"expected 0\.\.6"):
            read(np.array([0, index]))


def test_no_file_is_kept_open(encoded: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    latents = [open_latents(encoded) for _ in range(3)]
    for opened in latents:
        everything(opened)
    assert len(os.listdir("/dev/fd")) == before


def test_fingerprint_is_of_the_latents_alone(encoded: Path) -> None:
    first = open_latents(encoded).fingerprint
    (encoded / "teacher.npy").write_bytes(b"someone's cache")
    assert open_latents(encoded).fingerprint == first
    os.utime(encoded / "moments-00001.npy", ns=(0, 0))
    assert open_latents(encoded).fingerprint != first


def test_scale_and_bias_come_from_the_vae(pictures: Path, tmp_path: Path) -> None:
    other = tiny_vae(tmp_path / "other", scaling_factor=0.5, shift_factor=0.25, latent_channels=3)
    encode(pictures, tmp_path / "out", str(other), SIZE)
    latents = open_latents(tmp_path / "out")
    assert (latents.shape, latents.scale, latents.bias) == ((3, 2, 2), (0.5,) * 3, (-0.125,) * 3)


def edit_index(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        index.update(changes)
        (folder / "index.json").write_text(json.dumps({k: v for k, v in index.items() if v != "gone"}))

    return edit


def save(name: str, array: NDArray[Any]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


ENCODED_DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "moments-00002.npy").unlink(), r"cannot read the array .*moments-00002\.npy"),
    (lambda folder: (folder / "images-00000.npy").unlink(), r"cannot read the array .*images-00000\.npy"),
    (cut("images-00001.npy"), r"cannot read the array .*images-00001\.npy"),
    (cut("moments-00000.npy"), r"cannot read the array .*moments-00000\.npy"),
    (save("moments-00001.npy", np.zeros((3, 8, 2, 2))), r"00001\.npy': got float64 .*, expected float32 \(3, 8"),
    (save("moments-00002.npy", np.zeros((3, 8, 2, 2), "f4")), r"got float32 \(3, 8, 2, 2\), expected float32 \(1, 8"),
    (save("images-00000.npy", np.zeros((3, 8, 8, 3), "u1")), r"images-00000\.npy': got uint8 \(3, 8, 8, 3\)"),
    (save("images-00000.npy", np.zeros((3, 16, 16, 3), "u1", order="F")), "it is in Fortran order, expected C order"),
    (save("images-00000.npy", np.array([{}])), r"cannot read the array .*images-00000\.npy"),
    (lambda folder: (folder / "index.json").write_text("{"), r"cannot read .*index\.json.*; run the same"),
    (edit_index(version=2), r"wrong index .*index\.json': expected .*'version': 1"),
    (edit_index(shape="gone"), r"wrong index .*: it lacks 'shape'; run the same dtrain encode again"),
    (edit_index(shape=[4, 2]), r"wrong index .*: shape got \[4, 2\], expected 3 sides"),
    (edit_index(labels=[0, 1]), r"wrong index .*: expected no labels, or 7 whole numbers in 0\.\.1"),
    (edit_index(labels=[0, 0, 0, 0, 0, 0, -1]), r"expected no labels, or 7 whole numbers in 0\.\.1"),
    (edit_index(names=[]), "wrong index .*: names are not one text or more"),
    (edit_index(names=["x"] * 8, labels=None, classes=None), r"got float32 \(1, 8, 2, 2\), expected float32 \(2"),
]


@pytest.mark.parametrize(("damage", "message"), ENCODED_DAMAGE)
def test_damaged_folder(encoded: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(encoded)
    with pytest.raises(DataError, match=message):
        open_latents(encoded)


def test_damage_after_opening(encoded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latents = open_latents(encoded)
    moments = np.load(encoded / "moments-00001.npy")
    moments[2, 7, 1, 1] += 1e-3
    np.save(encoded / "moments-00001.npy", moments)
    with pytest.raises(DataError, match=r"moments-00001\.npy': the checksum of row 2 is wrong; delete it and encode"):
        latents.moments(np.array([0, 5, 4]))
    for path in encoded.glob("crc32-moments-*"):  # as in folders of older versions
        path.unlink()
    latents = open_latents(encoded)
    assert "the moments in " in capsys.readouterr().err
    moments[2, 7, 1, 1] = np.nan
    np.save(encoded / "moments-00001.npy", moments)
    assert np.isfinite(latents.moments(np.array([0, 3, 4, 6]))).all()
    with pytest.raises(DataError, match=r"row 2 of '.*moments-00001\.npy' holds others, expected finite"):
        latents.moments(np.array([0, 5, 4]))
    moments[2, 7, 1, 1] = -0.5
    np.save(encoded / "moments-00001.npy", moments)
    with pytest.raises(DataError, match=r"row 2 of .* holds others, .* and standard deviations from 0 on; encode it"):
        latents.moments(np.array([5]))
    moments[2, 7, 1, 1], moments[2, 3, 1, 1] = 0.0, -0.5  # a mean may be
    np.save(encoded / "moments-00001.npy", moments)
    assert latents.moments(np.array([5]))[0, 3, 1, 1] == -0.5
    cut("moments-00002.npy")(encoded)
    with pytest.raises(DataError, match=r"cannot read the shard .*moments-00002\.npy': it is cut short"):
        latents.moments(np.array([6]))
    (encoded / "images-00000.npy").unlink()
    assert latents.images is not None
    with pytest.raises(DataError, match=r"cannot read the shard .*images-00000\.npy"):
        latents.images(np.array([1]))


def test_names_that_are_not_utf8(repa: Path, pictures: Path) -> None:
    odd = os.fsdecode(b"\xff.npy")
    shutil.copy(repa / FIRST, repa / "vae-sd" / odd)
    with pytest.raises(DataError, match=r"the name of '.*' in '.*vae-sd' is not UTF-8: rename it"):
        open_latents(repa)
    shutil.copy(pictures / "cat" / "a.png", pictures / os.fsdecode(b"\xff.png"))
    with pytest.raises(DataError, match="is not UTF-8: rename it"):
        open_source(pictures)


def test_what_cannot_be_looked_at(repa: Path) -> None:
    (repa / "vae-sd" / "gone.npy").symlink_to(repa / "nowhere")
    with pytest.raises(DataError, match=r"cannot look at '.*gone.npy': No such file or directory; repair or remove"):
        open_latents(repa)


def test_no_latents(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"no latents in .*: expected index\.json.*, or REPA's folder vae-sd"):
            open_latents(folder)


# ---- REPA's layout ----------------------------------------------------------------------------------------


def repa_moments(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).random((8, 4, 4), dtype=np.float32)


def repa_image(number: int) -> Image.Image:
    return noise(32, 32, 100 + number)


NUMBERS = [0, 1, 999, 1000, 1001, 12345]


@pytest.fixture
def repa(tmp_path: Path) -> Path:
    """The layout of REPA's preparation; files and labels are written in orders that are not theirs."""
    root = tmp_path / "repa"
    for number in (1001, 0, 12345, 999, 1, 1000):
        place = f"{number // 1000:05d}"
        for folder in (root / "images" / place, root / "vae-sd" / place):
            folder.mkdir(parents=True, exist_ok=True)
        repa_image(number).save(root / "images" / place / f"img{number:08d}.png")
        np.save(root / "vae-sd" / place / f"img-mean-std-{number:08d}.npy", repa_moments(number))
    pairs = [[f"{n // 1000:05d}/img-mean-std-{n:08d}.npy", n % 7] for n in sorted(NUMBERS, key=lambda n: -n % 5)]
    (root / "vae-sd" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    (root / "images" / "dataset.json").write_text('{"labels": "not read"}')
    return root


def test_repa_layout(repa: Path) -> None:
    latents = open_latents(repa)
    assert (len(latents), latents.shape, latents.image_size) == (6, (4, 4, 4), 32)
    assert (latents.scale, latents.bias) == ((0.18215,) * 4, (0.0,) * 4)
    assert latents.labels is not None
    assert latents.labels.dtype == np.int64
    assert latents.labels.tolist() == [0, 1, 999 % 7, 1000 % 7, 0, 12345 % 7]
    assert latents.num_classes == 7
    indices = np.array([5, 0, 2, 2, 4])
    for opened in (latents, pickle.loads(pickle.dumps(latents))):
        assert np.array_equal(opened.moments(indices), [repa_moments(NUMBERS[i]) for i in indices])
        assert opened.images is not None
        assert np.array_equal(opened.images(indices), [np.asarray(repa_image(NUMBERS[i])) for i in indices])


def test_repa_files_are_paired_by_name_not_by_order(repa: Path) -> None:
    # Among the images 999 comes first now, and then 0 and 1; among the latents it is the third.
    (repa / "images/00000/img00000999.png").rename(repa / "images/00000/00000999.png")
    moments, images = everything(open_latents(repa))
    assert np.array_equal(moments, [repa_moments(n) for n in NUMBERS])
    assert np.array_equal(images, [np.asarray(repa_image(n)) for n in NUMBERS])
    # Five of each, and all wrong from the second on if they were paired by order.
    (repa / "images/00000/img00000001.png").unlink()
    (repa / "vae-sd/00001/img-mean-std-00001000.npy").unlink()
    with pytest.raises(DataError, match=r"no image in .* for latent .*img-mean-std-00000001\.npy'"):
        open_latents(repa)


def test_repa_without_labels(repa: Path) -> None:
    (repa / "vae-sd" / "dataset.json").unlink()
    assert open_latents(repa).labels is None
    assert open_latents(repa).num_classes == 0


def test_repa_without_images(repa: Path) -> None:
    shutil.rmtree(repa / "images")
    latents = open_latents(repa)
    assert latents.images is None
    assert latents.image_size == 32
    assert np.array_equal(latents.moments(np.arange(6)), [repa_moments(n) for n in NUMBERS])


def test_repa_fingerprint(repa: Path) -> None:
    first = open_latents(repa).fingerprint
    assert open_latents(repa).fingerprint == first
    os.utime(repa / "images" / "00000" / "img00000001.png", ns=(0, 0))
    second = open_latents(repa).fingerprint
    assert second != first
    os.utime(repa / "vae-sd" / "00001" / "img-mean-std-00001001.npy", ns=(0, 0))
    assert open_latents(repa).fingerprint != second


FIRST, LAST = "vae-sd/00000/img-mean-std-00000000.npy", "vae-sd/00012/img-mean-std-00012345.npy"

REPA_DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda root: (root / "images/00001/img00001000.png").unlink(),
        r"no image in .*images' for latent .*00001/img-mean-std-00001000\.npy': add it, or move images/ away",
    ),
    (
        lambda root: shutil.copy(root / "images/00001/img00001000.png", root / "images/00001/img00001002.png"),
        r"no latent in .*vae-sd' for image .*00001/img00001002\.png': encode or remove it",
    ),
    (
        lambda root: shutil.copy(root / "images/00001/img00001000.png", root / "images/00001/img00001000.bmp"),
        r"two images for one latent: .*img00001000\.bmp' and '00001/img00001000\.png'; remove one",
    ),
    (save(LAST, np.zeros((8, 4, 5), "f4")), r"wrong latent .*img-mean-std-00012345\.npy': got 768 bytes, expected 640"),
    (cut(LAST), r"img-mean-std-00012345\.npy': got 639 bytes, expected 640 as in 00000/img-mean-std-00000000\.npy"),
    (cut(FIRST), r"cannot read the array .*img-mean-std-00000000\.npy"),
    (save(FIRST, np.zeros((8, 4, 4), "f8")), r"wrong latent .*: got float64 \(8, 4, 4\), expected float32 \(2C, h"),
    (save(FIRST, np.zeros((7, 4, 4), "f4")), r"got float32 \(7, 4, 4\)"),
    (save(FIRST, np.zeros((1, 8, 4, 4), "f4")), r"got float32 \(1, 8, 4, 4\)"),
    (lambda root: noise(16, 16, 0).save(root / "images/00000/img00000000.png"), "got 16x16 pixels, expected 32x32"),
    (
        lambda root: (root / "vae-sd/dataset.json").write_text('{"labels": []}'),
        r"no label for '00000/img-mean-std-00000000\.npy' in .*vae-sd/dataset\.json': add it there",
    ),
    (
        lambda root: (root / "vae-sd/dataset.json").write_text(json.dumps({"labels": [[FIRST[7:], -3]]})),
        r"wrong label in .*dataset\.json': got -3 for '00000/img-mean-std-00000000\.npy', expected a whole",
    ),
    (
        lambda root: [path.unlink() for path in root.rglob("*.npy")],
        r"no latents in .*vae-sd': expected files such as 00000/img-mean-std-00000000\.npy",
    ),
]


@pytest.mark.parametrize(("damage", "message"), REPA_DAMAGE)
def test_damaged_repa_layout(repa: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(repa)
    with pytest.raises(DataError, match=message):
        open_latents(repa)


def test_damage_of_repa_files_after_opening(repa: Path) -> None:
    latents = open_latents(repa)
    broken = repa_moments(12345)
    broken[3, 2, 1] = np.inf
    np.save(repa / LAST, broken)
    with pytest.raises(DataError, match=r"broken latent: .*img-mean-std-00012345\.npy' holds others"):
        latents.moments(np.array([0, 5]))
    np.save(repa / LAST, repa_moments(0).reshape(4, 8, 4))  # of the same number of bytes
    with pytest.raises(DataError, match=r"wrong array .*img-mean-std-00012345\.npy': expected float32 \(8, 4, 4\)"):
        latents.moments(np.array([0, 5]))
    (repa / LAST).unlink()
    with pytest.raises(DataError, match=r"cannot read the array .*img-mean-std-00012345\.npy': there is no such file"):
        latents.moments(np.array([0, 5]))
    assert latents.images is not None
    noise(16, 32, 0).save(repa / "images/00012/img00012345.png")
    with pytest.raises(DataError, match=r"wrong image .*img00012345\.png': got 32x16 pixels, expected 32x32"):
        latents.images(np.array([5]))
    (repa / "images/00012/img00012345.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot decode image .*img00012345\.png"):
        latents.images(np.array([5]))
    assert np.array_equal(latents.moments(np.array([4])), [repa_moments(1001)])


# ---- drawing ----------------------------------------------------------------------------------------------


def test_sample_moments() -> None:
    rng = np.random.default_rng(0)
    moments, eps = rng.standard_normal((2, 6, 4, 5), np.float32), rng.standard_normal((2, 3, 4, 5), np.float32)
    scale, bias = (0.5, 0.25, 2.0), (0.0, -1.0, 3.0)
    expected = np.empty((2, 3, 4, 5))
    for n, c, y, x in np.ndindex(2, 3, 4, 5):
        mean, std = float(moments[n, c, y, x]), float(moments[n, 3 + c, y, x])
        expected[n, c, y, x] = (mean + std * float(eps[n, c, y, x])) * scale[c] + bias[c]
    z = sample_moments(torch.from_numpy(moments), torch.from_numpy(eps), scale, bias)
    assert z.dtype == torch.float32
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-5, atol=1e-6)
    tensors = sample_moments(*(torch.from_numpy(a) for a in (moments, eps)), torch.tensor(scale), torch.tensor(bias))
    assert torch.equal(tensors, z)
