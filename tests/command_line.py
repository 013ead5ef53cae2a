"""What a command says after a mistake."""


def check_one_sentence(capsys, expected: str) -> str:
    """Check what stderr says, and return what was printed before it."""
    printed = capsys.readouterr()
    assert printed.err.startswith("mgce_sklearn: ")
    assert printed.err.count("\n") == 1
    assert expected in printed.err
    return printed.out
