"""The demonstration behind ``python -m mgce_sklearn``.

`sample` splits rows, `study` fits, searches and measures, `report` says it in words, `figure`
draws it.
"""
