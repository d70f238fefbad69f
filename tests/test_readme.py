"""What the README and the pages of docs/ say can be pasted runs; what they point to is there."""

import re
from pathlib import Path

import pytest

from zoo.autograd.operation import REGISTRY

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FETCHED = {"chat.md"}  # its code needs a model that `zoo get` fetches
BOOK = sorted((ROOT / "docs" / "book").glob("*.md"))  # `make docs` runs these


def blocks_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def own_operations():
    """Operations that a page defines are forgotten, so that another test may use their names."""
    before = set(REGISTRY)
    yield
    for name in set(REGISTRY) - before:
        del REGISTRY[name]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page) and page.name not in FETCHED], ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, own_operations, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    for number, block in enumerate(blocks_of(page), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_the_readme_is_short_and_begins_with_its_two_commands():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100
    commands = [line.split()[:2] for line in lines if line.startswith("    ")]
    assert commands[:2] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("page", [*PAGES, *BOOK], ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"^```(python|\{code-cell\}).*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"\{literalinclude\} (\S+)", text)
    generated = ("gallery/", "../gallery/")
    missing = [link for link in links if "://" not in link and not link.startswith(generated) and not (page.parent / link).exists()]
    assert not missing


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings} | set(re.findall(r"^\(([\w-]+)\)=$", text, re.M))


def test_links_into_a_page_lead_to_a_heading_of_it():
    more = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs" / "reference").glob("*.md"))]
    missing = []
    for page in [*PAGES, *BOOK, *more]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
            if "://" in target or "gallery/" in target or not re.fullmatch(r"[\w./-]*", target):
                continue
            file = page.parent / target if target else page
            if not file.exists() and page in more:
                missing.append((page.name, target))
            if anchor and file.suffix == ".md" and anchor not in anchors_of(file):
                missing.append((page.name, f"{target}#{anchor}"))
    assert not missing


def test_no_file_of_the_project_holds_an_absolute_path():
    texts = [p for pattern in ("*.py", "*.md", "*.toml", "Makefile", "*.html", "*.js", "*.css", "*.json") for p in ROOT.rglob(pattern)
             if not {".venv", "runs", "build", ".git", "gallery", "notebooks"} & set(p.relative_to(ROOT).parts)]
    wrong = [str(p.relative_to(ROOT)) for p in texts if re.search(r"(?<![\w.])/(home|work|root|Users)/", p.read_text(encoding="utf-8"))]
    assert not [w for w in wrong if not w.endswith("test_readme.py")]
