"""Tasks and images to learn from: made on the spot (sine waves, Gaussian worlds), or read from local archives of real data."""
