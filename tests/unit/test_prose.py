"""The documents as sources: lines that fit an editor, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import DOCS

PAGES = sorted([*DOCS.parent.glob("*.md"), *DOCS.glob("*.md")])


def anchors(page: Path) -> set[str]:
    """What a link can name behind `#`: the headings of a page, as GitHub spells them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_no_longer_than_120(page: Path) -> None:
    """But for those of tables, which cannot be broken."""
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
