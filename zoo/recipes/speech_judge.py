"""How the recogniser of spoken words is trained: `recipes.speech` says it."""

from __future__ import annotations

from typing import Any

from ..multimodal.speech_judge import SpeechJudge
from .recipe import Recipe
from .speech import VOICES, SpeechJudgeTraining, load_data, make_judge_trainer

PRESETS: dict[str, dict[str, Any]] = {"speech_judge": {}}
RECIPE = Recipe(SpeechJudge, SpeechJudgeTraining, PRESETS, load_data, make_judge_trainer, VOICES)
