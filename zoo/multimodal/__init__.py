"""Words and pictures, each from the other: text encoders, networks that look at words while they draw, captioners."""
