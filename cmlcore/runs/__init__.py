"""The book's full experiments: `python -m cmlcore.runs` lists and runs them; the book reads their receipts."""
