"""The operations: each a definition that reads like the mathematics, with the rule of its derivative. One file for each subject."""
