"""Feature maps of the linear model: transformers, functions and networks."""

import threading

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.kernel_approximation import RBFSampler
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.feature_maps import ROWS_AT_A_TIME, apply_feature_map

X, Y = load_iris(return_X_y=True)


def test_transformer_is_cloned_fitted_and_the_same_as_a_pipeline():
    scaler = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False))
    model = MGCEClassifier(feature_map=scaler).fit(X, Y)
    pipeline = make_pipeline(clone(scaler), MGCEClassifier()).fit(X, Y)
    np.testing.assert_allclose(model.coef_, pipeline[-1].coef_)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X))
    assert model.n_features_in_ == 4
    assert model.coef_.shape == (3, 14)
    assert model.error_bounds(X).upper == pytest.approx(pipeline[-1].error_bounds(
        pipeline[:-1].transform(X)).upper)  # fmt: skip
    with pytest.raises(NotFittedError):
        scaler[0].transform(X)


def test_parameters_of_a_transformer_can_be_searched():
    search = GridSearchCV(
        MGCEClassifier(feature_map=RBFSampler(random_state=0, n_components=20)),
        {"feature_map__gamma": [0.01, 1.0], "q": [0.3, 0.7]},
        cv=2,
    ).fit(X, Y)
    assert search.best_score_ > 0.8


def test_text_is_as_good_as_numbers():
    words = ["red apple", "green pear", "red cherry", "green grape"] * 5
    model = MGCEClassifier(feature_map=CountVectorizer()).fit(words, [0, 1, 0, 1] * 5)
    assert model.predict(["red pear red", "green apple green"]).tolist() == [0, 1]


def test_function_is_applied_in_batches():
    sizes = []

    def squares(rows):
        sizes.append(len(rows))
        return np.hstack([rows, rows**2])

    many = np.tile(X, (40, 1))
    model = MGCEClassifier(feature_map=squares).fit(many, np.tile(Y, 40))
    expected = MGCEClassifier().fit(np.hstack([many, many**2]), np.tile(Y, 40))
    assert sizes == [ROWS_AT_A_TIME, len(many) - ROWS_AT_A_TIME]
    np.testing.assert_allclose(model.coef_, expected.coef_)


@pytest.mark.parametrize(
    ("feature_map", "error", "words"),
    [
        (StandardScaler, ValueError, "an instance, not a class"),
        (3, ValueError, "feature_map must be 'relu', 'fourier', 'threshold', a transformer"),
        (lambda rows: rows[:1], ValueError, "must return a row for each row of X, 150; got 1"),
        (lambda rows: rows * np.nan, ValueError, "features from feature_map contains NaN"),
        (lambda rows: rows[:, 0], ValueError, "Expected 2D array"),
        (lambda rows: rows.astype(str).astype(object) + "a", ValueError, "could not convert"),
    ],
)
def test_bad_maps(feature_map, error, words):
    model = MGCEClassifier(feature_map=feature_map)
    with pytest.raises(error, match=words):
        model.fit(X, Y)
    assert not hasattr(model, "feature_map_")


def test_transformer_and_portions_do_not_go_together():
    with pytest.raises(ValueError, match="feature_map must be None or a function"):
        MGCEClassifier(feature_map=StandardScaler()).partial_fit(X, Y, classes=[0, 1, 2])
    scaler = StandardScaler().fit(X)
    model = MGCEClassifier(feature_map=scaler.transform)
    assert model.partial_fit(X, Y, classes=[0, 1, 2]).score(X, Y) > 0.6


def test_network_is_applied_where_it_is_without_dropout_or_gradient():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    images = images[:500].reshape(-1, 1, 8, 8) / 16.0
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.BatchNorm2d(3),
        torch.nn.Dropout(0.5),
    ).double()
    model = MGCEClassifier(feature_map=network).fit(images, digits[:500])
    assert network.training
    assert not network.eval()[2].running_mean.any()  # no statistics were taken
    with torch.no_grad():
        features = network(torch.tensor(images)).flatten(1)
    expected = MGCEClassifier().fit(features, digits[:500])
    np.testing.assert_allclose(model.coef_, expected.coef_)
    assert isinstance(model.predict_proba(images), torch.Tensor)
    assert model.score(images, digits[:500]) > 0.8
    single = MGCEClassifier(feature_map=network.float()).fit(images[:100], digits[:100])
    assert single.coef_.dtype == np.float32


def test_function_keeps_no_graph_of_a_network_inside_it():
    torch = pytest.importorskip("torch")
    network, recorded = torch.nn.Linear(4, 3).double(), []

    def features(rows):
        out = network(torch.tensor(rows))
        recorded.append(out.requires_grad)
        return out

    apply_feature_map(features, X)
    assert recorded == [False]


def test_networks_that_return_no_features():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="feature_map must return a tensor; got tuple"):
        MGCEClassifier(feature_map=torch.nn.LSTM(4, 3)).fit(X, Y)
    with pytest.raises(ValueError, match=r"must have two dimensions.*got shape \(150,\)"):
        MGCEClassifier(feature_map=torch.nn.Flatten(0)).fit(X[:, :1], Y)


def test_network_without_parameters_and_embedding_of_integers():
    torch = pytest.importorskip("torch")
    rows = torch.tensor(X)
    assert torch.equal(apply_feature_map(torch.nn.Identity(), rows), rows)
    embedding = torch.nn.Embedding(5, 3)
    assert apply_feature_map(embedding, np.array([[1, 2], [0, 4]])).shape == (2, 6)


def test_a_network_in_two_threads_has_no_dropout():
    torch = pytest.importorskip("torch")
    inside, begun, ended = (threading.Event() for _ in range(3))

    class Waits(torch.nn.Module):
        """The first rows wait for the others to begin, and these for the first to end."""

        def forward(self, rows):
            if rows[0, 0] == 1.0:
                inside.set()
                begun.wait(0.3)
            else:
                begun.set()
                ended.wait(5.0)
            return rows

    network = torch.nn.Sequential(Waits(), torch.nn.Dropout(0.9)).train()

    def first():
        apply_feature_map(network, np.ones((100, 2)))
        ended.set()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5.0)
    np.testing.assert_array_equal(apply_feature_map(network, np.full((100, 2), 2.0)), 2.0)
    thread.join()
    assert network.training
