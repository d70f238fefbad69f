"""Chapters of the book as Jupyter notebooks.

A chapter is a MyST page with code cells.  A notebook has no directives: lines that a page includes from the source become a block of code, and
folded answers become HTML's own folding.
"""

import ast
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELL = re.compile(r"```\{code-cell\}[^\n]*\n(.*?)```\n", re.S)
INCLUDE = re.compile(r"```\{literalinclude\} (\S+)\n((?::[^\n]*\n)*)```")
FOLDED = re.compile(r":::+\{dropdown\} ([^\n]*)\n(.*?)\n:::+", re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)]+?)\.md(#[^)]*)?\)")
ROLE = re.compile(r"\n[^\n]*\{download\}[^\n]*\n")


def write_all(chapters: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for chapter in sorted(chapters.glob("*.md")):
        nbformat.write(notebook(chapter), folder / f"{chapter.stem}.ipynb")


def notebook(chapter: Path):
    """The chapter's cells, none of them run."""
    text = chapter.read_text(encoding="utf-8")
    text = ROLE.sub("\n", re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S))
    parts = CELL.split(text)
    cells = []
    for i, part in enumerate(parts):
        if i % 2:
            code = re.sub(r"\A(:[^\n]*\n)+\n?", "", part).strip()
            cells.append(new_code_cell(code, id=f"cell-{i}"))
        elif part.strip():
            cells.append(new_markdown_cell(_plain(part, chapter.parent), id=f"cell-{i}"))
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})


def _plain(text: str, folder: Path) -> str:
    text = INCLUDE.sub(lambda m: f"```python\n{included(folder / m[1], m[2])}\n```", text)
    text = FOLDED.sub(r"<details><summary>\1</summary>\n\n\2\n\n</details>", text)
    return LINK.sub("]", text).strip()


def included(path: Path, options: str) -> str:
    """What Sphinx's literalinclude shows: a class or function by :pyobject:, or the lines from :start-at: to :end-at:."""
    wanted = dict(re.findall(r":([\w-]+): ([^\n]*)", options))
    if "pyobject" in wanted:
        return source_of(path, wanted["pyobject"])
    lines = path.resolve().read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if wanted["start-at"] in line)
    last = next(i for i, line in enumerate(lines) if i >= first and wanted["end-at"] in line)
    return "\n".join(lines[first : last + 1])


def source_of(path: Path, name: str) -> str:
    """The lines of one class, function or method: what :pyobject: includes."""
    text = path.resolve().read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)
