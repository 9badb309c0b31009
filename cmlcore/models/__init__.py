"""Networks and synapses, as plain functions of their parameters."""
