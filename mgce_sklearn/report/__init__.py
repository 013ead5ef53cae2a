"""The report behind ``python -m mgce_sklearn table.csv target``.

`table` reads a user's file, `columns` makes numbers of it, `measure` fits and measures, `words` and
`figures` say it, `page` puts it together, `saved` keeps models, `command` runs it all.
"""
