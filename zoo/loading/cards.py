"""Reading a model by name or folder: its card says what kind it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .. import storage
from .get import DOWNLOADS, downloaded, models_folder

if TYPE_CHECKING:
    from ..diffusion import Diffusion
    from ..evaluation.classifier import Classifier
    from ..gan import GAN
    from ..multimodal.captions import Captions
    from ..multimodal.contrastive import Contrastive
    from ..multimodal.glyphs import Glyphs
    from ..multimodal.scene_judge import SceneJudge
    from ..multimodal.speech import Speech
    from ..multimodal.speech_judge import SpeechJudge
    from ..multimodal.words import Words
    from ..recurrent import Recurrent
    from ..transformer import Transformer
    from ..vae import VAE

KINDS = {  # kind -> where its class is; a model's card says its kind
    "vae": ("zoo.vae", "VAE"),
    "vqvae": ("zoo.vqvae", "VQVAE"),
    "autoencoder": ("zoo.autoencoder", "Autoencoder"),
    "gan": ("zoo.gan", "GAN"),
    "diffusion": ("zoo.diffusion", "Diffusion"),
    "transformer": ("zoo.transformer", "Transformer"),
    "recurrent": ("zoo.recurrent", "Recurrent"),
    "classifier": ("zoo.evaluation.classifier", "Classifier"),
    "words": ("zoo.multimodal.words", "Words"),
    "scene_judge": ("zoo.multimodal.scene_judge", "SceneJudge"),
    "captions": ("zoo.multimodal.captions", "Captions"),
    "contrastive": ("zoo.multimodal.contrastive", "Contrastive"),
    "speech": ("zoo.multimodal.speech", "Speech"),
    "speech_judge": ("zoo.multimodal.speech_judge", "SpeechJudge"),
    "glyphs": ("zoo.multimodal.glyphs", "Glyphs"),
    "glyph_judge": ("zoo.multimodal.glyphs", "GlyphJudge"),
    "dalle": ("zoo.multimodal.dalle", "Dalle"),
}


WEIGHTS = storage.SHIPPED


@overload
def load(name_or_folder: Literal["vae", "vae-conditional", "vae-iwae5", "vae-two-layers"]) -> VAE: ...
@overload
def load(name_or_folder: Literal["gan"]) -> GAN: ...
@overload
def load(name_or_folder: Literal["diffusion", "diffusion-cosine", "dit", "latent"]) -> Diffusion: ...
@overload
def load(name_or_folder: Literal["chorales", "names", "smollm2", "transformer"]) -> Transformer: ...
@overload
def load(name_or_folder: Literal["recurrent"]) -> Recurrent: ...
@overload
def load(name_or_folder: Literal["classifier"]) -> Classifier: ...
@overload
def load(name_or_folder: Literal["scene_judge"]) -> SceneJudge: ...
@overload
def load(name_or_folder: Literal["words"]) -> Words: ...
@overload
def load(name_or_folder: Literal["captions"]) -> Captions: ...
@overload
def load(name_or_folder: Literal["contrastive"]) -> Contrastive: ...
@overload
def load(name_or_folder: Literal["speech"]) -> Speech: ...
@overload
def load(name_or_folder: Literal["speech_judge"]) -> SpeechJudge: ...
@overload
def load(name_or_folder: Literal["glyphs"]) -> Glyphs: ...
@overload
def load(name_or_folder: str | Path) -> Any: ...
def load(name_or_folder: str | Path) -> Any:
    """A model that ships (`zoo.load("vae")`), one of your own (`zoo.load("runs/vae")`), by what its card says, a folder in Hugging Face's
    layout, a GGUF file (`zoo.load("model.gguf")`), or one that `zoo get` fetched (`zoo.load("smollm2")`)."""
    path = Path(name_or_folder)
    file = None if storage.is_folder(path) else path if path.suffix == ".gguf" else downloaded(str(name_or_folder))
    if file is not None:
        from .gguf_models import read_model

        return read_model(file)
    folder = folder_of(name_or_folder)
    if not (folder / storage.CARD).exists() and (folder / "config.json").exists():
        from .hugging_face import read_folder

        return read_folder(folder)
    arrays, card = storage.load_folder(folder)
    kind = card.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise storage.WrongFile(f"{folder / storage.CARD}: kind is {storage.shorten(kind)}; it may be {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name).from_arrays(arrays, card, source=folder)


def folder_of(name_or_folder: str | Path) -> Path:
    """The folder itself, or that of the model that ships or lies in the cache under this name."""
    folder = Path(name_or_folder)
    places = [place / str(name_or_folder) for place in (WEIGHTS, *_cache())]
    folder = next((path for path in (folder, *places) if storage.is_folder(path)), folder)
    if not storage.is_folder(folder):
        if str(name_or_folder) in DOWNLOADS:
            raise FileNotFoundError(f"load: {str(name_or_folder)!r} hasn't been fetched yet; run: zoo get {name_or_folder}")
        ships = ", ".join(shipped()) or "none"
        raise FileNotFoundError(f"load: {storage.shorten(str(name_or_folder), 200)} is neither a folder nor one of the models that ship: {ships}")
    return folder


def card_of(name_or_folder: str | Path) -> dict[str, Any]:
    """The card of a model that ships or of one of your own, without reading its weights."""
    return storage.read_json(folder_of(name_or_folder) / storage.CARD)


def shipped() -> list[str]:
    """The names of the models that ship."""
    return _names_in(WEIGHTS)


def at_hand() -> list[str]:
    """The names of the models that ship, and of those whose folders lie in numpy-zoo/models under the user's cache."""
    return sorted({name for place in (WEIGHTS, *_cache()) for name in _names_in(place)})


def _names_in(place: Path) -> list[str]:
    return sorted(p.name for p in place.iterdir() if (p / storage.CARD).exists()) if place.is_dir() else []


def _cache() -> list[Path]:
    """The folder of models under the user's cache; none where there is no home to have one."""
    try:
        return [models_folder()]
    except OSError:
        return []
