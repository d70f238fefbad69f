"""Parts of `gan.py`: the two networks, the losses and penalties of the game, and clusters in place of labels."""
