"""A small book of one chapter, `tiny`: two exercises with a check, one for discussion. Answers to it are made up."""

import nbformat

FIRST = 'my_sum = None\n\nif my_sum is None:\n    print("Not answered yet.")\nelse:\n    print("right" if my_sum == three else "not yet: count again")'
SECOND = (
    'def my_double(x):\n    return None\n\n\nif my_double(1) is None:\n    print("Not answered yet.")\nelse:\n'
    '    print("one:", "right" if my_double(1) == 2 else "not yet")\n    print("two:", "right" if my_double(2) == 4 else "not yet")'
)


def chapter():
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    tag = lambda name: {"tags": [name]}
    return nbformat.v4.new_notebook(
        cells=[
            code("three = 3", metadata=tag("remove-input")),
            text("## Exercises\n\n### Warm-up: a sum (5 minutes)\n\nWhat is 1 + 2?"),
            code(FIRST, metadata=tag("exercise")),
            text(":::{dropdown} Hint\nCount.\n:::", metadata=tag("hint")),
            text(":::{dropdown} Solution\nSecret.\n\n```python\nmy_sum = 3\n```\n:::", metadata=tag("solution")),
            text("### Core: twice (10 minutes)"),
            code(SECOND, metadata=tag("exercise")),
            text(":::{dropdown} Solution\n```python\ndef my_double(x):\n    return 2 * x\n```\n:::", metadata=tag("solution")),
            text("### Stretch: why (20 minutes)\n\nSay why."),
            text(":::{dropdown} For teachers\nSecret plan.\n:::", metadata=tag("teacher")),
        ]
    )


DOUBLE = "def my_double(x):\n    return None"
