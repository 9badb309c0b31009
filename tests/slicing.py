"""Those statements of a notebook that chosen cells need: an explorable's function, without the trainings that it does not use.

By names, and generously: a statement is kept if it binds, fills or calls a method of a name that a kept statement uses, and every
import is, for what it does besides. What only shows something is left out.
"""

import ast
import symtable


def needed(cells: list, chosen: set) -> list:
    """The statements, as (number of their cell, code object's source node), that the chosen cells need, in their order.

    cells: source of each code cell, plain Python. chosen: numbers of cells that are kept whole.
    """
    statements = [(number, node) for number, cell in enumerate(cells) if number <= max(chosen) for node in ast.parse(cell).body]
    makes, uses = zip(*(_makes_and_uses(node) for _, node in statements))
    kept = {k for k, (number, node) in enumerate(statements) if number in chosen or isinstance(node, (ast.Import, ast.ImportFrom))}
    wanted = set().union(*(uses[k] for k in kept))
    while more := {k for k in range(len(statements)) if k not in kept and makes[k] & wanted}:
        kept |= more
        wanted |= set().union(*(uses[k] for k in more))
    return [statements[k] for k in sorted(kept)]


def _makes_and_uses(node):
    """Names that the statement binds or changes, and names that it reads, functions' bodies included."""
    top = symtable.symtable(ast.unparse(node), "cell", "exec")
    makes = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    makes |= {_root(part.value) for part in ast.walk(node) if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store)}
    makes |= {_root(part.value.func) for part in ast.walk(node) if isinstance(part, ast.Expr) and _is_method_call(part.value)}
    uses = {symbol.get_name() for table in _scopes(top) for symbol in table.get_symbols() if symbol.is_referenced() and (table is top or symbol.is_global())}
    return makes - {None}, uses | (makes - {None})


def _scopes(table):
    return [table] + [scope for child in table.get_children() for scope in _scopes(child)]


def _is_method_call(value):
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)


def _root(node):
    """The name at the root of a.b[0].c; None for what starts otherwise."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
