"""What a page shows of each kind of model, beside its records."""
