"""Annotators' votes as labels, beside their majority: LabelMe's images of eight scenes.

    MGCE_DATA_DIR=DIR python benchmarks/crowd.py            # some minutes
    MGCE_DATA_DIR=DIR python benchmarks/crowd.py --quick    # under a minute

1,000 images with 2.5 answers each, a quarter of them wrong; 64 principal components of image
features, alone and with hidden units ("relu"). `MGCEClassifier` is fitted to the majority and to
the shares of votes for q × lam, the pair chosen by accuracy on the 500 validation rows, and judged
on 1,188 test rows; logistic regression alike over C. Accuracy, Brier score and expected calibration
error of the rule, mean and deviation over seeds, which draw ties and hidden units.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import votes
from mgce_sklearn.metrics import expected_calibration_error

Array = np.ndarray[Any, Any]

N_CLASSES, N_COMPONENTS = 8, 64
QS, LAMS = (0.0, 0.5, 1.0), (0.1, 0.3, 1.0, 3.0)
CS = (0.003, 0.03, 0.3, 3.0)


def measured(model: Any, X: Array, y: Array) -> list[float]:
    """Return accuracy, Brier score and expected calibration error."""
    proba = model.predict_proba(X)
    brier = ((proba - np.eye(N_CLASSES)[y]) ** 2).sum(axis=1).mean()
    return [model.score(X, y), brier, expected_calibration_error(y, proba)]


def chosen(models: list[Any], validation: tuple[Array, Array]) -> Any:
    """Return the model of best accuracy on the validation rows, of equal ones the last."""
    scores = [model.score(*validation) for model in models]
    return models[len(scores) - 1 - int(np.argmax(scores[::-1]))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, no hidden units")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if "MGCE_DATA_DIR" not in os.environ:
        parser.exit(2, "labelme is in no public loader: set MGCE_DATA_DIR.\n")
    arrays = np.load(Path(os.environ["MGCE_DATA_DIR"], "labelme_crowd.npz"))
    reduced = make_pipeline(StandardScaler(), PCA(N_COMPONENTS, random_state=0))
    X = reduced.fit_transform(arrays["X_train"])
    parts = {name: reduced.transform(arrays[f"X_{name}"]) for name in ("valid", "test")}
    validation, test = ((parts[name], arrays[f"y_{name}"]) for name in ("valid", "test"))
    shares = votes(arrays["answers"], missing=-1)
    maps = (None,) if options.quick else (None, "relu")
    found: dict[str, list[list[float]]] = {}
    for seed in range(1 if options.quick else options.seeds):
        ties = np.random.default_rng(seed).random(shares.shape)
        majority = (shares + 1e-6 * ties).argmax(axis=1)
        models = [LogisticRegression(C=c, max_iter=2000).fit(X, majority) for c in CS]
        best = chosen(models, validation)
        found.setdefault("LogisticRegression, majority", []).append(measured(best, *test))
        for feature_map in maps:
            for labels, y in (("majority", majority), ("votes", shares)):
                settings = [(q, lam) for q in QS for lam in LAMS]
                models = [
                    MGCEClassifier(q, lam, feature_map=feature_map, tol=1e-2, random_state=seed)
                    for q, lam in settings
                ]
                best = chosen([model.fit(X, y) for model in models], validation)
                name = f"MGCE, {feature_map or 'linear'}, {labels}"
                found.setdefault(name, []).append(measured(best, *test))
                print(f"seed {seed}, {name}: q = {best.q:g}, lam = {best.lam:g}", flush=True)
    print("| classifier, labels | accuracy | Brier | ECE |\n|---|---|---|---|")
    for name, rows in found.items():
        means, deviations = np.mean(rows, axis=0), np.std(rows, axis=0)
        cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(means, deviations, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        main()
