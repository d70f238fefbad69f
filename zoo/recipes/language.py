"""How a language model is trained: settings of a run, batches and the trainer; the same for transformers and recurrent networks."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..language.corpus import Corpus
from ..language.evaluation import evaluate
from ..language.model import LanguageModel
from ..language.windows import consecutive_windows, line_table, random_lines, random_pieces, random_windows
from ..optim import AdamW, Average, Muon, Optimiser, cosine, linear_decay
from ..training import Batches, Trainer
from ..training.objective import DrawnFirst, has_own_loss
from .recipe import RunSettings


@dataclasses.dataclass(frozen=True)
class LanguageTraining(RunSettings):
    steps: int = 2000
    batch_size: int = 12
    transpose: int = 0  # piano rolls: each is moved by up to so many semitones, up or down
    window: int = 0  # tokens of a training window; 0: the model's window, or 64 where it has none
    optimiser: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    schedule: Literal["cosine", "linear"] = "cosine"
    warm_up: int = 100  # steps
    floor: float = 0.1  # the last learning rate as a share of the first
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.1  # of matrices; gains and biases never decay
    clip: float = 1.0  # greatest norm of the gradient
    average: float = 0.0  # decay of the averaged weights that are evaluated and saved; 0 for none
    evaluate_every: int = 500  # steps
    evaluate_tokens: int = 120_000  # of the validation text


def batches_of(model: LanguageModel, corpus: Corpus, training: LanguageTraining) -> Batches:
    """What the model's loss takes at each step of training."""
    n = int(training.batch_size)
    if model.reads_rolls:
        return random_pieces(corpus.piano_rolls["train"], n, training.transpose)
    text = corpus.split(model.config.lines)["train"]
    if model.config.lines:
        return random_lines(*line_table(text, model.tokenizer, model.start_id, model.context), n)
    ids, time = model.tokenizer.encode(text), training.window or model.context or 64
    if len(ids) < max(time + 1, 2 * n):
        raise ValueError(f"{corpus.name}: has {len(ids)} tokens to train on; expects at least {max(time + 1, 2 * n)} for windows of {time}")
    if model.context is None:  # a state is carried from window to window, so they must follow each other
        return consecutive_windows(ids, n, time)
    return random_windows(ids, n, time, model.config.stride)


LOSS = LanguageModel.loss


def make_trainer(model: LanguageModel, corpus: Corpus, training: LanguageTraining, *, seed: int = 0, folder: Any = None,
                 resume: bool = False, **options: Any) -> Trainer:
    t = training
    shared: dict[str, Any] = {"betas": (t.betas[0], t.betas[1]), "weight_decay": t.weight_decay, "clip": t.clip}
    parameters = model.named_parameters()
    optimiser: Optimiser
    if t.optimiser == "muon":
        matrices = [p for name, p in parameters.items() if p.ndim == 2 and name.startswith("blocks.")]
        if not matrices:
            raise ValueError("optimiser is 'muon', which moves the matrices of a transformer's blocks; this model takes 'adamw'")
        optimiser = Muon(parameters, t.lr, matrices=matrices, muon_lr=t.muon_lr, **shared)
    else:
        optimiser = AdamW(parameters, t.lr, **shared)
    average = Average([p for p in parameters.values() if p.requires_grad], t.average) if t.average else None  # not of what LoRA froze
    shape = cosine if t.schedule == "cosine" else linear_decay
    can_replay = model.kind == "transformer" and not model.config.dropout  # a recurrent model carries a state from step to step
    drawn_first = DrawnFirst(lambda batch, rng: (batch,), lambda batch: model.loss(batch, None),
                             lambda: model.loss if has_own_loss(model, LOSS) else None)  # fmt: skip
    return Trainer(
        model, drawn_first if can_replay else model.loss, batches_of(model, corpus, t), optimiser, steps=t.steps,
        schedule=shape(t.steps, warmup=t.warm_up, floor=t.floor),
        seed=seed, average=average, folder=folder, resume=resume,
        evaluate=lambda m: evaluate(m, corpus, max_tokens=t.evaluate_tokens), evaluate_every=t.evaluate_every, precision=t.precision,
        **{"compile": can_replay, **options})
