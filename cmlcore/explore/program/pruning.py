"""Dropping what no output needs, inside loops and branches as well."""

from cmlcore.explore.program.building import Function, Op


def prune(function: Function, live: list[bool], keep_inputs: bool = False) -> tuple[Function, list[bool]]:
    """`function` without the outputs that are not `live` and whatever only they need; which of its inputs remain."""
    outputs = [x for x, wanted in zip(function.outputs, live, strict=True) if wanted]
    needed, ops = {x for x in outputs if x >= 0}, []
    for op in reversed(function.ops):
        wanted = [op.first + i in needed for i in range(len(op.types))]
        if any(wanted):
            op, kept = PRUNE.get(op.name, _prune_nothing)(op, wanted)
            ops.append((op, kept))
            needed.update(x for x in op.operands if x >= 0)
    live_inputs = [keep_inputs or i in needed for i in range(len(function.inputs))]
    number = {x: i for i, x in enumerate(x for x, alive in enumerate(live_inputs) if alive)}
    renumbered = []
    for op, kept in reversed(ops):
        first = len(number)
        number.update({op.first + old: first + new for new, old in enumerate(kept)})
        operands = tuple(number.get(x, x) for x in op.operands)
        renumbered.append(op._replace(operands=operands, first=first))
    inputs = [t for t, alive in zip(function.inputs, live_inputs, strict=True) if alive]
    return Function(inputs, renumbered, [number.get(x, x) for x in outputs]), live_inputs


def _only(values, mask):
    return [v for v, keep in zip(values, mask, strict=True) if keep]


def _prune_nothing(op: Op, wanted):
    return op, range(len(op.types))


def _prune_scan(op: Op, wanted):
    consts, carry = op.params["consts"], op.params["carry"]
    alive = list(wanted)
    while True:  # a carry lives if an output needs it, or a carry that lives does
        body, inputs = prune(op.functions[0], alive)
        grown = [a or i for a, i in zip(alive[:carry], inputs[consts : consts + carry], strict=True)]
        if grown == alive[:carry]:
            break
        alive[:carry] = grown
    # A carry that is kept for its final value alone still needs its place among the inputs.
    inputs[consts : consts + carry] = alive[:carry]
    body = _with_inputs(op.functions[0], alive, inputs)
    params = {**op.params, "consts": sum(inputs[:consts]), "carry": sum(alive[:carry])}
    kept = [i for i, a in enumerate(alive) if a]
    return op._replace(
        operands=tuple(_only(op.operands, inputs)),
        types=tuple(_only(op.types, alive)),
        params=params,
        functions=(body,),
    ), kept


def _prune_while(op: Op, wanted):
    first, second = op.params["consts"]
    carry = len(op.types)
    _, cond_inputs = prune(op.functions[0], [True])
    alive = [w or c for w, c in zip(wanted, cond_inputs[first:], strict=True)]
    while True:
        _, inputs = prune(op.functions[1], alive)
        grown = [a or i for a, i in zip(alive, inputs[second:], strict=True)]
        if grown == alive:
            break
        alive = grown
    cond_inputs[first:], inputs[second:] = alive, alive
    functions = (_with_inputs(op.functions[0], [True], cond_inputs), _with_inputs(op.functions[1], alive, inputs))
    mask = cond_inputs[:first] + inputs[:second] + alive
    params = {"consts": [sum(cond_inputs[:first]), sum(inputs[:second])]}
    kept = [i for i in range(carry) if alive[i]]
    return op._replace(
        operands=tuple(_only(op.operands, mask)),
        types=tuple(_only(op.types, alive)),
        params=params,
        functions=functions,
    ), kept


def _prune_cond(op: Op, wanted):
    masks = [prune(branch, wanted)[1] for branch in op.functions]
    inputs = [any(column) for column in zip(*masks, strict=True)]
    functions = tuple(_with_inputs(branch, wanted, inputs) for branch in op.functions)
    kept = [i for i, w in enumerate(wanted) if w]
    operands = (op.operands[0], *_only(op.operands[1:], inputs))
    return op._replace(operands=operands, types=tuple(_only(op.types, wanted)), functions=functions), kept


PRUNE = {"scan": _prune_scan, "while": _prune_while, "cond": _prune_cond}


def _with_inputs(function: Function, live: list[bool], inputs: list[bool]) -> Function:
    """`function` pruned to the `live` outputs, keeping exactly the inputs of the mask (a superset of those needed)."""
    pruned, _ = prune(function, live, keep_inputs=True)
    number = {old: new for new, old in enumerate(i for i, keep in enumerate(inputs) if keep)}
    shift = len(inputs) - len(number)
    rename = lambda x: x if x < 0 else number[x] if x < len(inputs) else x - shift  # noqa: E731
    ops = [op._replace(operands=tuple(map(rename, op.operands)), first=rename(op.first)) for op in pruned.ops]
    return Function(_only(pruned.inputs, inputs), ops, [rename(x) for x in pruned.outputs])
