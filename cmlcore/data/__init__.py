"""Tasks to meta-learn: sine waves, made on the spot, and Omniglot characters, real data."""
