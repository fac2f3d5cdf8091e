"""Encoding images; what the files must hold is written out here by hand."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_pictures import NAMES, SIZE, adm_crop, contents, everything, noise, tiny_vae
from PIL import Image

from drun.errors import ConfigError, DataError, NotFiniteError
from dtrain.data import encoded_shards
from dtrain.data.encode import EncodeSummary, encode
from dtrain.data.latents import open_latents
from dtrain.data.shards import save_shard
from dtrain.models import vae as vaes


def test_what_encode_writes(pictures: Path, vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
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
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
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
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
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
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
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
    monkeypatch.setattr(encoded_shards, "SHARD_SIZE", 3)
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
    with pytest.raises(
        DataError, match=r"cannot continue in '.*latents': it was begun with another image size \(16, now 8"
    ):
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
    with pytest.raises(DataError, match=r"cannot continue in .*: cannot read '.*origin\.json': "):
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
    refuses(pictures, "the output .* is inside the image folder .*: choose another folder", pictures / "latents")


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
    with pytest.raises(ConfigError, match="--batch got 0 and --size got 16, expected at least 1"):
        encode(pictures, out, vae, SIZE, batch_size=0)
    with pytest.raises(ConfigError, match="--size got 20, expected a multiple of 8, for the VAE"):
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
    with pytest.raises(NotFiniteError, match=r"gave NaN or infinity for 'cat/a\.png': use another VAE"):
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
    assert capsys.readouterr().err.startswith("error: cannot continue in ")


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(vae: str, tmp_path: Path) -> None:
    archive, num_images = tmp_path / "pictures.zip", encoded_shards.SHARD_SIZE + 60
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
    share = encoded_shards.SHARD_SIZE, 60
    for rank, (out, _) in enumerate(printed):
        expected = EncodeSummary(num_images, 3, 2, (4, 1, 1), rank=rank, num_encoded=share[rank])
        assert out.decode().splitlines()[-1] == str(expected)
