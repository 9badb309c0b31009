"""Tasks and images to learn from: made on the spot (sine waves, wheels, spikes), or read from local archives of real data (Omniglot, handwritten digits,
CIFAR-10, natural images)."""
