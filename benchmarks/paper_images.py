"""The papers' table of residual networks on images under label noise, ours beside theirs.

    python benchmarks/paper_images.py --quick    # under a minute on a CPU, nothing kept
    python benchmarks/paper_images.py --data DIR --datasets fashion_mnist cifar10 --amp bfloat16
    python benchmarks/paper_images.py --data DIR --network small --epochs 15    # on a CPU

ResNet-18 on FashionMNIST and ResNet-34 on CIFAR-10, in the form for small images: a first
convolution of 3 × 3 and no pooling after it. SGD with learning rate 0.01 and momentum 0.9 on
mini-batches of 128 for 150 epochs, the gradient's norm clipped at 5; the mean of each pixel
subtracted; random flips, and crops of images padded by 4 pixels; 10% of the training rows for
validation; symmetric noise on the labels of both, clean labels to test on. Images are on the
device as a whole, and batches are augmented there; whole training batches replay a graph of the
GPU. A run takes hours on a CPU.

The small network takes seconds an epoch there, and is another set-up: two convolutions with
pooling and one hidden layer, learning rate 0.02, all else alike. Its record is a file of its own,
named by adding ``_small``. ``fashion_mnist_lt`` has long-tailed classes, the first 100 times as
frequent as the last, and as many test rows of each.

MGCE and GCE take the q = 1/beta of best validation accuracy, for each seed. Every run is a row of
the CSV file as soon as it ends, and a row that is there is not trained again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Split, first_of_each, long_tailed
from runs import Run, Trained, carry_out, classifier, common_parser, settle_process, settled
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from mgce_sklearn.label_noise import symmetric_noise
from mgce_sklearn.torch.batches import TensorBatches

Array = np.ndarray[Any, Any]

LEARNING_RATES = {"resnet": 0.01, "small": 0.02}
PADDING = 4
RESNET_18, RESNET_34 = (2, 2, 2, 2), (3, 4, 6, 3)
BLOCKS = {"fashion_mnist": RESNET_18, "fashion_mnist_lt": RESNET_18, "cifar10": RESNET_34}
LONG_TAILED = ("fashion_mnist_lt",)
N_TEST = 10_000
QUICK = {
    "datasets": ["fashion_mnist", "fashion_mnist_lt"],
    "methods": ["MGCE", "CE"],
    "noise": [0.4],
    "seeds": [0],
    "epochs": 1,
    "betas": [2.0],
}
QUICK_ROWS = 13  # of each class


class Block(nn.Module):
    """Two convolutions beside the identity, or beside a projection where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(n_in, n_out, 3, stride), nn.ReLU(), *_convolution(n_out, n_out, 3, 1)
        )
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Sequential(*([] if same else _convolution(n_in, n_out, 1, stride)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute (n, n_out, height / stride, width / stride)."""
        return relu(self.convolutions(x) + self.shortcut(x))


def _convolution(n_in: int, n_out: int, size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(n_out)]


def resnet(n_features: int, n_classes: int, blocks: tuple[int, ...]) -> nn.Module:
    """Return a residual network for images of ``n_features`` channels, 64 to 512 units wide."""
    layers: list[nn.Module] = [*_convolution(n_features, 64, 3, 1), nn.ReLU()]
    width = 64
    for stage, n_blocks in enumerate(blocks):
        for block in range(n_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(width, 64 * 2**stage, stride))
            width = 64 * 2**stage
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def small(n_features: int, n_classes: int) -> nn.Module:
    """Return a network of two convolutions with pooling and a hidden layer, fast on a CPU."""
    return nn.Sequential(
        *_pooled(n_features, 16, nn.MaxPool2d(2)),
        *_pooled(16, 32, nn.AdaptiveMaxPool2d(7)),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, n_classes),
    ).to(memory_format=torch.channels_last)


def _pooled(n_in: int, n_out: int, pool: nn.Module) -> list[nn.Module]:
    convolution, norm = _convolution(n_in, n_out, 3, 1)
    # Pooled first, there is a quarter as much to normalize.
    return [convolution, pool, norm, nn.ReLU()]


class Graphed(nn.Module):
    """A network whose whole training batches replay a graph of the GPU, forward and backward.

    Its programs are shorter than the host's calls for them. The graph is captured at the first
    batch; batches of other sizes go the plain way.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.plain = network.forward
        self.shape: torch.Size | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the margins."""
        if not (self.training and x.is_cuda):
            return self.plain(x)
        if self.shape is None:
            self._capture(x)
        return self.network(x) if x.shape == self.shape else self.plain(x)

    def _capture(self, x: Tensor) -> None:
        self.shape = x.shape
        precision = {"enabled": torch.is_autocast_enabled("cuda"), "cache_enabled": False}
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), **precision):
            torch.cuda.make_graphed_callables(self.network, (x.clone(),))


def architecture(network: str, data: str) -> Callable[..., nn.Module]:
    """Return what makes a network for a set, given its numbers of channels and classes."""
    return small if network == "small" else partial(resnet, blocks=BLOCKS[data])


class Augmented(TensorBatches):
    """Batches of images, each flipped or not and shifted by up to `PADDING` pixels."""

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for images, labels in super().__iter__():
            yield augmented(images), labels


def augmented(images: Tensor) -> Tensor:
    """Return images (n, channels, height, width), each flipped or not, cropped after padding."""
    n, _, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * PADDING + 1, (2, n, 1), device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    flipped = torch.rand(n, 1, device=device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    padded = pad(images, (PADDING,) * 4).permute(0, 2, 3, 1)
    index = torch.arange(n, device=device).reshape(-1, 1, 1)
    # Channels are last in memory, as the convolutions like them best.
    return padded[index, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def images_of(name: str, device: str, n_rows: int | None) -> Split:
    """Return a set in [0, 1] less the mean of each pixel, the first rows of each class if asked.

    Images (n, channels, height, width) are tensors on the device.
    """
    X, labels = datasets.images(name.removesuffix("_lt"))
    y = np.unique(labels, return_inverse=True)[1]
    if X.ndim == 3:
        X = X[:, np.newaxis]
    n_train = len(y) - N_TEST
    rows = Split(X[:n_train], y[:n_train], X[n_train:], y[n_train:])
    if name in LONG_TAILED:
        rows = long_tailed(rows)
    train, test = _first(rows.y, n_rows), _first(rows.y_test, n_rows)
    images = [
        torch.from_numpy(part).to(device).float() / 255.0
        for part in (rows.X[train], rows.X_test[test])
    ]
    mean = images[0].mean(dim=0)
    return Split(images[0] - mean, rows.y[train], images[1] - mean, rows.y_test[test])


def _first(y: Array, n_rows: int | None) -> Array:
    n_classes = y.max() + 1
    return np.arange(len(y)) if n_rows is None else first_of_each(y, np.full(n_classes, n_rows))


class Training:
    """Trains runs of a kind of network on a device."""

    def __init__(self, network: str, device: str, amp: str | None, n_rows: int | None) -> None:
        self.network = network
        self.device = device
        self.amp = amp
        self.n_rows = n_rows

    def __call__(self, run: Run) -> Trained:
        """Make labels wrong, set a tenth of the rows aside, and train a network."""
        settle_process()
        images = images_of(run.data, self.device, self.n_rows)
        noisy = symmetric_noise(images.y, run.noise, random_state=run.seed)
        train, validation = train_test_split(
            np.arange(len(noisy)), test_size=0.1, random_state=run.seed
        )
        make = architecture(self.network, run.data)
        network = classifier(
            run,
            lambda n_features, n_classes: Graphed(make(n_features, n_classes)),
            lr=LEARNING_RATES[self.network],
            iterator_train=Augmented,
            iterator_train__shuffle=True,
            device=self.device,
            amp=self.amp,
        )
        started = time.perf_counter()
        network.fit(images.X[train], noisy[train])
        seconds = time.perf_counter() - started
        return Trained(
            network,
            (images.X[validation], noisy[validation]),
            (images.X_test, images.y_test),
            seconds,
        )


def main() -> None:
    """Train what is not on record, and print the table."""
    parser = common_parser(__doc__, BLOCKS, Path("benchmarks/results/paper_images.csv"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--network", choices=LEARNING_RATES, default="resnet")
    parser.add_argument("--device", default=device)
    parser.add_argument("--amp", choices=("bfloat16", "float16"), help="mixed precision")
    options = settled(parser.parse_args(), **QUICK)
    options.csv = record_of(options.network, options.csv)
    n_rows = QUICK_ROWS if options.quick else None
    training = Training(options.network, options.device, options.amp, n_rows)
    carry_out(options, training, calibrated=LONG_TAILED)


def record_of(network: str, csv: Path) -> Path:
    """Return a file of the network's own: rows do not say which network they are of."""
    return csv if network == "resnet" else csv.with_stem(f"{csv.stem}_{network}")


if __name__ == "__main__":
    main()
