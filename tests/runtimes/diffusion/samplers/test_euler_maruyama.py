"""The reverse SDE against REPA's and SiT's loops, in float64 on the same noise."""

from __future__ import annotations

import pytest
from on_flows import PATHS, N, agree, flipped, network
from papers import repa_sde, sit_sde
from walks import Array, noises, walk

from drun.diffusion import samplers
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError


@pytest.mark.parametrize("path", PATHS)
def test_repas_sde(path: str) -> None:
    table = samplers.step_table("euler_maruyama", FlowProcess(path), "velocity", N)
    assert len(table.rows) == N
    x, z = noises(N - 1)
    got = walk(table, x, list(z), network)
    agree(got, repa_sde(path, network, x, z, N))


@pytest.mark.parametrize("path", [*PATHS, "vp"])
@pytest.mark.parametrize("last_step", ["mean", "tweedie", "euler", "none"])
@pytest.mark.parametrize("form", ["constant", "sbdm", "sigma", "linear", "decreasing", "increasing_decreasing"])
def test_sits_sde(path: str, form: str, last_step: str) -> None:
    options = {"form": "sit", "diffusion_form": form, "last_step": last_step}
    process = FlowProcess(path, noise_time=0, margin=1e-5 if path == "vp" else 0.0)
    table = samplers.step_table("euler_maruyama", process, "velocity", N, options)
    assert len(table.rows) == N
    x, z = noises(table.num_noises)
    agree(walk(table, x, list(z), flipped), sit_sde(path, form, last_step, flipped, x, z, N))


def test_sbdm_starts_where_sit_starts() -> None:
    """On `vp` at the noise itself, else a margin away from it (facts 3.2)."""

    def start(path: str, margin: float) -> float:
        options = {"form": "sit", "diffusion_form": "sbdm"}
        return samplers.step_table("euler_maruyama", FlowProcess(path, 0, margin), "velocity", 4, options).rows[0].t

    assert [start(path, 0.0) for path in PATHS] == [pytest.approx(1e-3)] * 2
    assert start("linear", 0.01) == pytest.approx(0.01)
    assert start("vp", 1e-5) == 0.0


def test_form_names_the_papers_diffusion() -> None:
    process = FlowProcess("cosine")

    def rows(**options: str) -> object:
        return samplers.step_table("euler_maruyama", process, "velocity", N, options).rows

    assert rows(form="repa") == rows(diffusion_form="linear") != rows(form="sit") == rows(diffusion_form="sigma")


@pytest.mark.parametrize("prediction", ["noise", "x0", "score"])
def test_another_prediction_of_the_same_network_gives_the_same_image(prediction: str) -> None:
    """Away from the ends every prediction says the same."""
    process = FlowProcess("linear", margin=0.01)

    def converted(x: Array, t: float) -> Array:
        x0 = x - t * network(x, t)
        eps = (x - (1 - t) * x0) / t
        return {"noise": eps, "x0": x0, "score": -eps / t}[prediction]

    x, z = noises(N - 1)
    by_velocity, other = (samplers.step_table("euler_maruyama", process, kind, N) for kind in ("velocity", prediction))
    agree(walk(other, x, z, converted), walk(by_velocity, x, z, network))


def test_a_chain_has_no_flow_to_integrate() -> None:
    with pytest.raises(ConfigError, match=r"this model has discrete timesteps: use ddpm"):
        samplers.step_table("euler_maruyama", DiscreteProcess("linear"), "noise", 10)
    assert "euler_maruyama" not in samplers.fitting(DiscreteProcess("linear"))
    assert set(samplers.fitting(FlowProcess())) == set(samplers.names())
