"""The demonstration behind ``python -m mgce_sklearn``.

`table` reads a user's file, `sample` splits rows, `study` fits, searches and measures,
`report` says it in words, `figure` draws it.
"""


class UserMistake(Exception):
    """Something only the user can put right; the message is one sentence that says how."""
