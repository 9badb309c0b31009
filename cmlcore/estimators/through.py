"""Any estimator of this package, for a theta that learning meets only through what a slow network makes of it.

Where the losses see theta only through `made = represent(theta, task)`, the chain rule parts the meta-gradient in two:

    d/dtheta L_out(phi*) = (d made / d theta)^T  d/dmade L_out(phi*)

The right factor is the meta-gradient of a small problem, whose theta is `made`: inner learning never touches the slow network again. The left one
is a single backward pass. So however many steps learning takes, a task costs one forward and one backward pass of the network; of this book.
"""

from collections.abc import Callable

import jax

from cmlcore.bilevel import Problem, Task, Theta
from cmlcore.estimate import Estimate, MetaGradient


def through(represent: Callable[[Theta, Task], Theta], estimator: MetaGradient) -> MetaGradient:
    """`estimator`, applied to a problem in `represent(theta, task)`, as an estimator in `theta`.

    represent: makes what the problem's losses take for their theta, a tree of real arrays, of theta and the whole task, a tree.
    The problem that the result is called with is the small one: its `inner`, `outer` and `init` see `represent(theta, task)` alone.
    """

    def estimate(problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        made, pull_back = jax.vjp(lambda theta: represent(theta, task), theta)
        small = estimator(problem, made, task, key)
        return small._replace(grad=pull_back(small.grad)[0])

    return estimate
