"""How each model is trained: presets, settings of a run, and trainers. The command line reads them."""
