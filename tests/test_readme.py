"""What the README says can be pasted runs; what it points to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_code_in_the_readme_runs(number, capsys):
    exec(compile(BLOCKS[number], f"README.md, block {number + 1}", "exec"), {"__name__": "readme"})


def test_links_of_the_readme_lead_somewhere():
    missing = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_no_file_of_the_project_holds_an_absolute_path():
    texts = [p for pattern in ("*.py", "*.md", "*.toml", "Makefile", "*.html", "*.js", "*.css", "*.json") for p in ROOT.rglob(pattern)
             if not {".venv", "runs", "build", ".git"} & set(p.relative_to(ROOT).parts)]
    wrong = [str(p.relative_to(ROOT)) for p in texts if re.search(r"(?<![\w.])/(home|work|root|Users)/", p.read_text(encoding="utf-8"))]
    assert not [w for w in wrong if not w.endswith("test_readme.py")]
