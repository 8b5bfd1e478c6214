"""Models that private training works well on."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from dpsgd.core.parameters import by_layer, trainable


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Return a chain of linear layers with tanh between them, whose bounded activations suit clipping [PTS21].

    Args:
        inputs: number of features.
        hidden: width of every hidden layer; () gives linear regression or the logits of logistic regression.
        outputs: number of outputs.

    >>> mlp(64, (96,), 10)[0]
    Linear(in_features=64, out_features=96, bias=True)

    [PTS21] N. Papernot, A. Thakurta, S. Song, S. Chien, Ú. Erlingsson. Tempered Sigmoid Activations for Deep Learning
    with Differential Privacy. AAAI 2021. arXiv:2007.14191.
    """
    layers: list[nn.Module] = []
    for width, following in pairwise((inputs, *hidden, outputs)):
        layers += [nn.Linear(width, following), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable entries d, each shared parameter counted once.

    >>> count_parameters(mlp(64, (96,), 10))
    7210
    """
    return sum(parameter.numel() for parameter in trainable(model).values())


def layer_sizes(model: nn.Module) -> dict[str, int]:
    """Return the number of trainable entries of every layer that `PerLayer` clips, in the order of flat gradients.

    >>> layer_sizes(mlp(4, (3,), 2))
    {'0': 15, '2': 8}
    """
    sizes = trainable(model)
    return {path: sum(sizes[name].numel() for name in names) for path, _, names in by_layer(model)}
