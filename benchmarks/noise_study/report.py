"""Tables and figures of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import studentized_range

from noise_study.methods import METHODS, ONLY
from noise_study.record import Record, Row, best, chosen, largest_q

RECIPE = "MGCE stacking"
MAIN = [name for name in METHODS if name not in ONLY and not name.startswith("|")]
OURS = [name for name in MAIN if name.startswith("MGCE")]
RIVALS = [
    "LR linear", "LR relu", "LR stacked", "forward LR, estimated", "LinearSVC", "RandomForest",
    "ExtraTrees", "HistGradientBoosting", "LightGBM", "cleanlab LR", "cleanlab LightGBM",
]  # fmt: skip
NUMBERS = [
    "accuracy", "brier", "ece", "worst_recall", "brier_t", "ece_t", "brier_n", "ece_n", "seconds",
]  # fmt: skip
HEADS = {
    "accuracy": "accuracy", "brier": "Brier", "ece": "ECE", "worst_recall": "worst recall",
    "brier_t": "Brier, T", "ece_t": "ECE, T", "brier_n": "Brier, T knows", "ece_n": "ECE, T knows",
    "seconds": "fit, s",
}  # fmt: skip


def choices(record: Record, rule: Callable[[list[Row]], Row] = chosen) -> pd.DataFrame:
    """Return the chosen setting of each method in each cell, a line each."""
    frame = pd.DataFrame([vars(rule(rows)) for rows in record.rows.values()])
    frame["noisy"] = np.where(frame["labels"] == "clean", "clean", "noisy")
    return frame


def complete(frame: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """Return the lines of some methods in the cells where all of them are on record."""
    wanted = list(methods)
    frame = frame[frame["method"].isin(wanted)]
    counts = frame.groupby(["seed", "data", "labels"])["method"].transform("nunique")
    return frame[counts == len(wanted)]


def by_set(frame: pd.DataFrame, number: str) -> pd.DataFrame:
    """Return means over seeds and kinds of labels, a line a set and a column a method."""
    return frame.pivot_table(number, "data", "method")


def over_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds, kinds of labels and sets, a line a method."""
    each = frame.groupby(["method", "data"])[NUMBERS].mean()
    return each.groupby("method").mean()


def ranks(frame: pd.DataFrame, number: str) -> tuple[pd.Series, float, int]:
    """Return mean ranks over sets, Nemenyi's critical difference at 5%, and the number of sets."""
    values = by_set(frame, number)
    found = values.rank(axis=1, ascending=number != "accuracy").mean().sort_values()
    n, k = values.shape
    quantile = studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2.0)
    return found, float(quantile * np.sqrt(k * (k + 1) / (6.0 * n))), n


def print_lines(head: list[str], lines: Iterable[list[Any]]) -> None:
    """Print a table in Markdown; numbers have three digits behind the point."""
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for line in lines:
        cells = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in line]
        print(f"| {' | '.join(cells)} |")


def print_means(frame: pd.DataFrame, title: str) -> None:
    """Print the means of all measures, best Brier score first."""
    means = over_sets(frame).sort_values("brier")
    n_cells = len(frame.groupby(["seed", "data", "labels"]))
    print(f"\n{title}: means over sets; {n_cells} cells")
    lines = ([name, *map(float, row)] for name, row in means.iterrows())
    print_lines(["method", *(HEADS[number] for number in NUMBERS)], lines)


def print_main(frame: pd.DataFrame) -> None:
    """Print clean and noisy labels side by side, best Brier score on noisy ones first."""
    means = {kind: over_sets(part) for kind, part in frame.groupby("noisy")}
    cells = frame.groupby("noisy").apply(
        lambda part: len(part.groupby(["seed", "data", "labels"])), include_groups=False
    )
    print(
        f"\nMeans over sets; {cells['clean']} cells of clean labels, {cells['noisy']} of wrong ones"
    )
    print("Accuracy / Brier / ECE; T: Brier / ECE after a temperature, and after one that knows")

    def joined(row: pd.Series, names: tuple[str, ...]) -> str:
        return " / ".join(f"{row[name]:.3f}" for name in names)

    lines = [
        [
            name,
            joined(means["clean"].loc[name], ("accuracy", "brier", "ece")),
            joined(row, ("accuracy", "brier", "ece")),
            row["worst_recall"],
            joined(row, ("brier_t", "ece_t")),
            joined(row, ("brier_n", "ece_n")),
            f"{row['seconds']:.1f}",
        ]
        for name, row in means["noisy"].sort_values("brier").iterrows()
    ]
    heads = ["method", "clean", "noisy", "worst recall", "noisy, T", "noisy, T knows", "fit, s"]
    print_lines(heads, lines)


def print_ranks(frame: pd.DataFrame) -> None:
    """Print mean ranks, clean and noisy, by accuracy and by Brier score."""
    columns = {
        f"{number}, {kind}": ranks(part, number)
        for number in ("accuracy", "brier")
        for kind, part in frame.groupby("noisy")
    }
    print("\nMean ranks; critical differences at 5%:")
    print(", ".join(f"{name} {cd:.1f} ({n} sets)" for name, (_, cd, n) in columns.items()))
    table = pd.DataFrame({name: found for name, (found, _, _) in columns.items()})
    table = table.sort_values("brier, noisy")
    lines = ([name, *(f"{rank:.1f}" for rank in row)] for name, row in table.iterrows())
    print_lines(["method", *table], lines)


def print_who_beats(frame: pd.DataFrame, recipe: str = RECIPE) -> None:
    """Print for each set and kind what the best rival has, and the recipe."""
    print(f"\nThe best rival of each set beside {recipe}: accuracy and Brier score")
    lines = []
    for (data, kind), part in frame.groupby(["data", "noisy"]):
        means = part.groupby("method")[["accuracy", "brier"]].mean()
        rivals, ours = means[means.index.isin(RIVALS)], means.loc[recipe]
        top, low = rivals["accuracy"].idxmax(), rivals["brier"].idxmin()
        lines.append([
            data, kind, ours["accuracy"], f"{rivals['accuracy'].max():.3f} {top}",
            ours["brier"], f"{rivals['brier'].min():.3f} {low}",
        ])  # fmt: skip
    print_lines(["set", "labels", "accuracy", "best rival", "Brier", "best rival"], lines)


def print_price(frame: pd.DataFrame) -> None:
    """Print what is paid on clean labels, and what is gained on wrong ones."""
    means = frame.groupby(["noisy", "method", "data"])[["accuracy", "brier"]].mean()
    means = means.groupby(["noisy", "method"]).mean()
    print("\nAgainst the rival of best mean accuracy (A) and of best mean Brier score (B)")
    lines = []
    for kind in ("clean", "noisy"):
        rivals = means.loc[kind].loc[lambda table: table.index.isin(RIVALS)]
        top, low = rivals["accuracy"].idxmax(), rivals["brier"].idxmin()
        for name in means.loc[kind].index.intersection(OURS, sort=False):
            row = means.loc[kind, name]
            lines.append([
                kind, name, f"{row['accuracy'] - rivals['accuracy'].max():+.3f}", top,
                f"{row['brier'] - rivals['brier'].min():+.3f}", low,
            ])  # fmt: skip
    print_lines(["labels", "method", "accuracy - A", "A", "Brier - B", "B"], lines)


def print_kinds(frame: pd.DataFrame) -> None:
    """Print accuracy and Brier score for each kind of labels."""
    means = frame.groupby(["labels", "method", "data"])[["accuracy", "brier", "ece"]].mean()
    means = means.groupby(["labels", "method"]).mean()
    kinds = list(means.index.levels[0])
    names = means.loc[kinds[0]].sort_values("brier").index
    lines = (
        [name, *(" / ".join(f"{x:.3f}" for x in means.loc[kind, name]) for kind in kinds)]
        for name in names
    )
    print("\nAccuracy / Brier / ECE, means over sets")
    print_lines(["method", *kinds], lines)


def print_settings(record: Record) -> None:
    """Print each of our settings by itself, for all cells."""
    for family, others in {
        "MGCE linear": "| linear, other q",
        "MGCE relu": "| relu, other q",
        "MGCE stacking": "| stacking, other",
        "MGCE forest": "| forest, other",
        "MGCE LightGBM": "| LightGBM, other",
        "MGCE boosting": "| boosting, other q",
        "MGCE extra trees": None,
    }.items():
        rows = [
            vars(row) for key, rows in record.rows.items() if key.method in (family, others)
            for row in rows
        ]  # fmt: skip
        if not rows:
            continue
        frame = pd.DataFrame(rows)
        frame["noisy"] = np.where(frame["labels"] == "clean", "clean", "noisy")
        means = frame.groupby(["setting", "noisy", "data"])[["accuracy", "brier", "ece"]].mean()
        counts = frame.groupby("setting").size()
        means = means.groupby(["setting", "noisy"]).mean().unstack("noisy")
        print(f"\n{family}, setting by setting: accuracy / Brier / ECE, and cells")
        numbers = ("accuracy", "brier", "ece")
        lines = (
            [
                name,
                *(
                    " / ".join(f"{row[number, kind]:.3f}" for number in numbers)
                    for kind in ("clean", "noisy")
                ),
                counts[name],
            ]
            for name, row in means.iterrows()
        )
        print_lines(["setting", "clean", "noisy", "cells"], lines)


def print_rules(record: Record) -> None:
    """Print what other rules of choice would bring."""
    rules: dict[str, Callable[[list[Row]], Row]] = {
        "best accuracy": best,
        "largest q": largest_q,
        "best Brier": lambda rows: min(rows, key=lambda row: row.valid_brier),
        "oracle: test accuracy": lambda rows: max(rows, key=lambda row: row.accuracy),
        "oracle: test Brier": lambda rows: min(rows, key=lambda row: row.brier),
    }
    print("\nRules of choice on the noisy validation rows: accuracy / Brier / ECE")
    found = {name: choices(record, rule) for name, rule in rules.items()}
    lines = []
    for method in on_record(record, MAIN):
        for name, frame in found.items():
            part = frame[frame["method"] == method]
            cells = [method, name]
            for kind in ("clean", "noisy"):
                means = over_sets(part[part["noisy"] == kind]).iloc[0]
                cells.append(" / ".join(f"{means[n]:.3f}" for n in ("accuracy", "brier", "ece")))
            lines.append(cells)
    print_lines(["method", "rule", "clean", "noisy"], lines)


GRIDS = {
    "q = 1, scale = 1, lam = 1": ((1.0,), (1.0,), (1.0,)),
    "q = .75, scale = 1, lam = 1": ((0.75,), (1.0,), (1.0,)),
    "q = .5, scale = 1, lam = 1": ((0.5,), (1.0,), (1.0,)),
    "q = 1, scale = 1, lam in 1, 3": ((1.0,), (1.0,), (1.0, 3.0)),
    "q = 1, scale = 1, lam in .3, 1, 3, 10": ((1.0,), (1.0,), (0.3, 1.0, 3.0, 10.0)),
    "q = 1, scale in .5, 1, 2, lam in 1, 3": ((1.0,), (0.5, 1.0, 2.0), (1.0, 3.0)),
    "q = .75, scale in .5, 1, 2, lam in 1, 3": ((0.75,), (0.5, 1.0, 2.0), (1.0, 3.0)),
    "q in .5, 1, scale = 1, lam in 1, 3": ((0.5, 1.0), (1.0,), (1.0, 3.0)),
    "q in 0, .5, .75, 1, scale = 1, lam in 1, 3": ((0.0, 0.5, 0.75, 1.0), (1.0,), (1.0, 3.0)),
}


def print_grids(record: Record) -> None:
    """Print what smaller grids of `MGCE stacking` bring, by both rules."""
    names = ("MGCE stacking", "q = 0 stacking", "| stacking, other")
    cells: dict[tuple[int, str, str], list[Row]] = {}
    for key, rows in record.rows.items():
        if key.method in names:
            cells.setdefault(key[:3], []).extend(rows)
    lines = []
    for title, values in GRIDS.items():
        for name, rule in {"best accuracy": best, "largest q": largest_q}.items():
            found = []
            for rows in cells.values():
                inside = [row for row in rows if _inside(row, values)]
                if inside:
                    found.append(vars(rule(inside)))
            frame = pd.DataFrame(found)
            cuts = [frame[frame["labels"] == "clean"], frame[frame["labels"] != "clean"]]
            means = [over_sets(part.assign(method=title)).iloc[0] for part in cuts]
            texts = [
                " / ".join(f"{row[n]:.3f}" for n in ("accuracy", "brier", "ece")) for row in means
            ]
            lines.append([title, name, *texts])
    print("\nGrids of MGCE stacking: accuracy / Brier / ECE")
    print_lines(["grid", "rule", "clean", "noisy"], lines)


def _inside(row: Row, values: tuple[tuple[float, ...], ...]) -> bool:
    """Tell whether a setting is of a grid over q, scale and lam."""
    return all(
        row.value(name) in allowed
        for name, allowed in zip(("q", "scale", "lam"), values, strict=True)
    )


def print_bounds(frame: pd.DataFrame) -> None:
    """Print how often the clean error is within the bounds of the chosen setting."""
    frame = frame.dropna(subset=["upper"])
    error = 1.0 - frame["accuracy"]
    inside = (frame["lower"] <= error) & (error <= frame["upper"])
    frame = frame.assign(inside=inside, error=error, below=error < frame["lower"])
    print(
        "\nBounds at the chosen setting, of the error on labels as they come, and the clean error"
    )
    lines = [
        [method, kind, f"{part['inside'].sum()} of {len(part)}", int(part["below"].sum()),
         part["error"].median(), part["lower"].median(), part["upper"].median()]
        for (method, kind), part in frame.groupby(["method", "noisy"])
    ]  # fmt: skip
    print_lines(["method", "labels", "inside", "below", "error", "lower", "upper"], lines)


def print_networks(frame: pd.DataFrame) -> None:
    """Print networks beside what else was run on their sets."""
    names = [*MAIN, "MLP CE", "MLP GCE", "MLP MGCE"]
    part = complete(frame, names)
    for kind, rows in part.groupby("noisy"):
        print_means(rows, f"Networks and the rest on six sets, {kind} labels")


def print_crowd(frame: pd.DataFrame) -> None:
    """Print LabelMe."""
    crowd = frame[(frame["labels"] == "crowd") & ~frame["method"].str.startswith("|")]
    if len(crowd):
        print_means(crowd, "LabelMe's crowd")


def print_report(record: Record) -> None:
    """Print all tables, of the cells where all methods on record are."""
    if not record.rows:
        print("Nothing is on record.")
        return
    frame = choices(record)
    main = complete(frame, on_record(record, MAIN))
    if main["noisy"].nunique() < 2:
        print("No cells of clean and of wrong labels have all methods yet.")
        return
    for show in (print_main, print_kinds, print_ranks, print_price, print_who_beats, print_bounds):
        show(main)
    print_networks(frame)
    print_crowd(frame)
    print_rules(record)
    if on_record(record, ["q = 0 stacking"]):
        print_grids(record)
    print_settings(record)


def on_record(record: Record, methods: list[str]) -> list[str]:
    """Return those of some methods that are on record."""
    known = {key.method for key in record.rows}
    return [name for name in methods if name in known]


def print_one_table(labels: str, found: dict[str, list[Row]]) -> None:
    """Print the methods on one table, best Brier score first."""
    rows = sorted((chosen(each) for each in found.values()), key=lambda row: row.brier)
    print(f"\nLabels: {labels}")
    print_lines(
        ["method", "setting", "accuracy", "Brier", "ECE", "fit, s"],
        ([row.method, row.setting, row.accuracy, row.brier, row.ece, row.seconds] for row in rows),
    )


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the figures; return their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    frame = complete(choices(record), on_record(record, MAIN))
    return [_draw_ranks(frame, folder), _draw_dots(frame, folder), _draw_price(frame, folder)]


def _color(name: str) -> str:
    return "C3" if name.startswith("MGCE") else "C7" if name.startswith("q = 0") else "C0"


def _draw_ranks(frame: pd.DataFrame, folder: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    for line, number in zip(axes, ("accuracy", "brier"), strict=True):
        for ax, (kind, part) in zip(line, frame.groupby("noisy"), strict=True):
            found, cd, n = ranks(part, number)
            names = list(found.index)[::-1]
            ax.hlines(names, found[names], found[names] + cd, colors=[_color(x) for x in names],
                      alpha=0.35, linewidth=4)  # fmt: skip
            ax.scatter(found[names], names, c=[_color(x) for x in names], zorder=3)
            ax.axvline(found.iloc[0] + cd, color="0.6", linestyle=":")
            ax.set_title(f"{HEADS[number]}, {kind} labels: mean rank over {n} sets")
            ax.tick_params(labelsize=8)
    figure.supxlabel("mean rank, 1 is best; bars and dotted line: critical difference at 5%")
    return _saved(figure, folder / "noise_ranks.png")


def _draw_dots(frame: pd.DataFrame, folder: Path) -> Path:
    import matplotlib.pyplot as plt

    shown = [RECIPE, "MGCE linear", "LR linear", "RandomForest", "LightGBM", "cleanlab LightGBM"]
    marks = dict(zip(shown, "osD^vX", strict=True))
    figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained", sharey=True)
    for line, number in zip(axes, ("accuracy", "brier"), strict=True):
        for ax, (kind, part) in zip(line, frame.groupby("noisy"), strict=True):
            values = by_set(part, number).sort_index(ascending=False)
            ax.hlines(values.index, values[shown].min(axis=1), values[shown].max(axis=1),
                      color="0.85")  # fmt: skip
            for name, mark in marks.items():
                ax.scatter(values[name], values.index, marker=mark, label=name, s=28, alpha=0.85)
            ax.set_title(f"{HEADS[number]}, {kind} labels")
    axes[0, 0].legend(fontsize=8)
    return _saved(figure, folder / "noise_sets.png")


def _draw_price(frame: pd.DataFrame, folder: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, number in zip(axes, ("accuracy", "brier"), strict=True):
        means = frame.groupby(["noisy", "method", "data"])[number].mean()
        means = means.groupby(["noisy", "method"]).mean().unstack("noisy")
        means = means.sort_values("noisy", ascending=number == "accuracy")
        colors = [_color(name) for name in means.index]
        ax.hlines(means.index, means["clean"], means["noisy"], colors=colors, alpha=0.35)
        ax.scatter(means["clean"], means.index, facecolors="none", edgecolors=colors)
        ax.scatter(means["noisy"], means.index, c=colors)
        ax.set_xlabel(f"{HEADS[number]}: circles clean labels, dots wrong ones")
        ax.tick_params(labelsize=8)
    return _saved(figure, folder / "noise_price.png")


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    return path
