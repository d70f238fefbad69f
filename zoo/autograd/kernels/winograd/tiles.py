"""What Winograd's two convolutions share: where tiles lie, and the transforms of a tile, each compiled once."""

from __future__ import annotations

from ...runtime.compiling import Native, inner, separate


@inner
def count_tiles(n, height, width, size):
    """Tiles of size x size outputs that cover n images."""
    return n * ((height + size - 1) // size) * ((width + size - 1) // size)


@inner
def tile_corner(tile, height, width, size):
    """The image of a tile, and its first row and column among the outputs."""
    across, of_an_image = (width + size - 1) // size, count_tiles(1, height, width, size)
    return tile // of_an_image, tile % of_an_image // across * size, tile % of_an_image % across * size


def tile_transform(name, module):
    """A transform f(source, row, column, target, target_row, target_column, bias, channels) by its name in one of the files of transforms."""
    transform = Native(name, f"{__package__}.{module}")

    def run(source, row, column, target, target_row, target_column, bias, channels):
        transform(source, row, column, target, target_row, target_column, bias, channels)

    run.__name__ = run.__qualname__ = name
    return separate("void(intp, intp, intp, intp, intp, intp, intp, intp)")(run)


def picture_transform(name, module):
    """A transform f(source, row, column, target, target_row, target_column, channels, inside, bias, residual) of a tile that an edge may cut."""
    transform = Native(name, f"{__package__}.{module}")

    def run(source, row, column, target, target_row, target_column, channels, inside, bias, residual):
        transform(source, row, column, target, target_row, target_column, channels, inside, bias, residual)

    run.__name__ = run.__qualname__ = name
    return separate("void(intp, intp, intp, intp, intp, intp, intp, intp, intp, intp)")(run)
