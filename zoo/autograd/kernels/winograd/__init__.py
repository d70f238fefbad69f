"""Convolutions of 3 x 3 and 4 x 4 with fewer multiplications (Winograd 1980; Lavin & Gray 2016), and what transforms their tiles."""
