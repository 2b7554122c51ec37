"""The settings: one table, the parsers of their values, and the sources that the values are read from.

Start reading with `table`.
"""
