"""Arrays as pictures: PNG files, characters in a terminal, HTML in a notebook. Nothing here knows a model."""
