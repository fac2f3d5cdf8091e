"""The names of rows, by which tables find them."""

from __future__ import annotations


def call_name(name: str, batch: int) -> str:
    return f"{name}, call, batch {batch}"


def ratio_name(name: str, batch: int) -> str:
    return f"{name}, times as fast as the best peer, batch {batch}"


def split_name(name: str, batch: int) -> str:
    return f"{name}, times as fast as in one graph, batch {batch}"


def share_name(name: str, batch: int) -> str:
    return f"{name}, share of the matrix rate, batch {batch}"


def parity_name(name: str) -> str:
    return f"{name}, relative L2 from eager PyTorch in fp32"
