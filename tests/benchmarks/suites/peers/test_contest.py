"""Who takes part: what fails in others' libraries is left out by name, and does not end the rest."""

from __future__ import annotations

from typing import Any

import pytest
from networks import small

from dbench.suites.peers import plain
from dbench.suites.peers.contest import LeftOut, all_peers, open_peers
from dbench.suites.peers.libraries import Ingredients, Peer, ort
from drun.console import silent

pytestmark = pytest.mark.slow  # everyone's graphs are made first


def test_a_peer_that_fails_is_named(sit_ingredients: Ingredients, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no compiler\nfound.")

    given = plain.inputs(sit_ingredients.card, 1)
    opened, missing = open_peers([Peer("torch.compile", "fp32", broken), *ort.peers(sit_ingredients)], given, silent)
    assert [one.entrant.name for one in opened] == ["plain ONNX Runtime"]
    assert opened[0].entrant.opened_in_s > 0
    assert missing == [LeftOut("torch.compile", "no compiler found")]
    assert capsys.readouterr().err == "warning: torch.compile is not measured: no compiler found\n"


def test_a_library_without_such_a_network_is_named(sit_ingredients: Ingredients) -> None:
    ingredients = Ingredients(small("OneResUNet"), sit_ingredients.card, 1, sit_ingredients.folder, 8)
    found, missing = all_peers(["diffusers", "pytorch"], ("bf16",), ingredients)
    assert {name: [peer.precision for peer in peers] for name, peers in found.items()} == {"pytorch": ["bf16", "bf16"]}
    assert [one.name for one in missing] == ["diffusers"]
    assert "no network like this OneResUNet" in missing[0].reason


def test_the_proof_of_a_peer_that_is_opened_for_several_images(sit: Any, sit_ingredients: Ingredients) -> None:
    from drun.run.golden import read_golden

    golden = [call for call in read_golden(sit.bundle).calls if len(call.x) == 1]
    (one,), _ = open_peers(ort.peers(sit_ingredients), plain.inputs(sit_ingredients.card, 3), silent)
    assert one.proof(golden, 3).passed
    wrong = Peer("wrong", "fp32", lambda _: lambda x, *rest: 1.01 * one.predict(x, *rest))
    (other,), _ = open_peers([wrong], plain.inputs(sit_ingredients.card, 3), silent)
    assert other.proof(golden, 3).relative_l2 == pytest.approx(0.01, rel=1e-3)
