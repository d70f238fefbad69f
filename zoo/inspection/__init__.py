"""Ways of looking at models: pages (`inspect`, `play`, `demo`), figures, graphs, profiles, memory.  No model imports anything from here."""
