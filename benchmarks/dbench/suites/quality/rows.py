"""Names of the rows that a report and other suites speak of."""

SUITE = "quality"
SAMPLES, HALVES, NOISE = "samples to real digits", "one half of the real digits to the other", "noise to real digits"
POSITION, NEARER = "samples on the way from real to noise", "samples nearer to a real digit than those to each other"
