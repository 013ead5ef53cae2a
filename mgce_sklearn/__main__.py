"""The command line: ``python -m mgce_sklearn``, also called ``mgce``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier, __version__
from mgce_sklearn.commands import UserMistake
from mgce_sklearn.demo import figure, report, sample, study
from mgce_sklearn.report import command
from mgce_sklearn.report.table import NO_NUMBERS

FIGURE = Path("mgce_demo.png")
PREDICTIONS = Path("predictions.csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration, report on a table, or predict the rows of one.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments of the command line; None: those of the process.

    Returns
    -------
    int
        Exit status: 0; 1 if the reader of the output ends first, as in ``| head``; 2 after a
        mistake that one sentence on stderr explains; or 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    try:
        _check_together(arguments)
        _run(arguments, argv)
        sys.stdout.flush()
    except UserMistake as mistake:
        print(f"mgce_sklearn: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mgce_sklearn: interrupted, and nothing written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python would try once more, at its end, to write what it still has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgce" if Path(sys.argv[0]).name == "mgce" else "python -m mgce_sklearn",
        description="Report on a table of your own: held-out accuracy, calibration, error bounds, "
        "coefficients and doubtful labels; predict the rows of a new table; or, without "
        "arguments, demonstrate the package on scikit-learn's embedded data.",
        epilog="The table is text in UTF-8. Cells are separated by commas, semicolons, tabs or |; "
        "beside semicolons, commas may mark decimals. An empty cell is missing. In a "
        f"column of numbers so are {', '.join(NO_NUMBERS[:-1])} and {NO_NUMBERS[-1]}, "
        "in lower or upper case. In a column of text these are ordinary words, and in the target "
        "column they name a class.",
    )
    parser.add_argument("table", nargs="?", type=Path, help="CSV file with a header line")
    parser.add_argument("target", nargs="?", help="name of the column to predict, a class")
    parser.add_argument(
        "--report", type=Path, metavar="PAGE.html", help="where to write the report as one page"
    )
    parser.add_argument(
        "--save", type=Path, metavar="MODEL.skops", help="where to save the model of the report"
    )
    parser.add_argument("--predict", type=Path, metavar="NEW.csv", help="table to predict")
    parser.add_argument("--model", type=Path, metavar="MODEL.skops", help="saved model")
    parser.add_argument(
        "--out", type=Path, help=f"where to write predictions (default: {PREDICTIONS})"
    )
    parser.add_argument(
        "--figure",
        type=Path,
        help=f"where to write the figure of the demonstration (default: {FIGURE})",
    )
    parser.add_argument("--version", action="version", version=f"mgce_sklearn {__version__}")
    return parser


# Which arguments go together: those of a report, of a prediction and of the demonstration.
COMMANDS = (("table", "target", "report", "save"), ("predict", "model", "out"), ("figure",))

NEEDED = {
    "report": "table",
    "save": "table",
    "predict": "model",
    "model": "predict",
    "out": "predict",
}


def _check_together(arguments: argparse.Namespace) -> None:
    """Raise `UserMistake` for arguments of several commands, or for a part of those needed."""
    given = [name for name, value in vars(arguments).items() if value is not None]
    used = [names for names in COMMANDS if set(names) & set(given)]
    if len(used) > 1:
        first, second = (next(name for name in given if name in names) for names in used[:2])
        raise UserMistake(
            f"{_shown(first)} and {_shown(second)} belong to different commands: a report takes "
            "TABLE TARGET [--report] [--save], a prediction --predict --model [--out], and the "
            "demonstration [--figure]"
        )
    for name in given:
        needed = NEEDED.get(name, name)
        if needed not in given:
            raise UserMistake(f"{_shown(name)} needs {_shown(needed)} beside it")


def _shown(name: str) -> str:
    return name.upper() if name in ("table", "target") else f"--{name}"


def _run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    if arguments.predict is not None:
        command.predict(arguments.model, arguments.predict, arguments.out or PREDICTIONS)
    elif arguments.table is not None:
        command.report(
            command.Task(arguments.table, arguments.target, arguments.report, arguments.save, argv)
        )
    else:
        _demonstrate(FIGURE if arguments.figure is None else arguments.figure)


def _demonstrate(figure_path: Path) -> None:
    figure.check_path(figure_path)
    # One thread for everybody: the times compare, and small fits gain nothing from more.
    with threadpool_limits(limits=1), study.warnings_as_notes():
        plain = [sample.breast_cancer(), sample.digits()]
        bounded, searched = plain[0], plain[1].with_wrong_labels(0.2)
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
        along_lam = study.path_over_lam(bounded)

        drawing = figure.DemoFigure()
        drawing.draw_search(search, searched.title)
        drawing.draw_reliability(compared[0], compared[-1], searched.title)
        drawing.draw_bounds(bounded, along_lam, bounded.title)
        drawing.save(figure_path)
        print(f"\nfigure: {figure_path}")


def _compare(on: sample.Sample) -> list[study.Choice]:
    """Assess logistic regression at its best, and ours as it comes."""
    return [
        study.logistic_regression(on),
        study.assess("default", MGCEClassifier(), on),
    ]


if __name__ == "__main__":
    sys.exit(main())
