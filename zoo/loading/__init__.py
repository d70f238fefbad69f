"""Reading models from files: folders of our own by their card, and folders that others wrote."""
