"""The scripts of the papers' tables: plan, record, resuming, table, data, augmentation."""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, log_loss

torch = pytest.importorskip("torch")
pytest.importorskip("skorch")

# Scripts, no package: their folder stays on the path no longer than their imports last, for their
# names are common words.
BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import datasets  # noqa: E402
import paper_images  # noqa: E402
import paper_tables  # noqa: E402
import runs  # noqa: E402
from runs import Measured, Record, Run, Trained  # noqa: E402

from mgce_sklearn.torch import MGCELoss  # noqa: E402

sys.path.remove(BENCHMARKS)


@pytest.fixture(autouse=True)
def settings_of_the_process_restored():
    """A script may set what it likes in a process of its own."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)
    torch.set_flush_denormal(False)
    torch.backends.cudnn.benchmark = False


def options(tmp_path: Path, **changes) -> argparse.Namespace:
    parser = runs.common_parser("", ["letter", "iris"], tmp_path / "record.csv")
    settings = {"noise": [0.0, 0.4], "seeds": [0, 1], "methods": ["MGCE", "MAE", "CE"]}
    return argparse.Namespace(**{**vars(parser.parse_args([])), **settings, **changes})


def measured(validation_accuracy: float, accuracy: float = 0.5) -> Measured:
    return Measured(validation_accuracy, accuracy, 0.1, 0.2, 0.3, 0.4, 5.0)


class Known:
    """A classifier of labels 0, 1, 2 that knows its probabilities."""

    def predict_proba(self, X):
        return np.asarray(X, dtype=np.float32)

    def score(self, X, y):
        return float(np.mean(np.argmax(X, axis=1) == y))


def test_grid_of_q_has_both_ends_and_mgce_shares_the_mae():
    assert runs.candidates("MGCE")[0] == ("MAE", 1.0)
    assert runs.candidates("MGCE")[-1] == ("MGCE", round(1 / 11, 6))
    assert [q for _, q in runs.candidates("MGCE")] == [q for _, q in runs.candidates("GCE")]
    assert len(runs.candidates("GCE")) == 8
    assert runs.candidates("CE") == [("CE", 0.0)]


def test_plan_names_each_run_once_seed_after_seed(tmp_path):
    planned = runs.plan(options(tmp_path, betas=[1.0, 2.0]), epochs=150)
    # MAE (for two methods), MGCE at q = 1/2, CE; two noises, two seeds.
    assert len(planned) == len(set(planned)) == 3 * 2 * 2
    assert [run.seed for run in planned] == [0] * 6 + [1] * 6


def test_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "record.csv"
    rows = {
        Run("letter", "MGCE", round(1 / 11, 6), 1e-5, 0.2, 3, 150): measured(0.123456),
        Run("letter", "CE+ATS", 0.0, 0.0, 0.0, 0, 150): measured(1.0, float("nan")),
    }
    for run, row in rows.items():
        Record(path).add(run, row)
    again = Record(path).rows
    assert list(again) == list(rows)
    np.testing.assert_array_equal(
        [runs.astuple(row) for row in again.values()], [runs.astuple(row) for row in rows.values()]
    )
    assert path.read_text().splitlines()[0].split(",") == runs.COLUMNS


def test_it_goes_on_where_it_stopped(tmp_path, capsys):
    proba = np.eye(3)[[0, 1, 2, 2]]
    started = []

    def train(run, fails_at=None):
        started.append(run)
        if len(started) == fails_at:
            raise KeyboardInterrupt
        rows = (proba, np.array([0, 1, 2, 1]))
        return Trained(Known(), rows, rows, 1.0)

    wanted = options(tmp_path, betas=[1.0, 2.0])
    with pytest.raises(KeyboardInterrupt):
        runs.carry_out(wanted, lambda run: train(run, fails_at=6))
    assert len(Record(wanted.csv).rows) == 5
    started.clear()
    runs.carry_out(wanted, train)
    assert started == runs.plan(wanted, 150)[5:]
    started.clear()
    runs.carry_out(wanted, train)
    runs.carry_out(options(tmp_path, print_only=True, datasets=["iris"]), train)
    assert started == []
    assert "12 of 12 runs are on record" in capsys.readouterr().out


def test_measures_agree_with_slow_ones():
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.ones(3), size=50).astype(np.float32), rng.integers(3, size=50)
    proba[0] = [0.0, 1.0, 0.0]
    y[0] = 2
    row = runs.measure(Known(), Trained(Known(), (proba[:20], y[:20]), (proba, y), 2.5))
    assert row.accuracy == accuracy_score(y, proba.argmax(axis=1))
    assert row.validation_accuracy == accuracy_score(y[:20], proba[:20].argmax(axis=1))
    brier = np.mean([sum((proba[i, k] - (k == y[i])) ** 2 for k in range(3)) for i in range(50)])
    assert row.brier == pytest.approx(brier, rel=1e-6)
    floored = np.maximum(proba.astype(float), 1e-6)
    likelihood = floored[np.arange(50), y]
    assert row.log_loss == pytest.approx(-np.mean(np.log(likelihood)), rel=1e-12)
    rest, positive = y[1:], proba[1:]  # nothing to floor
    row = runs.measure(Known(), Trained(Known(), (proba, y), (positive, rest), 1.0))
    positive = positive / positive.sum(axis=1, keepdims=True)
    assert row.log_loss == pytest.approx(log_loss(rest, positive), rel=1e-5)
    assert 0.0 < row.static_calibration_error < row.calibration_error < 1.0


def test_validation_chooses_for_each_seed(tmp_path):
    wanted = options(tmp_path, betas=[1.0, 2.0])
    record = Record(wanted.csv)
    for seed, best in ((0, "MAE"), (1, "MGCE")):
        for method, q in (("MAE", 1.0), ("MGCE", 0.5)):
            row = measured(0.9 if method == best else 0.8, accuracy=0.905 if seed else 0.9)
            record.add(Run("letter", method, q, 0.0, 0.0, seed, 150), row)
    cell = runs.chosen(record, "letter", "MGCE", 0.0, wanted)
    assert [run.method for run in cell.runs] == ["MAE", "MGCE"]
    assert cell.n_candidates == [2, 2]
    mean, deviation = cell.percent("accuracy")
    assert mean == pytest.approx(90.25)
    assert deviation == pytest.approx(0.5 / np.sqrt(2))
    assert runs.chosen(record, "letter", "MGCE", 0.4, wanted).runs == []


def test_table_holds_ours_against_theirs(tmp_path):
    wanted = options(tmp_path, methods=["MAE", "GenCE"])
    record = Record(wanted.csv)
    record.add(Run("letter", "MAE", 1.0, 0.0, 0.0, 0, 150), measured(0.9, accuracy=0.905))
    record.add(Run("letter", "MAE", 1.0, 0.0, 0.0, 1, 150), measured(0.9, accuracy=0.9098))
    record.add(Run("letter", "GenCE", 0.0, 1e-4, 0.4, 0, 150), measured(0.9))
    wanted.lams = [0.0, 1e-4]
    header, rule, mae, generative = runs.table(record, wanted)
    assert header.count("|") == rule.count("|") == mae.count("|") == generative.count("|")
    cells = [cell.strip() for cell in mae.split("|")[1:-1]]
    assert cells[:7] == ["letter", "0", "MAE", "2", "90.74 ± 0.34", "90.58 ± 0.16", "+1.0"]
    assert cells[7:] == ["10.00", "83.99", "20.00", "0.300", "0.400", "1, 0 (1); 1, 0 (1)"]
    cells = [cell.strip() for cell in generative.split("|")[1:-1]]
    assert cells[3:7] == ["1", "50.00", "", ""]
    assert cells[-1] == "∞, 0.0001 (1)"


def test_short_runs_choose_what_is_trained_in_full(tmp_path):
    wanted = options(tmp_path, methods=["GCE"], noise=[0.0], pilot_epochs=15, betas=[1.0, 2.0])
    record = Record(wanted.csv)
    for seed, best in ((0, 1.0), (1, 0.5)):
        for q in (1.0, 0.5):
            row = measured(0.9 if q == best else 0.8)
            record.add(Run("letter", "GCE", q, 0.0, 0.0, seed, 15), row)
    finalists = [
        Run("letter", "GCE", 1.0, 0.0, 0.0, 0, 150),
        Run("letter", "GCE", 0.5, 0.0, 0.0, 1, 150),
    ]
    assert runs.finalists(record, wanted) == finalists
    # A long run that was not chosen changes nothing, however good it is.
    for q in (1.0, 0.5):
        record.add(Run("letter", "GCE", q, 0.0, 0.0, 0, 150), measured(0.8 if q == 1.0 else 0.99))
    assert runs.chosen(record, "letter", "GCE", 0.0, wanted).runs == finalists[:1]


def test_no_run_is_lost_for_want_of_a_place_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    wanted = options(tmp_path, csv=tmp_path / "file" / "record.csv")
    with pytest.raises(SystemExit, match="--csv must be a file that can be written"):
        runs.carry_out(wanted, lambda run: pytest.fail("a run began"))
    wanted.data, wanted.quick = tmp_path / "nowhere", False
    with pytest.raises(SystemExit, match="--data must be a folder"):
        runs.settled(wanted)


def test_what_leaves_no_choice_has_no_short_run(tmp_path):
    wanted = options(tmp_path, methods=["CE", "GCE"], noise=[0.0], seeds=[0], pilot_epochs=15)
    assert {run.method for run in runs.plan(wanted, 15)} == {"GCE"}
    assert {run.method for run in runs.plan(wanted, 150)} == {"CE", "GCE"}
    nothing = Record(wanted.csv)
    assert runs.finalists(nothing, wanted) == [Run("letter", "CE", 0.0, 0.0, 0.0, 0, 150)]


def test_columns_of_zeros_and_ones_stay():
    X = np.column_stack([[0, 1, 1, 0, 1], [2, 4, 2, 4, 100]])
    np.testing.assert_array_equal(
        paper_tables.scaled(X, n_train=4), [[0, -1], [1, 1], [1, -1], [0, 1], [1, 97]]
    )


def test_long_tail_falls_geometrically_and_is_judged_evenly():
    y = np.repeat(np.arange(3), [1000, 1200, 1100])
    y_test = np.repeat(np.arange(3), [30, 20, 40])
    rows = datasets.Split(y.astype(np.float32)[:, None], y, y_test[:, None], y_test)
    tail = datasets.long_tailed(rows)
    assert np.bincount(tail.y).tolist() == [1000, 100, 10]
    assert np.bincount(tail.y_test).tolist() == [20, 20, 20]
    np.testing.assert_array_equal(tail.X[:, 0], tail.y)


def test_noise_is_on_labels_to_learn_from_and_to_choose_by(monkeypatch):
    X, y = make_classification(1500, n_classes=3, n_informative=5, random_state=0)
    X = np.column_stack([X, np.arange(1500)]).astype(np.float32)
    X[:, -1] /= 1500
    rows = datasets.Split(X[:1000], y[:1000], X[1000:], y[1000:])
    monkeypatch.setattr(paper_tables, "rows_of", lambda name: rows)
    run = Run("letter", "MGCE", 0.5, 0.0, 0.4, 0, 2)
    trained = paper_tables.train(run)
    X_valid, y_valid = trained.validation
    assert len(y_valid) == 100
    number = np.round(1500 * X_valid[:, -1]).astype(int)
    assert 0.2 < np.mean(y_valid != y[number]) < 0.6
    assert trained.test[1] is rows.y_test
    assert len(trained.network.history_) == 2
    again = paper_tables.train(run)
    np.testing.assert_array_equal(
        again.network.predict_proba(rows.X_test), trained.network.predict_proba(rows.X_test)
    )


@pytest.mark.parametrize(
    ("n_channels", "name", "count"), [(3, "cifar10", 21_282_122), (3, "fashion_mnist", 11_173_962)]
)
def test_residual_networks_have_the_usual_size(n_channels, name, count):
    # The numbers of parameters of ResNet-34 and ResNet-18 for images of 32 × 32.
    network = paper_images.resnet(n_channels, 10, paper_images.BLOCKS[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    features = network[:-3](torch.zeros(1, n_channels, 32, 32))
    assert features.shape == (1, 512, 4, 4)


@pytest.mark.parametrize(("n_channels", "side"), [(1, 28), (3, 32)])
def test_small_network_pools_images_to_seven_by_seven(n_channels, side):
    network = paper_images.architecture("small", "fashion_mnist")(n_channels, 10)
    images = torch.zeros(2, n_channels, side, side)
    assert network[:-4](images).shape == (2, 32, 7, 7)
    assert network(images).shape == (2, 10)
    # Two convolutions of 3 × 3, a scale and a shift for each of their outputs, two linear layers.
    count = 9 * 16 * (n_channels + 32) + 2 * (16 + 32) + (32 * 49 + 1) * 128 + 129 * 10
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def few_images(name):
    """Bytes that tell the label: 3,000 rows to learn from, then 10,000 to test on."""
    assert name == "fashion_mnist"
    y = np.arange(13_000) % 3
    return np.tile((10 * y).astype(np.uint8)[:, None, None], (1, 2, 2)), y.astype(str)


def test_long_tailed_images_are_less_their_own_mean(monkeypatch):
    monkeypatch.setattr(datasets, "images", few_images)
    images = paper_images.images_of("fashion_mnist_lt", "cpu", None)
    assert np.bincount(images.y).tolist() == [1000, 100, 10]
    assert np.bincount(images.y_test).tolist() == [3333, 3333, 3333]
    assert images.X.shape == (1110, 1, 2, 2)
    np.testing.assert_allclose(images.X.mean(dim=0), 0.0, atol=1e-6)
    mean = (100 * 10 + 10 * 20) / 1110
    for X, y in ((images.X, images.y), (images.X_test, images.y_test)):
        np.testing.assert_allclose(255 * X[:, 0, 0, 0], 10 * y - mean, rtol=1e-4)


def called_with(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["paper_images.py", *map(str, words)])
    paper_images.main()


# Nine batches of tiny images teach next to nothing, and are not meant to.
@pytest.mark.filterwarnings("ignore:The temperature ended at its limit")
def test_long_tailed_images_are_judged_with_and_without_scaling(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "images", few_images)
    settings = ["--network", "small", "--device", "cpu", "--epochs", 1, "--seeds", 0]
    chosen = ["--datasets", "fashion_mnist_lt", "--methods", "CE", "--noise", 0]
    called_with(monkeypatch, *settings, *chosen, "--csv", tmp_path / "record.csv")
    rows = Record(tmp_path / "record_small.csv").rows
    scaled, plain = rows.values()
    assert [run.method for run in rows] == ["CE+ATS", "CE"]
    assert scaled.accuracy == plain.accuracy
    assert scaled.calibration_error != plain.calibration_error


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion_mnist_lt"])
def test_a_few_images_are_the_first_of_each_class(monkeypatch, name):
    monkeypatch.setattr(datasets, "images", few_images)
    images = paper_images.images_of(name, "cpu", 4)
    assert np.bincount(images.y).tolist() == np.bincount(images.y_test).tolist() == [4, 4, 4]
    assert len(images.X) == len(images.X_test) == 12


def test_runs_of_one_network_are_not_taken_for_those_of_another(monkeypatch, tmp_path):
    started = []

    class Training:
        def __init__(self, network, *settings):
            self.network = network

        def __call__(self, run):
            started.append(self.network)
            rows = (np.eye(3), np.arange(3))
            return Trained(Known(), rows, rows, 1.0)

    monkeypatch.setattr(paper_images, "Training", Training)
    settings = ["--methods", "CE", "--noise", 0, "--seeds", 0, "--csv", tmp_path / "record.csv"]
    for network in ("resnet", "small", "resnet", "small"):
        called_with(monkeypatch, *settings, "--network", network)
    assert started == ["resnet", "small"]
    written = {path.name: Record(path).rows for path in tmp_path.iterdir()}
    assert sorted(written) == ["record.csv", "record_small.csv"]
    assert [len(rows) for rows in written.values()] == [1, 1]


def test_augmented_images_are_windows_of_padded_ones():
    torch.manual_seed(0)
    images = torch.rand(40, 2, 6, 5)
    after = paper_images.augmented(images)
    assert after.shape == images.shape
    padded = torch.zeros(40, 2, 14, 13)
    padded[:, :, 4:10, 4:9] = images
    seen = set()
    for image, source in zip(after, padded, strict=True):
        found = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            for window in [source[:, top : top + 6, left : left + 5]]
            if torch.equal(window.flip(2) if flipped else window, image)
        ]
        assert found
        seen.update(found)
    assert len({top for top, _, _ in seen}) > 5
    assert len({left for _, left, _ in seen}) > 5
    assert {flipped for _, _, flipped in seen} == {False, True}


@pytest.mark.parametrize(("network", "last"), [("resnet", 64), ("small", 128)])
def test_images_are_learned_from_on_their_device(monkeypatch, network, last):
    X = torch.randn(64, 1, 8, 8)
    images = datasets.Split(X, np.arange(64) % 2, X[:10], np.arange(10) % 2)
    monkeypatch.setattr(paper_images, "images_of", lambda *which: images)
    monkeypatch.setitem(paper_images.BLOCKS, "fashion_mnist", (1,))
    run = Run("fashion_mnist", "CE", 0.0, 0.0, 0.0, 0, 1)
    trained = paper_images.Training(network, "cpu", None, None)(run)
    assert trained.network.module_.network[-1].in_features == last
    assert trained.network.lr == paper_images.LEARNING_RATES[network]
    assert trained.network.predict_proba(trained.test[0]).shape == (10, 2)
    assert len(trained.validation[1]) == 7
    dataset = trained.network.get_dataset(X, np.arange(64))
    batch = next(iter(trained.network.get_iterator(dataset, training=True)))
    assert sorted(batch[1]) == list(range(64)) != list(batch[1])  # shuffled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_graphs_of_a_gpu_learn_as_networks_do(amp):
    """In whole batches and in the smaller last one, and networks judged in between."""
    torch.manual_seed(0)
    network = paper_images.small(1, 3).cuda()
    graphed = paper_images.Graphed(copy.deepcopy(network))
    with torch.autocast("cuda", amp, enabled=amp is not None):
        graphed(torch.randn(16, 1, 28, 28, device="cuda"))  # captured; statistics begin anew
    for part in graphed.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.reset_running_stats()
    tol = {"rtol": 1e-3, "atol": 1e-4} if amp is None else {"rtol": 0.1, "atol": 0.02}
    for n_rows in (16, 16, 5, 16):
        X, y = torch.randn(n_rows, 1, 28, 28, device="cuda"), torch.arange(n_rows).cuda() % 3
        found = []
        for each in (network, graphed):
            each.train().zero_grad()
            with torch.autocast("cuda", amp, enabled=amp is not None):
                loss = MGCELoss(0.7)(each(X), y)
            loss.backward()
            slopes = [parameter.grad.clone() for parameter in each.parameters()]
            found.append([loss.detach(), *slopes, each.eval()(X).detach()])
        for ours, expected in zip(found[1], found[0], strict=True):
            torch.testing.assert_close(ours, expected, **tol)
