"""What a step costs, beside the floor under it and beside other ways to compute the same step: `python -m benchmarks`."""
