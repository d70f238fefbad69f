"""How the judge of letters and signs is trained: `recipes.glyphs` says it."""

from __future__ import annotations

from typing import Any

from ..multimodal.glyphs import GlyphJudge
from .glyphs import FONTS, GlyphJudgeTraining, load_judged, make_judge_trainer
from .recipe import Recipe

PRESETS: dict[str, dict[str, Any]] = {"glyph_judge": {}}
RECIPE = Recipe(GlyphJudge, GlyphJudgeTraining, PRESETS, load_judged, make_judge_trainer, FONTS)
