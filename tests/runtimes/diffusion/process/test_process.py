"""Processes as files hold them: what is written is read again, and a wrong file is named."""

from __future__ import annotations

import pytest

from drun.diffusion.process import Process, from_dict
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.errors import ConfigError

FLOW = {"kind": "flow", "path": "linear", "noise_time": 1}
CHAIN = {"kind": "discrete", "schedule": "linear", "num_timesteps": 100}


@pytest.mark.parametrize("process", [DiscreteProcess("sigmoid", 123), FlowProcess("cosine", noise_time=0, margin=1e-3)])
def test_round_trip(process: Process) -> None:
    assert from_dict(process.to_dict()) == process


def test_a_chain_has_no_more_steps_than_timesteps_and_a_flow_any_number() -> None:
    assert [from_dict(CHAIN).most_steps(wanted) for wanted in (99, 101)] == [99, 100]
    assert from_dict(FLOW).most_steps(10**6) == 10**6


@pytest.mark.parametrize("config", [FLOW, CHAIN])
def test_reading_leaves_the_dictionary_alone(config: dict[str, object]) -> None:
    before = dict(config)
    from_dict(config)
    assert config == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "bridge"}, "unknown process kind 'bridge', expected discrete or flow"),
        ({"kind": ["flow"]}, "unknown process kind"),
        ({"schedule": "linear"}, "unknown process kind 'None'"),
        ({"kind": "discrete", "schedule": "linear"}, "has a wrong or missing field: it lacks 'num_timesteps'"),
        ({"kind": "discrete", "num_timesteps": 100}, "has a wrong or missing field: it lacks 'schedule'"),
        (CHAIN | {"steps": 3}, "wrong or missing.*'steps'"),
        (CHAIN | {"num_timesteps": "many"}, "has a wrong or missing field"),
        (CHAIN | {"schedule": ["linear"]}, "has a wrong or missing field"),
        ({"kind": "flow", "path": "linear"}, "has a wrong or missing field: it lacks 'noise_time'"),
        ({"kind": "flow", "noise_time": 1}, "has a wrong or missing field: it lacks 'path'"),
        (FLOW | {"path": "bent"}, "unknown path 'bent': choose one of linear, cosine, vp"),
        (FLOW | {"margin": 0.7}, "margin got 0.7"),
        (FLOW | {"beta": 3}, "has a wrong or missing field: .*beta"),
    ],
)
def test_wrong_dictionaries_are_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(config)
