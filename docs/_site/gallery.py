"""The gallery: examples that take seconds run while the site is built, and what they write is shown."""

import re
import shutil
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "gallery"
PICTURES = (".png", ".gif")
PICTURES_OF_THE_PROJECT = Path(__file__).parents[1] / "pictures"
HEADER = """Examples
========

Short scripts, each about one thing. They run from a clone as they are: ``python examples/generate_digits.py``. Those that
take seconds were run while this site was built; the pictures are the files that they wrote.
"""
RUN = {  # example -> its arguments here; where there are any, they make it a matter of seconds, and its pictures rougher
    "engine_only": [],
    "explain_diffusion": [],
    "explain_digit": [],
    "explain_text": [],
    "explain_vae": [],
    "finetune_text": ["../../README.md", "--steps", "20"],
    "generate_digits": [],
    "generate_music": [],
    "generate_text": [],
    "look_at_flow": ["400"],
    "look_inside_a_digit": [],
    "look_inside_a_sentence": [],
    "train_diffusion": ["0.4"],
    "train_gan": ["60"],
    "train_transformer": ["--steps", "60"],
    "train_vae": ["1"],
    "watch_a_gan": ["ring", "--steps", "300", "--frames", "12"],
    "words_and_pictures": [],
    "your_own_operation": [],
}
DREW = {  # example that isn't run -> what it drew when it was run as it is, in docs/pictures
    "grokking": ("grokking.png",),
    "induction": ("induction.png",),
    "explain_chat": ("chat_induction.png", "chat_lens.png", "chat_attribution.png"),
}


def forget_operations(gallery_conf, file) -> None:
    """Before and after each example: operations that it defined are no part of the engine that the site describes.  sphinx-gallery's hook."""
    from zoo.autograd.operation import REGISTRY

    for name in [name for name, operation in REGISTRY.items() if not operation.definition.__module__.startswith("zoo.")]:
        del REGISTRY[name]


class Arguments:
    """What an example is run with: sphinx-gallery's hook."""

    def __repr__(self) -> str:
        return "Arguments()"  # equal from run to run: it's part of what decides whether an example runs again

    def __call__(self, gallery_conf, script_vars) -> list[str]:
        return RUN.get(Path(script_vars["src_file"]).stem, [])


def prepare(examples: Path) -> None:
    """Copy the examples to where they may write files, with a line in each docstring that says how it was run."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "GALLERY_HEADER.rst").write_text(HEADER)
    for path in sorted(examples.glob("*.py")):
        (FOLDER / path.name).write_text(titled(path.read_text(encoding="utf-8"), path.stem), encoding="utf-8")


def titled(source: str, name: str) -> str:
    """The script with a docstring that sphinx-gallery reads: a title, the first sentence, the rest as it stands."""
    _, docstring, code = source.split('"""', 2)
    text = re.sub(r"\n\n    ", "\n\n::\n\n    ", docstring.strip())
    title = name.replace("_", " ").capitalize().replace("gan", "GAN").replace(" vae", " VAE")
    if name in RUN:
        command = " ".join(["python", f"examples/{name}.py", *RUN[name]])
        how = f"Run here as ``{command}``" + (", shorter than it is meant to run." if RUN[name] else ".")
    else:
        pictures = [picture for picture in DREW.get(name, ()) if (PICTURES_OF_THE_PROJECT / picture).exists()]
        how = "\n\n".join(["Not run while this site was built." + (" It drew:" if pictures else ""),
                           *(f".. image:: /pictures/{picture}" for picture in pictures)])
        if pictures:
            code = f"\n\n# sphinx_gallery_thumbnail_path = 'pictures/{pictures[0]}'" + code
    code = f"""

# sphinx_gallery_start_ignore
__doc__ = {docstring.splitlines()[0]!r}  # sphinx-gallery runs a script without its docstring, whose first line is the help's
# sphinx_gallery_end_ignore
""" + code.lstrip("\n")
    return f'"""\n{title}\n{"=" * len(title)}\n\n{text}\n\n{how}\n"""{code}'


def scrape(block, block_vars, gallery_conf) -> str:
    """The pictures that a block wrote: sphinx-gallery's hook."""
    from sphinx_gallery.scrapers import figure_rst

    folder = Path(block_vars["src_file"]).parent
    paths = block_vars["image_path_iterator"]
    pictures = sorted((p for p in folder.rglob("*") if p.suffix in PICTURES), key=lambda p: p.stat().st_mtime)
    names = []
    for picture, target in zip(pictures, paths):
        if picture.suffix == ".gif":  # the thumbnail is made of a PNG
            from PIL import Image

            with Image.open(picture) as film:
                film.seek(film.n_frames - 1)
                film.convert("RGB").save(target)
        target = Path(target).with_suffix(picture.suffix)
        shutil.move(picture, target)
        names.append(str(target))
    return figure_rst(names, gallery_conf["src_dir"])
