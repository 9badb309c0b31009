"""How the tests' own process, and those that must round as it does, let XLA compile."""

import jax

# Tests compile far more than they compute, and most of that time is XLA making code fast. Its fusion emitters alone cost a third;
# newer versions, where they are cheap, have no others.
QUICKLY = "--xla_backend_optimization_level=0" + " --xla_cpu_use_fusion_emitters=false" * (jax.__version_info__ < (0, 11))
