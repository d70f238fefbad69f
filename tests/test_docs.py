"""The site's own parts: docstrings as reStructuredText, chapters as notebooks, examples that run.  `make docs` builds the rest."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import autograd
from zoo.autograd.operation import REGISTRY
from zoo.autograd.runtime import use_kernels

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "docs" / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("*.md"))


@pytest.fixture
def site(monkeypatch):
    """The modules beside docs/conf.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_site"))
    return importlib.import_module


# --- doctests


class UpToRounding(doctest.OutputChecker):
    """Numbers may differ in their last digits, from one processor to another; everything else is the same."""

    NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]\d+)?")

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        numbers = [np.array([float(n) for n in self.NUMBER.findall(text)]) for text in (want, got)]
        texts = ["".join(self.NUMBER.sub("#", text).split()) for text in (want, got)]
        return texts[0] == texts[1] and np.allclose(*numbers, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name, op in REGISTRY.items() if name in autograd.__all__ and ">>>" in (op.__doc__ or "")])
@use_kernels(True)  # a definition may give np.float32(2.0) for array(2., dtype=float32)
def test_the_example_of_an_operation_gives_what_it_says(name):
    scope = {**{n: getattr(autograd, n) for n in autograd.__all__}, "np": np}
    example = doctest.DocTestParser().get_doctest(REGISTRY[name].__doc__ or "", scope, name, None, 0)
    failures: list[str] = []
    doctest.DocTestRunner(UpToRounding(), verbose=False).run(example, out=failures.append)
    assert example.examples and not failures, "".join(failures)


def test_help_of_an_operation_has_its_signature_shapes_errors_and_an_example(capsys):
    help(autograd.softmax)
    text = capsys.readouterr().out
    assert "softmax(x, *, axis=-1)" in text and "any shape" in text and "AxisError" in text and ">>> softmax" in text
    assert inspect.signature(autograd.softmax).parameters.keys() == {"x", "axis"}


# --- what a module offers


@pytest.mark.parametrize("module", ["zoo", *(f"zoo.{name}" for name in zoo._MODULES if name not in ("inspection", "recipes"))])
def test_all_names_what_there_is(module):
    """A star import works, and completion after `zoo.vae.` offers the module's own names."""
    thing = importlib.import_module(module)
    for name in thing.__all__:
        assert hasattr(thing, name), name


# --- docstrings


def test_plain_text_becomes_restructured_text(site):
    converted = site("plain_docstrings").converted
    lines = ["x (n, *image) -> |x|_2, see `f_` and p_.", "", "    y = a * b", "", "- one", "- two", "end"]
    assert converted(lines) == [r"x (n, \*image) -> \|x\|_2, see ``f_`` and p\_.", "", "::", "", "    y = a * b", "", "- one", "- two", "", "end", ""]


@pytest.mark.parametrize("name", ["softmax", "conv2d", "linear"])
def test_a_converted_docstring_is_read_without_complaint(site, name):
    docutils = pytest.importorskip("docutils.core", reason="the docs extra installs it")
    text = "\n".join(site("plain_docstrings").converted(inspect.getdoc(REGISTRY[name]).splitlines()))
    docutils.publish_doctree(text, settings_overrides={"report_level": 2, "halt_level": 2})


# --- notebooks


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_a_notebook_without_directives(site, chapter):
    nbformat = pytest.importorskip("nbformat", reason="the docs extra installs it")
    notebook = site("notebooks").notebook(BOOK / f"{chapter}.md")
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "{literalinclude}" not in text and ":::" not in text and "{download}" not in text and "$$" in text
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 3
    included = (BOOK / f"{chapter}.md").read_text(encoding="utf-8").count("{literalinclude}")
    assert included >= 1 and text.count("```python") >= included  # the zoo's own lines


def test_the_notebook_of_the_engine_runs(site):
    pytest.importorskip("ipykernel", reason="the docs extra installs it")
    nbclient = pytest.importorskip("nbclient", reason="the docs extra installs it")
    notebook = site("notebooks").notebook(BOOK / "engine.md")
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    assert any("relative error 0.001" in str(cell.get("outputs")) for cell in notebook.cells)


# --- the gallery


def test_every_example_is_in_the_gallery_with_a_title_and_the_command_that_ran_it(site, tmp_path):
    gallery = site("gallery")
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert set(gallery.RUN) <= {path.stem for path in examples}
    for path in examples:
        source = gallery.titled(path.read_text(encoding="utf-8"), path.stem)
        compile(source, path.name, "exec")
        lines = source.splitlines()
        assert lines[0] == '"""' and lines[2] == "=" * len(lines[1])
        assert (f"``python examples/{path.name}" if path.stem in gallery.RUN else "Not run while this site was built") in source
