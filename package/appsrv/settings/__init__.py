"""The settings: one table, the parsers of their values, the places they are read from.

Start with `table`.
"""
