"""The long description on a package index, where no file of the repository lies beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A Markdown link or image of a file of the repository: not of a URL, nor of a place in the page.
RELATIVE = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<path>[^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in what follows from the repository's URL, `[tool.hatch.metadata.hooks.custom] repository`."""
        repository = self.config["repository"].rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, repository)}
        if repository:
            changes = f"{repository}/blob/HEAD/CHANGELOG.md"
            metadata["urls"] = {"Repository": repository, "Issues": f"{repository}/issues", "Changelog": changes}


def absolute(text: str, repository: str) -> str:
    """Markdown whose links work anywhere; without a repository, linked text and images become their words."""

    def replaced(link: re.Match[str]) -> str:
        if not repository:
            return link["text"]
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({repository}/{kind}/HEAD/{link['path']})"

    return RELATIVE.sub(replaced, text)
