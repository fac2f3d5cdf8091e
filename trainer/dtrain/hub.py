"""The Hugging Face hub: finds the files of a repository on this machine, and fetches missing ones."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from drun.errors import UserError, door, reason

#: The longest time to wait for an answer of the hub, seconds. Without a network its own clients try for half a minute.
PATIENCE_S = 2.0
#: Suffixes of files, by which a path is told from the name of a repository.
_FILES = (".pt", ".pth", ".tar", ".safetensors", ".bin", ".ckpt")


def is_name(text: str) -> bool:
    """Whether a text may be the name of a repository, `owner/name`."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text, re.ASCII)) and not text.endswith(_FILES)


def folder(repository: str, weights: Sequence[str], fetch: bool, kind: type[UserError], advice: str) -> Path:
    """The folder of the local cache with a repository's config.json, if it has one, and its weights.

    Files in the cache need no network; missing files are fetched.

    Args:
        repository: `owner/name`.
        weights: names of files of weights, the best first; one of them is enough.
        fetch: whether files may be fetched. A name that comes from anybody's file is fetched only if the user repeats
            it.
        kind: the class of the errors. advice: what to do without the hub.

    Raises:
        UserError: of `kind`: it is not here and may not be fetched, cannot be reached, or has no such file.
    """
    hub = import_module("huggingface_hub")
    with _quiet(), door(f"cannot get '{repository}' from the Hugging Face hub", kind, advice):
        found = _kept(hub, repository, weights)
        if found is None and not fetch:
            raise kind(f"'{repository}' is named by a file, and such repositories are not downloaded: {advice}")
        return (found or _fetched(hub, repository, weights)).parent


def _errors() -> Any:
    return import_module("huggingface_hub.errors")


def _kept(hub: Any, repository: str, weights: Sequence[str]) -> Path | None:
    for name in weights:
        with suppress(_errors().LocalEntryNotFoundError):
            return Path(hub.hf_hub_download(repository, name, local_files_only=True))
    return None


def _fetched(hub: Any, repository: str, weights: Sequence[str]) -> Path:
    reach()
    revision = None
    with suppress(_errors().RemoteEntryNotFoundError):  # a copy of an official checkpoint has no config.json
        revision = Path(hub.hf_hub_download(repository, "config.json")).parent.name
    for name in weights[:-1]:
        with suppress(_errors().RemoteEntryNotFoundError):  # unlike for other errors, the repository exists
            return Path(hub.hf_hub_download(repository, name, revision=revision))
    return Path(hub.hf_hub_download(repository, weights[-1], revision=revision))


# ---- is it there? ---------------------------------------------------------------------------------------


def reach() -> None:
    """Ask the hub for any answer, through the configured proxies.

    Raises:
        OSError: it did not answer within PATIENCE_S, or HF_HUB_OFFLINE forbids to ask.
    """
    constants, utils = (import_module(f"huggingface_hub.{name}") for name in ("constants", "utils"))
    endpoint = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE forbids to ask it")
    session, outcome = utils.get_session(), list[str]()

    def ask() -> None:
        try:
            session.head(endpoint, timeout=PATIENCE_S, follow_redirects=False)
            outcome.append("")
        except Exception as error:  # errors of name resolution, of the proxy, or of certificates
            outcome.append(reason(error))

    # The time limit of the request does not hold for the name resolution, which nothing can stop.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    host = urllib.parse.urlsplit(endpoint).hostname
    if outcome != [""]:
        why = outcome[0] if outcome else f"no answer in {PATIENCE_S:g} s"
        raise OSError(f"{host} cannot be reached: {why}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the progress bars and the retries."""
    bars = import_module("huggingface_hub.utils")
    log = bars.logging
    verbosity, had_bars = log.get_verbosity(), not bars.are_progress_bars_disabled()
    log.set_verbosity(log.CRITICAL)
    bars.disable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if had_bars:
            bars.enable_progress_bars()
