"""MGCENetClassifier: what it learns, promises and refuses."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

torch = pytest.importorskip("torch")
pytest.importorskip("skorch")

from skorch.callbacks import (  # noqa: E402
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    ProgressBar,
)
from skorch.dataset import Dataset, ValidSplit  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Subset  # noqa: E402

from mgce_sklearn import kernels, validation  # noqa: E402
from mgce_sklearn.label_noise import symmetric_noise, symmetric_transition  # noqa: E402
from mgce_sklearn.torch import (  # noqa: E402
    FocalLoss,
    GCELoss,
    GenerativeCrossEntropyLoss,
    MGCELoss,
    MGCENetClassifier,
)
from mgce_sklearn.torch.batches import TensorBatches, batches  # noqa: E402

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
SPECIES = np.array(["setosa", "versicolor", "virginica"])
NAMES = SPECIES[Y]
X2, Y2 = X[50:], NAMES[50:]


def network(n_features, n_classes, hidden=16, dropout=0.0):
    return nn.Sequential(
        nn.Linear(n_features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_classes),
    )


def linear(n_features, n_classes):
    return nn.Linear(n_features, n_classes)


def double(n_features, n_classes):
    return network(n_features, n_classes).double()


def make(module=network, **options):
    options = {"lr": 1e-2, "batch_size": 16, "max_epochs": 5, "random_state": 0} | options
    return MGCENetClassifier(module, **options)


def weights(net):
    return np.concatenate([p.detach().numpy().ravel() for p in net.module_.parameters()])


def same(a, b, rtol=0.0, atol=0.0):
    np.testing.assert_allclose(weights(a), weights(b), rtol=rtol, atol=atol)


# scikit-learn


EXPECTED_TO_FAIL = {
    "check_no_attributes_set_in_init": "skorch's constructor sets history_ and initialized_",
    "check_do_not_raise_errors_in_init_or_set_params": "skorch's set_params builds callbacks",
}


# In double precision and with all rows in a batch weights equal repetitions.
@pytest.mark.filterwarnings("ignore:.*set_params:UserWarning")  # skorch's, of wrong types
@parametrize_with_checks(
    [make(double, lr=0.05, batch_size=-1, max_epochs=20)],
    expected_failed_checks=lambda estimator: EXPECTED_TO_FAIL,
)
def test_follows_scikit_learn(estimator, check):
    check(estimator)


def test_predictions_agree_with_each_other():
    for features, labels in ((X, NAMES), (X2, Y2)):
        net = make().fit(features, labels)
        margins, proba = net.decision_function(features), net.predict_proba(features)
        assert (net.predict(features) == net.classes_[proba.argmax(axis=1)]).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
        np.testing.assert_allclose(net.margins_to_proba(margins), proba, atol=1e-6)
        np.testing.assert_allclose(np.exp(net.predict_log_proba(features)), proba, atol=1e-6)
        with torch.no_grad():
            full = net.module_(torch.tensor(features, dtype=torch.float32)).numpy()
        np.testing.assert_allclose(kernels.rule(full, net.q), proba, atol=1e-6)
        worst = net.predict_worst_case_proba(features)
        np.testing.assert_allclose(kernels.worst_case(full, net.q), worst, atol=1e-5)
        if len(net.classes_) == 2:
            np.testing.assert_allclose(margins, full[:, 1] - full[:, 0], atol=1e-6)
        else:
            np.testing.assert_array_equal(margins, full)


@pytest.mark.parametrize(
    "labels",
    [NAMES, NAMES.astype(object), Y * 7 - 3, Y.astype(float), torch.tensor(Y), list(NAMES)],
    ids=["strings", "objects", "gaps", "floats", "tensor", "list"],
)
def test_labels_of_any_type(labels):
    net = make().fit(X, labels)
    known = np.asarray(labels)
    np.testing.assert_array_equal(net.classes_, np.unique(known))
    assert np.mean(net.predict(X) == known) > 0.8
    same(net, make().fit(X, Y))


def test_booleans():
    net = make().fit(X2, Y2 == "virginica")
    assert net.predict(X2).dtype == bool
    assert net.score(X2, Y2 == "virginica") > 0.8


def test_features_of_any_container():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    reference = make().fit(X, Y)
    single = torch.tensor(X, dtype=torch.float32)
    for features in (X.astype(np.float32), single, torch.tensor(X), frame, X.tolist()):
        net = make().fit(features, Y)
        same(net, reference, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(net.predict(features), reference.predict(X))
    assert list(make().fit(frame, Y).feature_names_in_) == list("abcd")


def test_module_in_double_precision():
    net = make(double).fit(X.astype(np.float32), Y)
    assert net.predict_proba(X).dtype == np.float64


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 3)

    def forward(self, X):
        return self.table(X[:, 0])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.last(torch.cat([left, right], dim=1))


def test_integers_mappings_and_data_sets():
    codes = torch.tensor(Y)[:, None]
    assert make(Embedded, lr=0.1, max_epochs=20).fit(codes, Y).score(codes, Y) == 1.0

    parts = {"left": X[:, :1], "right": X[:, 1:]}
    net = make(TwoInputs, lr=0.1).fit(parts, NAMES, sample_weight=np.arange(150.0))
    assert net.score(parts, NAMES) > 0.8

    single = X.astype(np.float32)
    for rows in (Dataset(single, NAMES), Subset(Dataset(single, NAMES), np.arange(150))):
        same(make(module__n_features=4).fit(rows), make().fit(X, NAMES))
    tensors = torch.utils.data.TensorDataset(torch.tensor(single), torch.tensor(Y))
    assert make(module__n_features=4, max_epochs=10).fit(tensors, Y).score(X, Y) > 0.8


def test_lazy_layers_and_instances():
    module = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3))
    net = make(module).fit(X, Y)
    assert net.score(X, Y) > 0.7
    assert not isinstance(net.module_[0], nn.LazyLinear)
    assert isinstance(module[0], nn.LazyLinear)  # a copy was trained

    module = network(4, 3)
    before = deepcopy(module.state_dict())
    first, second = make(module).fit(X, Y), make(module).fit(X, Y)
    same(first, second)
    same(first.fit(X, Y), second)
    assert all((module.state_dict()[name] == value).all() for name, value in before.items())


def test_pickling():
    net = make(validation_fraction=0.2).fit(X, NAMES)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert again.minimax_risk_ == net.minimax_risk_
    same(again.partial_fit(X, NAMES), net.partial_fit(X, NAMES))


def test_trimmed_for_prediction():
    net = make().fit(X, NAMES)
    proba, worst = net.predict_proba(X), net.predict_worst_case_proba(X)
    net.trim_for_prediction()
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    np.testing.assert_array_equal(again.predict_worst_case_proba(X), worst)


MODULES = {  # and what a net must be told of them before a fit
    "asks for both sizes": (network, {"module__n_features": 4}),
    "asks for one": (lambda n_classes: network(4, n_classes), {}),
    "asks for none": (lambda: network(4, 3), {}),
    "is an instance": (network(4, 3), {}),
    "is lazy": (nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3)), {}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", MODULES)
def test_parameters_are_loaded_into_a_net_that_was_never_fitted(tmp_path, kind):
    module, told = MODULES[kind]
    saved = make(module).fit(X, NAMES)
    saved.save_params(f_params=tmp_path / "params.pt")
    net = make(module, classes=list(SPECIES), random_state=1, **told).initialize()
    net.load_params(f_params=tmp_path / "params.pt")
    np.testing.assert_array_equal(net.classes_, saved.classes_)
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    for features in (X, frame, torch.tensor(X)):
        np.testing.assert_array_equal(net.predict(features), saved.predict(X))
        for method in ("predict_proba", "decision_function", "predict_worst_case_proba"):
            np.testing.assert_array_equal(getattr(net, method)(features), getattr(saved, method)(X))
    margins = saved.decision_function(X)
    np.testing.assert_array_equal(net.margins_to_proba(margins), saved.margins_to_proba(margins))


def test_all_parts_are_loaded_and_learning_goes_on(tmp_path):
    parts = {
        f"f_{name}": tmp_path / name for name in ("params", "optimizer", "criterion", "history")
    }
    options = {"class_weight": dict(zip(SPECIES, (1.0, 3.0, 0.5), strict=True))}
    saved = full_batch(**options).fit(X, NAMES)
    saved.save_params(**parts)

    def loaded(**more):
        net = full_batch(classes=SPECIES, module__n_features=4, **options, **more).initialize()
        net.load_params(**parts)
        return net

    net = loaded()
    assert net.criterion_.weight.tolist() == [1.0, 3.0, 0.5]
    assert net.history[:, "train_loss"] == saved.history[:, "train_loss"]
    warm = loaded(warm_start=True, max_epochs=1).fit(X, NAMES)
    net.partial_fit(X, NAMES)
    saved.partial_fit(X, NAMES)
    same(net, saved)
    same(warm, saved)
    assert net.n_features_in_ == 4


def test_a_checkpoint_is_loaded_into_a_net_that_was_never_fitted(tmp_path):
    checkpoint = Checkpoint(dirname=tmp_path, monitor=None)
    saved = make(callbacks=[checkpoint]).fit(X, NAMES)
    net = make(classes=SPECIES, module__n_features=4)
    net.load_params(checkpoint=checkpoint)
    np.testing.assert_array_equal(net.predict(X), saved.predict(X))


def test_a_net_without_classes_has_probabilities_and_no_labels():
    net = make(module__n_features=4, module__n_classes=3).initialize()
    assert net.predict_proba(X).shape == net.decision_function(X).shape == (150, 3)
    for method in ("predict", "margins_to_proba"):
        with pytest.raises(NotFittedError, match="has no class labels"):
            getattr(net, method)(X)
    before = weights(net)
    with pytest.raises(ValueError, match="classes must be given at the first call"):
        net.partial_fit(X, NAMES)
    np.testing.assert_array_equal(weights(net), before)
    same(net.partial_fit(X, NAMES, classes=SPECIES), make(max_epochs=1).fit(X, NAMES))


def test_classes_may_have_no_rows():
    classes = ["rose", *SPECIES]
    for net in (make(classes=classes).fit(X, NAMES), make(classes=classes).partial_fit(X, NAMES)):
        assert list(net.classes_) == classes
        assert net.predict_proba(X).shape == (150, 4)
    assert set(make(classes=SPECIES).fit(X[:50], NAMES[:50]).predict(X)) == {"setosa"}
    assert not hasattr(make(classes=classes), "classes_")
    same(make(classes=SPECIES).fit(X, NAMES), make().fit(X, NAMES))


def test_search_in_a_pipeline():
    model = make_pipeline(StandardScaler(), make())
    name = "mgcenetclassifier__"
    grid = {name + "q": [0.0, 0.7], name + "lam": [0.0, 10.0], name + "module__hidden": [4, 16]}
    search = GridSearchCV(model, grid, cv=3).fit(X, NAMES)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2, 2)  # lam, hidden, q
    assert scores[0].max() > 0.8
    assert (scores[1] < 0.5).all()  # all weights are zero at such a penalty


def test_weights_are_routed():
    with config_context(enable_metadata_routing=True):
        net = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(net, {"q": [0.2]}, cv=2)
        search.fit(X, NAMES, sample_weight=np.where(NAMES == "setosa", 1.0, 0.0) + (Y == 1))
    assert set(search.predict(X)) == {"setosa", "versicolor"}


# Losses and weights


@pytest.mark.parametrize("q", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "criterion",
    [MGCELoss, GCELoss, GenerativeCrossEntropyLoss, FocalLoss],
    ids=lambda c: c.__name__,
)
def test_every_loss(criterion, q):
    net = make(criterion=criterion, q=q, max_epochs=10).fit(X, NAMES)
    assert net.score(X, NAMES) > 0.8
    assert getattr(net.criterion_, "q", q) == q
    margins = torch.tensor(net.decision_function(X))
    np.testing.assert_allclose(net.predict_proba(X), net.criterion_.proba(margins), atol=1e-6)
    assert hasattr(net, "minimax_risk_") == (criterion is MGCELoss)
    assert hasattr(net, "predict_worst_case_proba") == (criterion is MGCELoss)


def test_worst_case_belongs_to_mgce():
    with pytest.raises(AttributeError, match="predict_worst_case_proba") as error:
        _ = make(criterion=FocalLoss).predict_worst_case_proba
    sentence = "Only MGCELoss has a worst-case distribution; got criterion=FocalLoss"
    assert sentence in str(error.value.__cause__)


def full_batch(module=double, **options):
    return make(module, batch_size=-1, iterator_train__shuffle=False, **options)


def test_a_weight_of_two_is_the_row_twice_and_zero_is_none():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, len(Y))
    weighted = full_batch().fit(X, NAMES, sample_weight=counts)
    repeated = full_batch().fit(np.repeat(X, counts, axis=0), np.repeat(NAMES, counts))
    same(weighted, repeated, rtol=1e-9, atol=1e-12)
    assert weighted.minimax_risk_ == pytest.approx(repeated.minimax_risk_, rel=1e-9)


def normalized(n_features, n_classes):
    return nn.Sequential(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_classes)).double()


def test_a_row_of_weight_zero_is_not_seen_by_normalization():
    counted = np.arange(len(Y)) % 3 > 0
    weighted = full_batch(normalized).fit(X, NAMES, sample_weight=counted)
    same(weighted, full_batch(normalized).fit(X[counted], NAMES[counted]), rtol=1e-9, atol=1e-12)


def test_class_weights_are_sample_weights():
    factors = {"setosa": 1.0, "versicolor": 3.0, "virginica": 0.5}
    by_class = full_batch(class_weight=factors).fit(X, NAMES)
    by_row = full_batch().fit(X, NAMES, sample_weight=[factors[name] for name in NAMES])
    same(by_class, by_row, rtol=1e-9, atol=1e-12)
    assert by_class.minimax_risk_ == pytest.approx(by_row.minimax_risk_, rel=1e-9)
    by_hand = full_batch(criterion__weight=torch.tensor([1.0, 3.0, 0.5])).fit(X, NAMES)
    same(by_class, by_hand, rtol=1e-9, atol=1e-12)

    some = slice(30, None)
    balanced = full_batch(class_weight="balanced").fit(X[some], NAMES[some])
    np.testing.assert_allclose(balanced.class_weight_, 120 / (3 * np.array([20, 50, 50])))


# Distributions as labels, and known noise


def shares(seed=0):
    """Distributions near the labels, some with zeros."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(3, 0.2 / 3 + 0.8 * np.eye(3)[Y])
    return drawn / drawn.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("criterion", [MGCELoss, GCELoss])
def test_certain_distributions_are_labels(criterion):
    options = {"criterion": criterion, "validation_fraction": 0.2, "class_weight": {1: 2.0}}
    row_weight = np.random.default_rng(0).integers(0, 3, 150)
    by_label = make(double, **options).fit(X, Y, sample_weight=row_weight)
    for certain in (np.eye(3)[Y], np.eye(3, dtype=int)[Y], torch.eye(3)[Y], np.eye(3)[Y].tolist()):
        net = make(double, **options).fit(X, certain, sample_weight=row_weight)
        same(net, by_label, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(net.classes_, [0, 1, 2])
        assert net.history[:, "valid_acc"] == by_label.history[:, "valid_acc"]
        np.testing.assert_allclose(net.history[:, "valid_loss"], by_label.history[:, "valid_loss"])
        assert net.score(X, certain) == pytest.approx(net.score(X, Y))
    if criterion is MGCELoss:
        assert net.minimax_risk_ == pytest.approx(by_label.minimax_risk_, rel=1e-9)


@pytest.mark.parametrize(
    ("class_weight", "factors"),
    [(None, [1.0] * 3), ("balanced", None), ({0: 1.0, 1: 3.0, 2: 0.5}, [1.0, 3.0, 0.5])],
)
def test_a_distribution_is_a_copy_of_its_row_for_every_class(class_weight, factors):
    proba, row_weight = shares(), np.random.default_rng(1).integers(0, 3, 150)
    options = {"class_weight": class_weight, "lam": 0.01}
    net = full_batch(**options).fit(X, proba, sample_weight=row_weight)
    balanced = row_weight.sum() / (3 * (row_weight @ proba))
    factors = balanced if class_weight == "balanced" else np.array(factors)
    np.testing.assert_allclose(net.class_weight_, factors)
    copies = full_batch(lam=0.01).fit(
        np.repeat(X, 3, axis=0),
        np.tile(np.arange(3), 150),
        sample_weight=(row_weight[:, np.newaxis] * proba * factors).ravel(),
    )
    same(net, copies, rtol=1e-9, atol=1e-12)
    assert net.minimax_risk_ == pytest.approx(copies.minimax_risk_, rel=1e-9)
    whole = full_batch(**options).fit(X, proba)  # without weights, too
    counted = full_batch(**options).fit(X, proba, sample_weight=np.ones(150))
    same(whole, counted, rtol=1e-9, atol=1e-12)
    assert whole.minimax_risk_ == pytest.approx(counted.minimax_risk_, rel=1e-9)


def test_the_score_of_distributions_is_expected_accuracy():
    proba, row_weight = shares(), np.arange(150.0)
    net = make().fit(X, proba)
    own = [row[k] for row, k in zip(proba, net.predict(X), strict=True)]
    assert net.score(X, proba) == pytest.approx(np.mean(own))
    assert net.score(X, proba, row_weight) == pytest.approx(np.average(own, weights=row_weight))
    folds = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(make(max_epochs=20), {"q": [0.2, 0.7]}, cv=folds).fit(X, proba)
    assert 0.7 < search.best_score_ < proba.max(axis=1).mean()


def test_rows_held_out_are_stratified_by_the_most_probable_class():
    likely = np.repeat(np.arange(3), [100, 40, 10])
    proba = 0.6 * np.eye(3)[likely] + 0.4 * np.random.default_rng(0).dirichlet(np.ones(3), 150)
    callback = Held()
    net = make(validation_fraction=0.2, callbacks=[callback]).fit(X, proba)
    held = callback.rows_
    np.testing.assert_array_equal(np.bincount(likely[held]), [20, 8, 2])
    own = proba[held, net.predict(X[held])]
    assert net.history[-1, "valid_acc"] == pytest.approx(own.mean())


class Held(Callback):
    """Rows held out."""

    def on_epoch_end(self, net, dataset_valid=None, **kwargs):
        self.rows_ = dataset_valid.indices


def test_columns_of_a_frame_are_classes():
    pandas = pytest.importorskip("pandas")
    proba = shares()
    frame = pandas.DataFrame(proba, columns=SPECIES)
    reference = make().fit(X, proba)
    for columns in (SPECIES, SPECIES[[2, 0, 1]]):
        net = make().fit(X, frame[columns])
        same(net, reference)
        np.testing.assert_array_equal(net.classes_, SPECIES)
        assert net.score(X, frame[columns]) == net.score(X, proba) == reference.score(X, proba)
    known = make(classes=[*SPECIES, "zinnia"]).fit(X, frame)
    assert known.predict_proba(X).shape == (150, 4)
    np.testing.assert_array_equal(make(classes=SPECIES).fit(X, proba).classes_, SPECIES)

    parts, whole = make(), make()
    for rows in (slice(0, 50), slice(50, 150)):  # of the first, two classes
        few = frame[rows].drop(columns="virginica") if rows.start == 0 else frame[rows]
        few = few.div(few.sum(axis=1), axis=0)
        parts.partial_fit(X[rows], few[few.columns[::-1]], classes=SPECIES)
        whole.partial_fit(X[rows], few.reindex(columns=SPECIES, fill_value=0.0).to_numpy(),
                          classes=SPECIES)  # fmt: skip
    same(parts, whole)


def test_data_sets_may_yield_distributions():
    proba, single = shares(), torch.tensor(X, dtype=torch.float32)
    options = {"module__n_features": 4, "iterator_train__shuffle": False}
    reference = make(**options).fit(X, proba)
    for kind in (Dataset, torch.utils.data.TensorDataset):
        net = make(**options).fit(kind(single, torch.tensor(proba)), proba)
        same(net, reference, rtol=1e-5, atol=1e-6)


def test_a_typed_distribution_sums_to_1():
    typed = [[1 / 3 + 5e-7, 2 / 3], [0.25, 0.75]]
    found = validation.check_distributions("Y", typed, 2)
    np.testing.assert_allclose(found, typed, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-15)
    with pytest.raises(ValueError, match=r"a row for each row of X.*got shape \(2, 2\) for 3 rows"):
        validation.check_distributions("Y", typed, 3)


def test_a_column_is_labels():
    with pytest.warns(DataConversionWarning):
        net = make().fit(X, NAMES[:, np.newaxis])
    same(net, make().fit(X, NAMES))


TRANSITION = np.array([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]])


@pytest.mark.parametrize(
    "criterion",
    [MGCELoss, GCELoss, GenerativeCrossEntropyLoss, FocalLoss],
    ids=lambda c: c.__name__,
)
def test_all_noisy_labels_by_their_probability_are_the_clean_ones(criterion):
    """Every row has each label, by the weight that the noise gives it."""
    clean = full_batch(criterion=criterion).fit(X, NAMES)
    noisy = full_batch(criterion=criterion, noise_matrix=TRANSITION).fit(
        np.repeat(X, 3, axis=0), np.tile(SPECIES, 150), sample_weight=TRANSITION[Y].ravel()
    )
    same(noisy, clean, rtol=1e-7, atol=1e-9)
    assert not hasattr(noisy, "minimax_risk_")


def test_a_rate_is_a_matrix_and_scores_are_of_labels_as_they_come():
    noisy = symmetric_noise(NAMES, 0.3, random_state=0)
    options = {"max_epochs": 20, "lr": 0.02, "lam": 1e-3, "validation_fraction": 0.2}
    net = make(noise_matrix=0.3, **options).fit(X, noisy)
    same(net, make(noise_matrix=symmetric_transition(3, 0.3), **options).fit(X, noisy))
    assert net.score(X, noisy) == np.mean(net.predict(X) == noisy)
    assert net.score(X, NAMES) > 0.85
    again = pickle.loads(pickle.dumps(net))
    same(again.partial_fit(X, noisy), net.partial_fit(X, noisy))
    later = make(noise_matrix=0.3, module__n_features=4, module__n_classes=3).initialize()
    later.partial_fit(X, noisy, classes=SPECIES)
    same(later, make(noise_matrix=0.3).partial_fit(X, noisy, classes=SPECIES))
    assert make(noise_matrix=0.3, classes=["rose", *SPECIES]).fit(X, noisy).score(X, NAMES) > 0.5


# Penalty and bound


def test_penalty_leaves_exact_zeros_where_it_is_put():
    net = make(lam=0.3, max_epochs=20).fit(X, Y)
    first, last = net.module_[0], net.module_[3]
    assert (first.weight == 0.0).sum() > 10 and (last.weight == 0.0).sum() > 10
    assert not (first.bias == 0.0).any()
    only_last = make(lam=0.3, penalized="3.*").fit(X, Y).module_
    assert not (only_last[0].weight == 0.0).any()
    assert (only_last[3].weight == 0.0).any() and (only_last[3].bias == 0.0).any()
    nothing = make().fit(X, Y).module_
    assert not any((p == 0.0).any() for p in nothing.parameters())


def test_no_penalty_where_scaled_gradients_were_too_large_for_a_step():
    class Scaler:
        def __init__(self, factor):
            self.scale, self.factor = 4.0, factor

        def get_scale(self):
            return self.scale

        def step(self, optimizer):
            pass

        def update(self):
            self.scale /= self.factor

    net = make(lam=0.3).fit(X, Y)
    before = deepcopy(net.module_[0].weight.detach())
    for factor, same in ((2.0, True), (1.0, False)):
        net.scaler_ = Scaler(factor)
        net._step_optimizer(lambda: None)
        assert torch.equal(net.module_[0].weight, before) is same


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_momentum_ends_where_the_objective_has_its_minimum(dampening):
    """Where a weight is not 0 the gradient is -lam sign, and elsewhere at most lam."""
    lam = 0.03
    net = MGCENetClassifier(
        linear, 0.5, lam, lr=0.1 / (1.0 - dampening), max_epochs=800, batch_size=-1,
        optimizer=torch.optim.SGD, optimizer__momentum=0.9, optimizer__dampening=dampening,
        random_state=0,
    ).fit(X, Y)  # fmt: skip
    weight = net.module_.weight
    weight.grad = None
    MGCELoss(0.5)(net.module_(torch.tensor(X).float()), torch.tensor(Y)).backward()
    assert 0 < (weight == 0.0).sum() < weight.numel()
    used = weight != 0.0
    torch.testing.assert_close(weight.grad[used], -lam * weight[used].sign(), rtol=0, atol=2e-3)
    assert weight.grad.abs().max() <= lam + 2e-3  # it converges slowly


def test_one_step_is_the_proximal_step():
    """θ ← S(θ - lr ∇, lr lam), with the learning rate of the parameter's group."""
    options = {
        "optimizer": torch.optim.SGD,
        "optimizer__param_groups": [("*0.weight", {"lr": 0.5})],
        "lr": 0.1,
        "max_epochs": 1,
    }
    net = full_batch(lam=0.2, **options)
    start = full_batch(**options)
    start.n_features_in_, start.classes_ = 4, np.arange(3)
    module = start.initialize().module_
    margins = module(torch.tensor(X))
    MGCELoss(0.7)(margins, torch.tensor(Y)).backward()
    net.fit(X, Y)
    for name, parameter in module.named_parameters():
        lr = 0.5 if name == "0.weight" else 0.1
        stepped = (parameter - lr * parameter.grad).detach().numpy()
        threshold = lr * 0.2 if "weight" in name else 0.0
        expected = np.sign(stepped) * np.maximum(np.abs(stepped) - threshold, 0.0)
        found = dict(net.module_.named_parameters())[name].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def objective(net, features, labels, q, lam):
    """The objective by the kernels, and the expected loss of the drawn rule."""
    with torch.no_grad():
        margins = net.module_(torch.tensor(features, dtype=torch.float32)).double().numpy()
        norm = sum(float(p.abs().sum()) for n, p in net.module_.named_parameters() if "weight" in n)
    own = margins[np.arange(len(labels)), labels]
    proba = kernels.rule(margins, q)[np.arange(len(labels)), labels]
    drawn = -np.log(proba) if q == 0.0 else (1.0 - proba**q) / q
    return np.mean(kernels.threshold(margins, q) - own) + lam * norm, drawn.mean()


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("validation_fraction", [None, 0.3])
def test_minimax_risk_is_the_objective_and_bounds_the_drawn_rule(q, validation_fraction):
    kept = []

    class Rows(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            kept.clear()

        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            kept.append(getattr(dataset_train, "indices", np.arange(len(Y))))

    net = make(
        lambda n_features, n_classes: network(n_features, n_classes, dropout=0.5),
        q=q,
        lam=0.01,
        validation_fraction=validation_fraction,
        callbacks=[Rows()],
    ).fit(X, Y)
    rows = kept[-1]
    assert len(rows) == (150 if validation_fraction is None else 105)
    expected, drawn = objective(net, X[rows], Y[rows], q, 0.01)
    assert net.minimax_risk_ == pytest.approx(expected, rel=1e-5)
    assert drawn <= net.minimax_risk_
    assert not hasattr(net.partial_fit(X, Y), "minimax_risk_")


def test_minimax_risk_of_every_epoch():
    options = {"lam": 0.01, "class_weight": "balanced", "module__dropout": 0.3}
    net = make(track_minimax_risk=True, **options).fit(X, NAMES, sample_weight=1.0 + Y)
    risks = net.history[:, "minimax_risk"]
    assert len(risks) == 5
    assert risks[-1] == net.minimax_risk_ < risks[0]
    same(net, make(**options).fit(X, NAMES, sample_weight=1.0 + Y))
    shorter = make(max_epochs=2, **options).fit(X, NAMES, sample_weight=1.0 + Y)
    assert risks[1] == shorter.minimax_risk_
    assert "minimax_risk" not in shorter.history[-1]
    stops = EarlyStopping("minimax_risk", patience=1, threshold=1.0)
    stopped = make(track_minimax_risk=True, callbacks=[stops], max_epochs=9).fit(X, shares())
    assert len(stopped.history) == 2


def test_frozen_parameters_are_neither_shrunk_nor_counted():
    def half_frozen(n_features, n_classes):
        module = network(n_features, n_classes)
        module[0].requires_grad_(False)
        before.append(module[0].weight.clone())
        return module

    before = []
    net = make(half_frozen, q=0.5, lam=0.01).fit(X, Y)
    frozen = net.module_[0].weight
    assert torch.equal(frozen, before[-1])
    everything, _ = objective(net, X, Y, 0.5, 0.01)
    expected = everything - 0.01 * float(frozen.abs().sum())
    assert net.minimax_risk_ == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("max_epochs", [10, 500])
def test_minimax_risk_bounds_every_distribution_of_its_set(max_epochs):
    """The greatest expected loss of the rule over the set is found by a linear program.

    It is over p(y | x) for the sample's x, whose means of onehot(y) ⊗ x are within lam of the
    sample's, and of onehot(y) equal to them. It attains the bound once training has converged.
    """
    q, lam, n, n_classes = 0.5, 0.05, len(Y), 3
    net = full_batch(
        linear, optimizer=torch.optim.SGD, lr=0.5, lam=lam, q=q, max_epochs=max_epochs
    ).fit(X, Y)
    loss = (1.0 - net.predict_proba(X) ** q) / q
    onehot = np.eye(n_classes)[Y].ravel()
    means = np.vstack([np.kron(column, np.eye(n_classes)) for column in X.T]) / n
    frequencies = np.kron(np.ones((1, n)), np.eye(n_classes)) / n
    one_each = np.kron(np.eye(n), np.ones((1, n_classes)))
    found = linprog(
        -loss.ravel() / n,
        A_ub=np.vstack([means, -means]),
        b_ub=np.concatenate([lam + means @ onehot, lam - means @ onehot]),
        A_eq=np.vstack([one_each, frequencies]),
        b_eq=np.concatenate([np.ones(n), frequencies @ onehot]),
    )
    worst = -found.fun
    assert loss.ravel() @ onehot / n < worst <= net.minimax_risk_ * (1.0 + 1e-6)
    assert (worst > 0.9999 * net.minimax_risk_) == (max_epochs == 500)


# Training


class Gradients(Callback):
    """Norms of the gradient that the optimizer gets."""

    def initialize(self):
        self.norms_ = []
        return self

    def on_grad_computed(self, net, named_parameters, **kwargs):
        norms = [p.grad.norm() for _, p in named_parameters]
        self.norms_.append(float(torch.stack(norms).norm()))


def test_clipping_acts():
    free, clipped = Gradients(), Gradients()
    loose = make(callbacks=[free]).fit(100.0 * X, Y)
    tight = make(callbacks=[clipped], gradient_clip=0.1).fit(100.0 * X, Y)
    assert max(free.norms_) > 1.0
    assert max(clipped.norms_) <= 0.1 * (1.0 + 1e-5)
    assert not np.allclose(weights(loose), weights(tight))
    # A step of plain descent is no longer than the learning rate times the norm.
    options = {"optimizer": torch.optim.SGD, "lr": 1.0, "gradient_clip": 0.1}
    net = full_batch(double, max_epochs=1, **options).fit(X, Y)
    before = weights(net)
    assert np.linalg.norm(weights(net.partial_fit(X, Y)) - before) <= 0.1 * (1.0 + 1e-5)


def test_seeds_reproduce_and_leave_the_global_generator_alone():
    options = {"module__dropout": 0.3, "validation_fraction": 0.2}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make(**options).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same(first, make(**options).fit(X, Y))
    assert first.history[:, "valid_loss"] == make(**options).fit(X, Y).history[:, "valid_loss"]
    other = make(random_state=1, **options).fit(X, Y)
    assert not np.allclose(weights(first), weights(other))

    torch.manual_seed(3)
    one = make(random_state=None).fit(X, Y)
    torch.manual_seed(3)
    same(one, make(random_state=None).fit(X, Y))
    assert not np.allclose(weights(one), weights(make(random_state=None).fit(X, Y)))


def test_partial_fit_goes_on_as_a_longer_fit_would():
    options = {"module__dropout": 0.3, "lam": 0.01}
    whole = make(max_epochs=3, **options).fit(X, NAMES)
    parts = make(**options)
    for _ in range(3):
        parts.partial_fit(X, NAMES, classes=np.unique(NAMES))
    same(whole, parts)
    longer = make(max_epochs=4, **options).fit(X, NAMES)
    same(whole.partial_fit(X, NAMES), longer)
    assert len(whole.history) == 4

    warm = make(max_epochs=2, warm_start=True, **options).fit(X, NAMES)
    same(warm.fit(X, NAMES), longer)
    warm.set_params(q=0.1).fit(X, NAMES)
    assert warm.criterion_.q == 0.1 and len(warm.history) == 6


def test_partial_fit_knows_classes_beforehand():
    net = make()
    for label in ("setosa", "virginica", "versicolor"):
        net.partial_fit(X[label == NAMES], NAMES[label == NAMES], classes=np.unique(NAMES))
    assert net.predict_proba(X).shape == (150, 3)
    before = weights(net)
    with pytest.raises(ValueError, match=r"y must hold labels among classes.*row 0 has 'rose'"):
        net.partial_fit(X[:2], ["rose", "setosa"])
    with pytest.raises(ValueError, match="classes must stay those of the first call"):
        net.partial_fit(X, NAMES, classes=["a", "b", "c"])
    np.testing.assert_array_equal(weights(net), before)
    with pytest.raises(ValueError, match="needs all labels at once"):
        make(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be given at the first call"):
        make().partial_fit(X, Y)


def test_callbacks_of_skorch(tmp_path, capsys):
    net = make(
        max_epochs=40,
        lr=0.1,
        validation_fraction=0.3,
        callbacks=[
            EpochScoring("neg_log_loss", name="log_loss", lower_is_better=False),
            EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False),
            EpochScoring("accuracy", name="uncached", use_caching=False, lower_is_better=False),
            ProgressBar(),
            LRScheduler(policy=torch.optim.lr_scheduler.ExponentialLR, gamma=0.5),
            EarlyStopping(patience=3, load_best=True),
            ("best", Checkpoint(dirname=tmp_path, load_best=True, f_pickle="net.pkl")),
        ],
        q=0.1,
    ).fit(X, NAMES)
    epochs = len(net.history)
    assert epochs < 40
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**epochs)
    assert net.history[-1, "valid_acc"] > 0.8  # labels are strings
    assert net.history[-1, "uncached"] == net.history[-1, "valid_acc"]
    assert net.history[-1, "train_acc"] > 0.8
    assert "it/s" in capsys.readouterr().err  # the progress bar

    for name, value in torch.load(tmp_path / "params.pt").items():
        assert torch.equal(net.module_.state_dict()[name], value)  # the best, not the last
    saved = pickle.loads((tmp_path / "net.pkl").read_bytes())
    np.testing.assert_array_equal(saved.predict(X), net.predict(X))
    assert not hasattr(saved, "learned_from_")  # no rows in the file


def test_rows_are_held_out_only_if_asked_for():
    seen = []

    class Sizes(Callback):
        def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
            seen.append((len(dataset_train), dataset_valid and len(dataset_valid)))

    make(max_epochs=1, callbacks=[Sizes()]).fit(X, NAMES)
    make(max_epochs=1, callbacks=[Sizes()], validation_fraction=0.2).fit(X, NAMES)
    make(max_epochs=1, callbacks=[Sizes()], train_split=ValidSplit(3)).fit(X, NAMES)
    assert seen == [(150, None), (120, 30), (100, 50)]


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision_on_a_cpu(amp):
    kinds = set()

    class Kinds(Callback):
        def on_batch_end(self, net, y_pred=None, **kwargs):
            kinds.add(y_pred.dtype)

    net = make(amp=amp, callbacks=[Kinds()], max_epochs=10, validation_fraction=0.2)
    net.fit(X, NAMES)
    assert kinds == {getattr(torch, amp)}
    assert net.score(X, NAMES) > 0.8
    assert net.decision_function(X).dtype == np.float32
    assert all(p.dtype == torch.float32 for p in net.module_.parameters())
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", [None, "float16"])
def test_on_a_gpu(amp):
    net = make(device="cuda", amp=amp, gradient_clip=1.0, lam=1e-3, max_epochs=10)
    before = torch.cuda.get_rng_state()
    net.fit(X, NAMES)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert net.score(X, NAMES) > 0.8
    again = clone(net).fit(torch.tensor(X, device="cuda"), NAMES)
    np.testing.assert_allclose(again.predict_proba(X), net.predict_proba(X), atol=1e-3)


def test_compiled():
    """Without generated code, which takes most of a minute: what there is to get wrong is ours."""
    net = make(compile=True, compile__backend="eager", lam=0.01, penalized="3.weight")
    net.fit(X, NAMES)
    assert net.module_._compiled_call_impl is not None
    same(net, make(lam=0.01, penalized="3.weight").fit(X, NAMES), rtol=1e-5, atol=1e-6)
    assert hasattr(net, "minimax_risk_")
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


# Batches


def test_batches_are_those_of_a_loader():
    rows = {"a": X, "b": torch.tensor(X)}
    for dataset in (Dataset(rows, Y), Subset(Subset(Dataset(rows, Y), range(100)), [5, 90, 3])):
        sliced = batches(dataset, batch_size=64)
        assert isinstance(sliced, TensorBatches)
        loader = DataLoader(dataset, batch_size=64)
        assert len(sliced) == len(loader)
        for (left, y_left), (right, y_right) in zip(sliced, loader, strict=True):
            np.testing.assert_array_equal(y_left, y_right)
            for name in rows:
                np.testing.assert_array_equal(left[name], right[name])


def test_shuffled_batches_hold_every_row_once_in_another_order():
    shuffled = batches(Dataset(X, np.arange(150)), batch_size=40, shuffle=True)
    first, second = (np.concatenate([y for _, y in shuffled]) for _ in range(2))
    assert (np.sort(first) == np.arange(150)).all() and (np.sort(second) == np.arange(150)).all()
    assert (first != second).any()


def test_a_loader_is_taken_where_slices_will_not_do():
    class Doubled(Dataset):
        def transform(self, X, y):
            return 2.0 * X, y

    assert isinstance(batches(Doubled(X, Y)), DataLoader)
    assert isinstance(batches(Dataset(X, Y), drop_last=True), DataLoader)
    net = make(iterator_train=DataLoader, iterator_valid=DataLoader).fit(X, NAMES)
    assert net.score(X, NAMES) > 0.8
    rows = np.random.default_rng(0).permutation(150)  # and no order by class
    unshuffled = {"iterator_train__shuffle": False}
    same(
        make(iterator_train=DataLoader, **unshuffled).fit(X[rows], NAMES[rows]),
        make(**unshuffled).fit(X[rows], NAMES[rows]),
    )


def test_rows_without_labels_keep_their_order():
    net = make().fit(X, NAMES)
    margins = net.forward(X, training=True).detach()  # no dropout here
    np.testing.assert_allclose(margins.numpy(), net.decision_function(X), atol=1e-6)


# What is refused


def bad(**options):
    return lambda: make(**options).fit(X, Y)


def with_value(value):
    changed = X.copy()
    changed[3, 1] = value
    return changed


def framed(columns):
    return pytest.importorskip("pandas").DataFrame(np.eye(2), columns=list(columns))


class OneOutput(nn.Linear):
    def __init__(self):
        super().__init__(4, 1)


class Unlabeled(torch.utils.data.Dataset):
    def __len__(self):
        return 150


class Pair(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x):
        return super().forward(x), x


REFUSED = {
    r"classes must be sorted.*got \['b', 'a'\]. Try \['a', 'b'\]": bad(classes=["b", "a"]),
    r"classes must be sorted.*once; got \[0, 1, 1, 2\]": bad(classes=[0, 1, 1, 2]),
    r"classes must be at least 2 different labels; got \[\]": bad(classes=[]),
    "classes must be a list of labels": bad(classes=3),
    r"y must hold labels among classes, \[0, 1\]; row 100 has 2": bad(classes=[0, 1]),
    "class_weight='balanced' must have rows of every class; got none of 7": bad(
        classes=[0, 1, 2, 7], class_weight="balanced"
    ),
    "module needs n_features, .* Set module__n_features": lambda: make(
        classes=[0, 1]
    ).initialize(),
    "module needs n_classes, .* Set classes": lambda: make(module__n_features=4).initialize(),
    "if X is an array or a tensor. Set module__n_features": lambda: make().fit(Dataset(X, Y)),
    r"module must return margins of shape \(n, 2\).*got \(150, 3\)": lambda: (
        make(linear(4, 3), classes=[0, 1]).initialize().predict(X)
    ),
    r"cannot learn from a batch of one row \(.*channel.*\). If .* try another batch_size": bad(
        module=normalized, batch_size=149
    ),
    "got none from 150 rows. Try a smaller batch_size": bad(
        batch_size=200, iterator_train__drop_last=True
    ),
    "Key 'valid_loss' was not found in history.*set validation_fraction=0.1": bad(
        callbacks=[EarlyStopping()]
    ),
    "Key 'valid_los' was not found in history. .* another monitor": bad(
        callbacks=[EarlyStopping("valid_los")], validation_fraction=0.1
    ),
    "device='mps:9' is not available to PyTorch": bad(device="mps:9"),
    "device='gpu' is not available to PyTorch": bad(device="gpu"),
    "device=1.5 is not available to PyTorch on this machine. Try device='cpu'": lambda: make(
        linear(4, 3), device=1.5
    ).initialize(),
    r"y must have distributions in its rows.*row 2 has \[0.5, 0.5, 0.5\], which sum to 1.5": (
        lambda: make().fit(X[:3], [[1, 0, 0], [0, 1, 0], [0.5] * 3])
    ),
    r"row 0 has \[1.5, -0.5\], which sum to 1": lambda: make().fit(X[:2], [[1.5, -0.5], [0, 1]]),
    r"row 1 has \[nan, 1.0\]": lambda: make().fit(X[:2], [[1, 0], [np.nan, 1]]),
    "which sum to 1.00001": lambda: make().fit(X[:2], [[1, 1e-5], [0, 1]]),
    "y must have numbers only": lambda: make().fit(X[:2], [["a", "b"], ["a", "c"]]),
    r"y must have a column for each class, \[0, 1, 2\]; got 2": lambda: make(classes=range(3)).fit(
        X[:2], np.eye(2)
    ),
    r"the columns of y must be different labels among classes, \['a', 'b'\]; got \['b', 'c'\]": (
        lambda: make(classes=["a", "b"]).fit(X[:2], framed("bc"))
    ),
    r"the columns of y must be different labels; got \['b', 'b'\]": lambda: make().fit(
        X[:2], framed("bb")
    ),
    "y must have a label for each row of X, 150 of them; got 2": lambda: make().fit(X, np.eye(2)),
    "inconsistent numbers of samples": lambda: make().fit(X, Y).score(X, np.eye(3)),
    r"y must be labels if noise_matrix is given.*got shape \(150, 3\)": lambda: make(
        noise_matrix=0.2
    ).fit(X, np.eye(3)[Y]),
    "class_weight must be None if noise_matrix is given.*got 'balanced'": bad(
        noise_matrix=0.2, class_weight="balanced"
    ),
    "weight must be None if noise_matrix is given": bad(
        noise_matrix=0.2, criterion__weight=torch.ones(3)
    ),
    r"noise_matrix must be a rate in \[0, 1\).*got 1.5": bad(noise_matrix=1.5),
    r"noise_matrix must have a row.*shape \(3, 3\); got shape \(2, 2\). If y lacks classes": bad(
        noise_matrix=np.eye(2)
    ),
    "noise_matrix must have rows that differ": bad(noise_matrix=2 / 3),
    "noise_matrix must have an accurate inverse": bad(
        noise_matrix=[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    ),
    "noise_matrix must be None if criterion__noise_matrix": bad(
        noise_matrix=0.2, criterion__noise_matrix=TRANSITION
    ),
    "track_minimax_risk must be True or False; got 1": bad(track_minimax_risk=1),
    r"track_minimax_risk must be False unless.*got criterion=GCELoss": bad(
        track_minimax_risk=True, criterion=GCELoss
    ),
    "MGCELoss without a noise_matrix; got.*Watch train_loss": bad(
        track_minimax_risk=True, noise_matrix=0.2
    ),
    "X must have rows; got none": lambda: make(TwoInputs).fit({"left": X[:0], "right": X[:0]}, []),
    "rows; got none.$": lambda: make().fit(X, Y).predict(Dataset(X[:0])),
    r"q must be a number in \[0, 1\].*got 1.5": bad(q=1.5),
    "q must be a number.*'half'": bad(q="half"),
    "lam must be a non-negative, finite number.*got -1": bad(lam=-1.0),
    "lam must be a non-negative.*got nan": bad(lam=float("nan")),
    "gradient_clip must be a positive.*got 0": bad(gradient_clip=0),
    "amp must be 'bfloat16', 'float16' or None; got 'half'": bad(amp="half"),
    "validation_fraction must be a fraction.*got 2": bad(validation_fraction=2),
    "validation_fraction must be None if train_split": bad(
        validation_fraction=0.1, train_split=ValidSplit(3)
    ),
    "lr must be a positive.*got 0": bad(lr=0),
    "max_epochs must be a positive integer; got 0": bad(max_epochs=0),
    "batch_size must be a positive integer, or -1": bad(batch_size=0),
    "penalized must match the name of a parameter; 'head' matches none of": bad(
        lam=0.1, penalized="head"
    ),
    "penalized must be a pattern of names.*got 3": bad(penalized=3),
    "module must be a class, an instance or a function.*got 3": bad(module=3),
    "module must be a class, an instance or a function.*got <class 'dict'>": bad(module=dict),
    "module must be a class, an instance or a function.*returned 7": bad(module=lambda: 7),
    r"module must return margins of shape \(n, 3\).*got \(16, 1\). Give its last": bad(
        module=OneOutput
    ),
    r"module must return margins of shape \(n, 3\).*got tuple": bad(module=Pair),
    "criterion must be a subclass of MarginLoss.*CrossEntropyLoss": bad(
        criterion=nn.CrossEntropyLoss
    ),
    r"criterion must be a subclass of MarginLoss.*MGCELoss\(q=0.7\)": bad(criterion=MGCELoss()),
    "class_weight must be None if criterion__weight": bad(
        class_weight="balanced", criterion__weight=torch.ones(3)
    ),
    "class_weight must be positive for every class": bad(class_weight={0: -1.0}),
    "Try a smaller learning rate": bad(optimizer=torch.optim.SGD, lr=1e30),
    "or clip the gradient": bad(optimizer=torch.optim.SGD, lr=1e30, criterion=GCELoss),
    "unexpected argument.*max_epoch": bad(max_epoch=3),
    "Input X contains NaN": lambda: make().fit(with_value(np.nan), Y),
    "Input X contains infinity": lambda: make().fit(with_value(np.inf), Y),
    "X must be finite": lambda: make().fit(torch.tensor(with_value(np.nan)), Y),
    "X must be dense; got torch.sparse_coo": lambda: make().fit(torch.tensor(X).to_sparse(), Y),
    r"X must have rows.*got \(0, 4\)": lambda: make().fit(torch.ones(0, 4), []),
    r"X must have rows.*got \(150,\)": lambda: make().fit(torch.ones(150), Y),
    "Found array with 0 sample": lambda: make().fit(X[:0], Y[:0]),
    "Expected 2D array": lambda: make().fit(X[:, 0], Y),
    "Sparse data was passed": lambda: make().fit(sp.dok_array(X), Y),
    "y must have a label for each row of X, 150 of them; got 149": lambda: make().fit(X, Y[1:]),
    "requires y to be passed": lambda: make().fit(X),
    "Row 0 has nan: drop such rows": lambda: make().fit(X, np.where(Y == 0, np.nan, Y)),
    "Row 1 has None: drop such rows": lambda: make().fit(X[:3], ["a", None, "b"]),
    "Unknown label type: continuous": lambda: make().fit(X, X[:, 0]),
    "y must have at least 2 classes.*got 1 class": lambda: make().fit(X[:50], Y[:50]),
    "positive weight; got 1 class": lambda: make().fit(X, Y, sample_weight=Y == 0),
    "row 0 has -1.0": lambda: make().fit(X, Y, sample_weight=-np.ones(150)),
    "sample_weight must have one weight per row": lambda: make().fit(X, Y, sample_weight=[1.0]),
    "sample_weight must be None if X is a Dataset": lambda: make().fit(
        Dataset(X, Y), sample_weight=np.ones(150)
    ),
    "y must be given if X is a Dataset": lambda: make().fit(Unlabeled()),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refused_in_a_sentence(sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        REFUSED[sentence]()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device():
    with pytest.raises(ValueError, match="device='cuda' is not available to PyTorch"):
        make(device="cuda").fit(X, Y)


def test_a_device_without_double_precision(monkeypatch):
    for room in ("net", "loop"):
        monkeypatch.setattr(f"mgce_sklearn.torch.{room}.check_device", lambda device: None)
    with pytest.raises(ValueError, match=r"module must be of single.*Try module.float\(\)"):
        make(double, device="mps").fit(X, Y)
    # Numbers go there as the module's, not as the rows'.
    there = []
    monkeypatch.setattr(
        "mgce_sklearn.torch.loop.to_device", lambda x, device: there.append(x.dtype) or x
    )
    make().fit(X, Y, sample_weight=np.ones(150)).predict(torch.tensor(X))
    assert set(there) == {torch.float32}


def test_other_errors_of_modules_and_callbacks_are_their_own():
    class Broken(nn.Linear):
        def forward(self, x):
            raise ValueError("broken")

    class Missing(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyError("missing")

    with pytest.raises(ValueError, match=r"^broken$"):
        make(lambda: Broken(4, 3)).fit(X, Y)
    with pytest.raises(KeyError, match=r"^'missing'$"):
        make(callbacks=[Missing()]).fit(X, Y)


def test_an_estimator_stays_as_it_was():
    net = make(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.9).fit(X, NAMES)
    before, proba, epochs = dict(vars(net)), net.predict_proba(X), len(net.history)
    for options in ({"lr": 1e30}, {"q": 2.0}):
        net.set_params(**options)
        for learn in (net.fit, net.partial_fit):
            with pytest.raises(ValueError):
                learn(X, NAMES)
        net.set_params(**{name: before[name] for name in options})
        assert {k for k in vars(net)} == set(before)
        assert len(net.history) == epochs
        np.testing.assert_array_equal(net.predict_proba(X), proba)
    same(
        net.partial_fit(X, NAMES),
        make(optimizer=torch.optim.SGD, lr=0.1, optimizer__momentum=0.9, max_epochs=6).fit(
            X, NAMES
        ),
    )


def test_predictions_need_a_fit_and_its_features():
    for method in ("predict", "predict_proba", "decision_function", "margins_to_proba"):
        with pytest.raises(NotFittedError):
            getattr(make(), method)(X)
    net = make().fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but MGCENetClassifier is expecting 4"):
        net.predict(X[:, :3])
    for margins in (0.5, np.zeros(3), np.zeros((3, 2)), np.zeros((3, 1, 3))):
        with pytest.raises(ValueError, match="margins must have a column for each class"):
            net.margins_to_proba(margins)
    with pytest.raises(ValueError, match="X must have the 4 features of the fit; got 3"):
        net.predict(torch.tensor(X[:, :3]))
