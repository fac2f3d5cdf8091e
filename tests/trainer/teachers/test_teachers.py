"""What a teacher is, and our own."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_teachers import CPU, TINY, jepa, mae, own_checkpoint, perturb, save, transformers, vit
from torch import Tensor, nn

from drun.errors import CheckpointError, ConfigError, DataError
from dtrain import config, teachers
from dtrain.checkpoints import ours as checkpoint
from dtrain.checkpoints.ours import Checkpoint
from dtrain.teachers import Teacher

# ---- our own ------------------------------------------------------------------------------------------------


def test_the_newest_of_our_own_checkpoints_is_a_teacher(tmp_path: Path) -> None:
    own_checkpoint(tmp_path, 9, depth=1)
    network = own_checkpoint(tmp_path, 10)
    digits = torch.randint(0, 256, (3, 16, 16, 1), dtype=torch.uint8)
    teacher = teachers.load(str(tmp_path), 16, CPU)
    expected = network.tokens(digits.permute(0, 3, 1, 2) / 127.5 - 1)
    assert (teacher.name, teacher.num_tokens, teacher.dim) == ("digits-teacher", 16, 16)
    torch.testing.assert_close(teacher(digits), expected.detach(), rtol=0, atol=1e-6)
    older = teachers.load(str(tmp_path / "digits-teacher-0000009.pt"), 16, CPU)
    assert older.fingerprint != teacher.fingerprint


def test_one_that_was_not_trained_to_its_end_is_named(tmp_path: Path) -> None:
    own_checkpoint(tmp_path, 9)
    path = tmp_path / "digits-teacher-0000009.pt"
    told = f"the teacher in '{path}' was trained for 9 of 10 steps: train it to its end first"
    assert teachers.unfinished_note(str(tmp_path)) == teachers.unfinished_note(str(path)) == told
    own_checkpoint(tmp_path, 10)
    assert teachers.unfinished_note(str(tmp_path)) is None
    assert teachers.unfinished_note("dinov2-vit-b") is None


def test_what_is_no_teacher_of_ours_is_refused(tmp_path: Path) -> None:
    own_checkpoint(tmp_path, 1)
    with pytest.raises(ConfigError, match="takes images of 16 pixels, the data has 32: choose another"):
        teachers.load(str(tmp_path), 32, CPU)
    unet = {"name": "OneResUNet", "dim": 8, "dim_mults": [1, 2], "channels": 1}
    recipe = config.Recipe("digits-unet", unet, {}, {}, config.Data(16), config.Train(10, 4))
    path = checkpoint.save(Checkpoint(recipe, 1, {}, {}, {}), tmp_path / "unet", 1)
    with pytest.raises(CheckpointError, match="holds a OneResUNet, expected a ViT or another encoder as the teacher"):
        teachers.load(str(path), 16, CPU)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no checkpoint of dtrain in .*empty.*name=FOLDER"):
        teachers.load(str(tmp_path / "empty"), 16, CPU)
    recipe = config.Recipe("broken", {"name": "ViT", **TINY}, {}, {}, config.Data(16), config.Train(10, 4))
    path = checkpoint.save(Checkpoint(recipe, 1, {}, {"head.bias": torch.zeros(10)}, {}), tmp_path / "broken", 1)
    with pytest.raises(CheckpointError, match=r"broken-0000001.pt' does not fit its network: .* got nothing"):
        teachers.load(str(path), 16, CPU)


# ---- what a teacher is --------------------------------------------------------------------------------------


def test_a_teacher_is_frozen_and_no_part_of_the_network_that_keeps_it(tmp_path: Path, images: Tensor) -> None:
    teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    student = nn.Linear(2, 2)
    student.teacher = teacher
    assert set(student.state_dict()) == {"weight", "bias"}
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    student.train()
    assert not teacher.network.training
    assert not teacher(images).requires_grad


def test_grey_images_are_repeated_and_other_images_refused(tmp_path: Path, images: Tensor) -> None:
    teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    grey = images[..., :1]
    assert torch.equal(teacher(grey), teacher(grey.repeat(1, 1, 1, 3)))
    with pytest.raises(DataError, match=r"uint8 \(2, 128, 256, 3\), expected uint8 \(N, 256, 256, 3\)"):
        teacher(images[:, :128])
    with pytest.raises(DataError, match="got images of float32"):
        teacher(images.float())
    with pytest.raises(DataError, match=r"\(2, 256, 256, 2\)"):
        teacher(images[..., :2])


def test_the_fingerprint_is_of_name_weights_and_image_size(tmp_path: Path) -> None:
    trained = perturb(vit())
    first, second = save(trained, tmp_path / "first"), tmp_path / "second"
    shutil.copytree(first, second)
    base = teachers.load(f"mocov3-vit-b={first}", 256, CPU).fingerprint
    assert len(base) == 64
    assert teachers.load(f"mocov3-vit-b={second}", 256, CPU).fingerprint == base
    others = [teachers.load(f"dinov1-vit-b={first}", 256, CPU), teachers.load(f"mocov3-vit-b={first}", 512, CPU)]
    trained.layers[1].mlp.fc1.bias.data[3] += 1e-6
    others.append(teachers.load(f"mocov3-vit-b={save(trained, tmp_path / 'third')}", 256, CPU))
    assert len({base, *(other.fingerprint for other in others)}) == 4


def test_tokens_have_to_be_as_many_as_the_networks(tmp_path: Path) -> None:
    teacher: Teacher = teachers.load(f"jepa-vit-h={save(perturb(jepa()), tmp_path)}", 256, CPU)
    teachers.check_tokens(teacher, 256)
    with pytest.raises(ConfigError, match="'jepa-vit-h' gives 256 tokens for 256 pixels, the network has 64"):
        teachers.check_tokens(teacher, 64)


def test_loading_prints_nothing_and_leaves_the_librarys_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(perturb(mae()), tmp_path)
    transformers.logging.enable_progress_bar()
    before = transformers.logging.get_verbosity()
    capfd.readouterr()
    teachers.load(f"mae-vit-l={tmp_path}", 256, CPU)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.is_progress_bar_enabled()
    assert transformers.logging.get_verbosity() == before
