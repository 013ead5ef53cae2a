"""The demonstration: ``python -m mgce_sklearn [table.csv target_column]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier, __version__
from mgce_sklearn.demo import UserMistake, figure, report, sample, study, table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments of the command line; None: those of the process.

    Returns
    -------
    int
        Exit status: 0; 1 if nobody reads any further, as in ``| head``; or 2 after a mistake that
        one sentence on stderr explains.
    """
    arguments = _parser().parse_args(argv)
    try:
        figure.check_path(arguments.figure)
        # One thread for everybody: the times compare, and small fits gain nothing from more.
        with threadpool_limits(limits=1), study.warnings_as_notes():
            _run(arguments)
        sys.stdout.flush()
    except UserMistake as mistake:
        print(f"mgce_sklearn: {mistake}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Python would try once more, at its end, to write what it still has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mgce_sklearn",
        description="Fit, certify, compare and search, on scikit-learn's embedded data or on a "
        "table of your own.",
        epilog="The table is text in UTF-8. Cells are separated by commas, semicolons, tabs or |; "
        "beside semicolons, commas may mark decimals. An empty cell is missing. In a "
        f"column of numbers so are {', '.join(table.NO_NUMBERS[:-1])} and {table.NO_NUMBERS[-1]}, "
        "in small letters or large. In a column of text these are words like others, and in the "
        "target column they name a class.",
    )
    parser.add_argument("table", nargs="?", type=Path, help="CSV file with a header line")
    parser.add_argument("target", nargs="?", help="name of the column to predict, a class")
    parser.add_argument(
        "--figure",
        type=Path,
        default=Path("mgce_demo.png"),
        help="where to write the figure (default: %(default)s)",
    )
    parser.add_argument("--version", action="version", version=f"mgce_sklearn {__version__}")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.table is None:
        plain = [sample.breast_cancer(), sample.digits()]
        bounded, searched = plain[0], plain[1].with_wrong_labels(0.2)
    else:
        plain = []
        bounded = searched = table.sample_from_csv(arguments.table, arguments.target)
    report.print_preamble(study.warm_up())
    for first_look in plain:
        report.print_sample(first_look)
        compared = _compare(first_look)
        report.print_comparison(compared, study.error_bounds(compared[-1], first_look))

    report.print_sample(searched)
    search = study.search_q_and_lam(searched)
    report.print_search(search)
    compared = [
        *_compare(searched),
        study.assess("searched", MGCEClassifier(q=search.q, lam=search.lam), searched),
    ]
    report.print_comparison(compared, study.error_bounds(compared[-1], searched))
    rows, along_lam = study.path_over_lam(bounded)

    drawing = figure.DemoFigure()
    drawing.draw_search(search, searched.title)
    drawing.draw_reliability(compared[0], compared[-1], searched.title)
    drawing.draw_bounds(rows, along_lam, bounded.title)
    drawing.save(arguments.figure)
    print(f"\nfigure: {arguments.figure}")


def _compare(on: sample.Sample) -> list[study.Assessment]:
    """Assess logistic regression at its best, and ours as it comes."""
    return [
        study.logistic_regression(on),
        study.assess("default", MGCEClassifier(), on),
    ]


if __name__ == "__main__":
    sys.exit(main())
