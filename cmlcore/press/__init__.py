"""What a class needs, made from the book's notebooks: editions for students and teachers, an autograder; of this book.

exercises  the exercises of a chapter, found by the tags of their cells
plain      MyST into the Markdown that Colab and JupyterLab show
editions   python -m cmlcore.press.editions: notebooks for students and for teachers, in _build/class
examine    runs a student's notebook cell by cell, within limits
grade      python -m cmlcore.press.grade student.ipynb: marks as a table and as a page
"""
