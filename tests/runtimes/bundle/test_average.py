import pytest

from drun.bundle.average import of_initial_weights, percent


@pytest.mark.parametrize("share", [None, 0.0, 1e-300, 0.01])
def test_nothing_is_said_up_to_1_percent(share: float | None) -> None:
    assert of_initial_weights(share, 300) is None


def test_the_share_and_the_remedy() -> None:
    assert of_initial_weights(0.0101, 46_000) == (
        "still holds 1.01 % of the initial weights at step 46,000 and may draw noise: export --weights online, "
        "train longer, or train with --set ema.law=ramp"
    )


@pytest.mark.parametrize(("share", "text"), [(1.0, "100 %"), (0.2223, "22.2 %"), (0.60651, "60.7 %"), (0.01, "1 %")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
