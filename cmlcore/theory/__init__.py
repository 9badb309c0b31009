"""What is known of a meta-gradient, and what can be measured of it.

quadratic    problems whose meta-gradient is known in closed form
bound        how wrong the rule is: the bound on its error, the best nudge, the powers that follow
theorem      both sides of the theorem of equilibrium propagation
equilibrium  relaxation of an energy's state; a nudged relaxation against backpropagation, step by step
count        first and second derivatives of the losses, counted in the traced program
diagnostics  agreement, order_in_beta, memory, blind
compare      all estimators against the exact answer: error, cost, and the wish-list
trust        self_check: is a meta-gradient to be believed? half the nudge, twice the steps
"""
