"""Store a model of the present version, which later versions must load.

Run it once for each release: it writes ``VERSION.skops`` and what the model predicts beside it.
"""

import json
from pathlib import Path

import skops.io
from sklearn.datasets import load_iris

import mgce_sklearn

if __name__ == "__main__":
    X, y = load_iris(return_X_y=True)
    model = mgce_sklearn.MGCEClassifier().fit(X, y)
    path = Path(__file__).parent / f"{mgce_sklearn.__version__}.skops"
    skops.io.dump(model, path)
    bounds = model.error_bounds(X)
    expected = {
        "proba": model.predict_proba(X[::10]).tolist(),
        "bounds": [bounds.lower, bounds.upper],
        "certificate": list(model.certificate(X, y)),
    }
    path.with_suffix(".json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
    print(path)
