"""Meta-gradients: from a problem, slow parameters and a task to an `Estimate` (Zucchet et al. 2022, and the rivals of their rule).

contrastive  contrastive, symmetric, three_point, matched: learning twice
imaginary    imaginary, contour, tangent: learning once, in the complex plane
holomorphic  what learning with complex parameters needs: losses and Adam continued, everything else refused
implicit     implicit differentiation with cg, neumann, identity (T1-T2), dense, damped
unroll       backpropagation through training: unrolled (MAML), truncated, checkpointed, forward_mode
first_order  first_order (MAML without second derivatives), reptile
carried      what a phase may take over from the one before it
"""
