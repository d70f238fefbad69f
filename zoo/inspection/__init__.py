"""Ways of looking: pictures, the terminal, notebooks.  Nothing in the models imports this at run time unless somebody looks."""
