"""Searching for settings that train better: a space of fields, strategies that propose points of it, and trials, each a run's folder.

    space = Space.of(recipe_of("recurrent"), "width=64..256:32,cell=gru|lstm,lr=1e-4..1e-2", {"lines": True})
    result = search("recurrent", space, "runs/search", trials=20, by="halving")

Whatever a recipe has a field for can be searched, the network's shape as well as the settings of its training: `space` says how a space is
written, `strategies` and `gaussian` what is tried next, `trials` how one trial is run, `running` how many of them are, and what stays on disk.
"""

from .running import Search, read_search, search
from .space import Space

__all__ = ["Search", "Space", "read_search", "search"]
