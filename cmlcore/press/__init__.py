"""The book's own tools: notebooks kept executed, the site, and what a class needs, editions for students and teachers and an autograder; of this book.

notebooks  python -m cmlcore.press.notebooks: executes the notebooks that are out of date
book       python -m cmlcore.press.book: the site, in _build/html
reference  the reference of the public names, from their docstrings
exercises  the exercises of a chapter, found by the tags of their cells
plain      MyST into the Markdown that Colab and JupyterLab show
editions   python -m cmlcore.press.editions: notebooks for students and for teachers, in _build/class
nbgrader   the exercises in the form of nbgrader: python -m cmlcore.press.nbgrader
lesson     a chapter's plan for 50 minutes, and its misconceptions, read from its part for teachers
deck       the cells of a chapter that make slides
slides     python -m cmlcore.press.slides: reveal.js, in _build/slides
printed    python -m cmlcore.press.printed: the book as one PDF
teaching   what the page for teachers takes from the chapters
examine    runs a student's notebook cell by cell, within limits
grade      python -m cmlcore.press.grade student.ipynb: marks as a table and as a page
"""

from cmlcore.extras import need

for tool in ("nbformat", "yaml"):
    need(tool, "book")
