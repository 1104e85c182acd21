"""The description that a package index shows: README.md without links that lead nowhere from there.

A build hook of scikit-build-core ([[tool.dynamic-metadata]] in pyproject.toml). An index has the text alone,
so relative links and pictures become absolute, under the project's `urls.Source`. Where a project names none,
of a link its words are left, and of a picture nothing.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def render(text: str, source: str | None) -> str:
    def absolute(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        if source is not None:
            return f"{picture}[{words}]({source.rstrip('/')}/{path})"
        return "" if picture else words

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(absolute, text))


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    if settings:
        raise ValueError(f"index_page takes no settings, got {', '.join(settings)}")
    text = render(README.read_text(encoding="utf-8"), project.get("urls", {}).get("Source"))
    return {"readme": {"content-type": "text/markdown", "text": text}}
