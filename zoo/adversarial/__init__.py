"""Parts of `gan.py`: the two networks, the losses of the game, and clusters in place of labels."""
