"""How the site is built: `make docs`.  The pages of docs/book and the examples run while it is built; nothing is fetched."""

import os
import shutil
import sys
from pathlib import Path

import matplotlib  # noqa: F401  (before MATPLOTLIBRC is set below)

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_site")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # of the notebooks' kernels
os.environ["MATPLOTLIBRC"] = str(DOCS)  # of the kernels; matplotlib is imported here already, so the gallery's pictures keep a white ground
os.environ.setdefault("TQDM_DISABLE", "1")

import gallery  # noqa: E402
import notebooks  # noqa: E402
import operations  # noqa: E402
import plain_docstrings  # noqa: E402

from zoo import __version__  # noqa: E402

project, author, copyright = "zoo", "the zoo contributors", "the zoo contributors"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "sphinx_design", "sphinx_gallery.gen_gallery",
              "sphinx-mathjax-offline"]
html_theme = "furo"
html_title = "zoo"
html_static_path = ["_static"]
html_css_files = ["zoo.css"]
exclude_patterns = ["_build", "notebooks", "**.ipynb_checkpoints", "gallery/*.py", "gallery/*.ipynb", "gallery/*.md5", "**/sg_execution_times.rst",
                    "sg_execution_times.rst"]
suppress_warnings = ["config.cache"]  # sphinx-gallery's own settings can't be pickled

nitpicky = True  # a reference to a class or function that isn't there is an error, but for
nitpick_ignore_regex = [
    ("py:class", r"(numpy|np|collections|os|pathlib|contextlib)\..*|Axes|DTypeLike|inf|TypeAliasForwardRef"),  # others' (nothing is fetched),
    ("py:class", r"zoo\..*\.[A-Z]|zoo\.recipes\.History"),  # type variables and aliases,
    ("py:class", r"(zoo\..*\.|\w+\.|)(Prefixes|Corpus|Trace|Patch|Node|_Entry|UNet|Dense|Latents|DiT|State|Decoder|Cache|Summary|Rows)"),
    ("py:class", r"zoo\..*\.(PrivateGradients|Ranks|Thing|Emoji)"),
    # and our own that no page of the reference describes
]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # what a page shows was computed by the code that is documented
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"npt.ArrayLike": "ArrayLike", "npt.DTypeLike": "DTypeLike"}  # else spelled out, over five lines
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": str(gallery.FOLDER),
    "gallery_dirs": "gallery",
    "filename_pattern": rf"/({'|'.join(gallery.RUN)})\.py$",
    "ignore_pattern": "__never__",
    "image_scrapers": (gallery.scrape,),
    "reset_argv": gallery.Arguments(),
    "reset_modules": (gallery.forget_operations,),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
    "copyfile_regex": r".*\.rst",
    "first_notebook_cell": None,
}


def setup(app):
    gallery.prepare(ROOT / "examples")
    notebooks.write_all(DOCS / "book", DOCS / "notebooks")
    app.add_directive("operations", operations.Operations)
    app.connect("autodoc-process-docstring", plain_docstrings.process)
    app.connect("build-finished", lambda *_: shutil.rmtree(gallery.FOLDER, ignore_errors=True))
