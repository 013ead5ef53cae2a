"""Tables and figures of a record."""


def print_report(record):
    pass


def print_one_table(labels, found):
    pass
