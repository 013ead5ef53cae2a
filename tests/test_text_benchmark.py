"""The script about sparse text: its rows, and what it measures of a model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

# A script, no package: its folder stays on the path no longer than its imports last.
BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import text  # noqa: E402

sys.path.remove(BENCHMARKS)

N_GROUPS, N_WORDS = 3, 250


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Write messages of three groups, each with words of its own, where the script reads them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_GROUPS, 400).astype(np.uint8)
    words = rng.poisson(0.02, (400, N_WORDS)) + 3 * (rng.integers(0, 40, (400, N_WORDS)) == 0) * (
        np.arange(N_WORDS) % N_GROUPS == y[:, np.newaxis]
    )
    words[0, 7], words[:300, 9], words[300:, 9] = 5, 0, 1  # a word of test rows alone
    X = sp.csr_matrix(words)
    arrays = {
        "data": X.data.astype(np.uint16),
        "indices": X.indices.astype(np.uint32),
        "indptr": X.indptr,
        "shape": np.array(X.shape),
        "y": y,
        "is_test": (np.arange(400) >= 300).astype(np.uint8),
    }
    np.savez(tmp_path / "news20_counts.npz", **arrays)
    monkeypatch.setenv("MGCE_DATA_DIR", str(tmp_path))
    return words


def test_weights_of_words_are_those_of_the_training_rows(counts):
    rows = text.tfidf(quick=False)
    train = counts[:300]
    idf = np.log(301.0 / (1.0 + (train > 0).sum(axis=0))) + 1.0
    expected = np.where(train > 0, 1.0 + np.log(np.maximum(train, 1)), 0.0) * idf
    expected /= np.linalg.norm(expected, axis=1, keepdims=True).clip(min=1e-300)
    np.testing.assert_allclose(rows.X.toarray(), expected)
    assert rows.X_test.shape == (100, N_WORDS) and len(rows.y_test) == 100
    assert set(text.tfidf(quick=True).y) == {0, 1}


@pytest.mark.parametrize("name", ["LogisticRegression(C=1)", "the recipe", "equal widths"])
def test_what_is_measured_of_a_model(counts, name):
    found = text.fit_once(name, quick=False, limit=5.0)
    assert found["accuracy"] > 0.6
    assert 0.0 < found["Brier"] < 2.0 / 3.0
    assert found["seconds"] > 0.0 and found["X"] > 0.0
    if name != "LogisticRegression(C=1)":
        assert 0.0 < found["gap"] < 1.0 and 0.0 < found["risk"] < 2.0
    else:
        assert np.isnan(found["gap"])
