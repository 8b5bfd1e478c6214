"""A small model around every kind of layer that `torch.nn` has, for tests.

`EVERY_LAYER[name]` is (function that makes the layer, shape of an example, dtype of an example). Layers that draw are
given nothing to draw, so that every way of taking their gradients must give the same.
"""

import torch
from torch import nn

FLOATS, WORDS = torch.float32, torch.int64


class First(nn.Module):
    """What a layer gives out first, where it gives several things."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, rows):
        return self.layer(rows)[0]


class Twice(nn.Module):
    """A layer that takes several arguments: the rows, and the rows with their features the other way round."""

    def __init__(self, layer, times=2):
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, rows):
        found = self.layer(rows, *[rows.flip(-1)] * (self.times - 1))
        return found[0] if isinstance(found, tuple) else found


class Loop(nn.Module):
    """A cell that goes through the places of a sequence."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, rows):
        state = None
        for t in range(rows.shape[1]):
            state = self.cell(rows[:, t], state)
        return state[0] if isinstance(state, tuple) else state


class Unpooled(nn.Module):
    """Max-pooling and its way back."""

    def __init__(self, pool, unpool):
        super().__init__()
        self.pool, self.unpool = pool, unpool

    def forward(self, rows):
        return self.unpool(*self.pool(rows))


VECTOR, SEQUENCE, LINE, IMAGE, VOLUME = (6,), (4, 6), (4, 6), (4, 6, 6), (2, 4, 4, 4)
POINTWISE = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU),
    *(nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink),
    *(nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.GLU),
)
EVERY_LAYER = {
    **{kind.__name__: (kind, VECTOR, FLOATS) for kind in POINTWISE},
    "Threshold": (lambda: nn.Threshold(0.1, 0.2), VECTOR, FLOATS),
    "RReLU": (lambda: nn.RReLU(0.25, 0.25), VECTOR, FLOATS),
    "Softmax": (lambda: nn.Softmax(dim=1), VECTOR, FLOATS),
    "Softmax over the batch": (lambda: nn.Softmax(dim=0), VECTOR, FLOATS),
    "Softmin": (lambda: nn.Softmin(dim=1), VECTOR, FLOATS),
    "LogSoftmax": (lambda: nn.LogSoftmax(dim=1), VECTOR, FLOATS),
    "Softmax2d": (nn.Softmax2d, IMAGE, FLOATS),
    "Linear": (lambda: nn.Linear(6, 3), VECTOR, FLOATS),
    "LazyLinear": (lambda: nn.LazyLinear(3), VECTOR, FLOATS),
    "NonDynamicallyQuantizableLinear": (
        lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(6, 3),
        VECTOR,
        FLOATS,
    ),
    "Bilinear": (lambda: Twice(nn.Bilinear(6, 6, 3)), VECTOR, FLOATS),
    "CosineSimilarity": (lambda: Twice(nn.CosineSimilarity()), VECTOR, FLOATS),
    "PairwiseDistance": (lambda: Twice(nn.PairwiseDistance()), VECTOR, FLOATS),
    "Conv1d": (lambda: nn.Conv1d(4, 3, 2), LINE, FLOATS),
    "Conv2d": (lambda: nn.Conv2d(4, 3, 2), IMAGE, FLOATS),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), VOLUME, FLOATS),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 3, 2), LINE, FLOATS),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2), IMAGE, FLOATS),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), VOLUME, FLOATS),
    "LazyConv2d": (lambda: nn.LazyConv2d(3, 2), IMAGE, FLOATS),
    "Fold": (lambda: nn.Fold((3, 3), 2), (8, 4), FLOATS),
    "Unfold": (lambda: nn.Unfold(2), IMAGE, FLOATS),
    "Flatten": (nn.Flatten, IMAGE, FLOATS),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), VECTOR, FLOATS),
    "Embedding": (lambda: nn.Embedding(9, 3), VECTOR, WORDS),
    "Embedding with sparse gradients": (lambda: nn.Embedding(9, 3, sparse=True), VECTOR, WORDS),
    "Embedding by frequency": (lambda: nn.Embedding(9, 3, scale_grad_by_freq=True), VECTOR, WORDS),
    "Embedding with max_norm": (lambda: nn.Embedding(9, 3, max_norm=1.0), VECTOR, WORDS),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 3), VECTOR, WORDS),
    "EmbeddingBag with max_norm": (lambda: nn.EmbeddingBag(9, 3, max_norm=1.0), VECTOR, WORDS),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), VECTOR, FLOATS),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE, FLOATS),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), VOLUME, FLOATS),
    "LazyBatchNorm1d": (nn.LazyBatchNorm1d, VECTOR, FLOATS),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), IMAGE, FLOATS),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE, FLOATS),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4, affine=True), LINE, FLOATS),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE, FLOATS),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(2, affine=True), VOLUME, FLOATS),
    "InstanceNorm2d that tracks": (lambda: nn.InstanceNorm2d(4, track_running_stats=True), IMAGE, FLOATS),
    "LayerNorm": (lambda: nn.LayerNorm(6), SEQUENCE, FLOATS),
    "RMSNorm": (lambda: nn.RMSNorm(6), SEQUENCE, FLOATS),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), IMAGE, FLOATS),
    "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(2), IMAGE, FLOATS),
    "Dropout": (lambda: nn.Dropout(0.0), VECTOR, FLOATS),
    "Dropout1d": (lambda: nn.Dropout1d(0.0), LINE, FLOATS),
    "Dropout2d": (lambda: nn.Dropout2d(0.0), IMAGE, FLOATS),
    "Dropout3d": (lambda: nn.Dropout3d(0.0), VOLUME, FLOATS),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.0), VECTOR, FLOATS),
    "FeatureAlphaDropout": (lambda: nn.FeatureAlphaDropout(0.0), IMAGE, FLOATS),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), LINE, FLOATS),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGE, FLOATS),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), VOLUME, FLOATS),
    "MaxUnpool2d": (lambda: Unpooled(nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)), IMAGE, FLOATS),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), LINE, FLOATS),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGE, FLOATS),
    "AvgPool3d": (lambda: nn.AvgPool3d(2), VOLUME, FLOATS),
    "LPPool1d": (lambda: nn.LPPool1d(2, 2), LINE, FLOATS),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), IMAGE, FLOATS),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(2), LINE, FLOATS),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), IMAGE, FLOATS),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d(2), VOLUME, FLOATS),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(2), LINE, FLOATS),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), IMAGE, FLOATS),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d(2), VOLUME, FLOATS),
    "FractionalMaxPool2d": (
        lambda: nn.FractionalMaxPool2d(2, output_size=3, _random_samples=torch.full((1, 4, 2), 0.5)),
        IMAGE,
        FLOATS,
    ),
    "ReflectionPad1d": (lambda: nn.ReflectionPad1d(1), LINE, FLOATS),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d(1), IMAGE, FLOATS),
    "CircularPad2d": (lambda: nn.CircularPad2d(1), IMAGE, FLOATS),
    "ConstantPad2d": (lambda: nn.ConstantPad2d(1, 0.5), IMAGE, FLOATS),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), IMAGE, FLOATS),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), IMAGE, FLOATS),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), IMAGE, FLOATS),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), IMAGE, FLOATS),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), IMAGE, FLOATS),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE, FLOATS),
    "LSTM": (lambda: First(nn.LSTM(6, 3, batch_first=True)), SEQUENCE, FLOATS),
    "LSTM along the batch": (lambda: First(nn.LSTM(6, 3)), SEQUENCE, FLOATS),
    "GRU": (lambda: First(nn.GRU(6, 3, batch_first=True)), SEQUENCE, FLOATS),
    "RNN": (lambda: First(nn.RNN(6, 3, batch_first=True)), SEQUENCE, FLOATS),
    "LSTMCell": (lambda: Loop(nn.LSTMCell(6, 3)), SEQUENCE, FLOATS),
    "GRUCell": (lambda: Loop(nn.GRUCell(6, 3)), SEQUENCE, FLOATS),
    "RNNCell": (lambda: Loop(nn.RNNCell(6, 3)), SEQUENCE, FLOATS),
    "MultiheadAttention": (lambda: Twice(nn.MultiheadAttention(6, 2, batch_first=True), 3), SEQUENCE, FLOATS),
    "MultiheadAttention along the batch": (lambda: Twice(nn.MultiheadAttention(6, 2), 3), SEQUENCE, FLOATS),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(6, 2, dim_feedforward=5, dropout=0.0, batch_first=True),
        SEQUENCE,
        FLOATS,
    ),
    "TransformerDecoderLayer": (
        lambda: Twice(nn.TransformerDecoderLayer(6, 2, dim_feedforward=5, dropout=0.0, batch_first=True)),
        SEQUENCE,
        FLOATS,
    ),
    "Transformer": (
        lambda: Twice(
            nn.Transformer(
                6, 2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=5, dropout=0.0, batch_first=True
            )
        ),
        SEQUENCE,
        FLOATS,
    ),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), VECTOR, FLOATS),
    "spectral_norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)), VECTOR, FLOATS),
    "orthogonal": (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 3)), VECTOR, FLOATS),
    "spectral_norm by a hook": (lambda: nn.utils.spectral_norm(nn.Linear(6, 3)), VECTOR, FLOATS),
}


class Scaled(nn.Module):
    """The layer, between a scale of every feature and one of every output: so that all models have parameters."""

    def __init__(self, layer, shape, dtype):
        super().__init__()
        self.before = nn.Parameter(torch.linspace(0.5, 1.5, shape[-1])) if dtype is FLOATS else None
        self.layer, self.after = layer, nn.Parameter(torch.tensor(0.7))

    def forward(self, rows):
        rows = rows if self.before is None else rows * self.before
        return self.layer(rows).reshape(len(rows), -1) * self.after


def model_around(name):
    """Return the model and a batch of five examples."""
    make, shape, dtype = EVERY_LAYER[name]
    torch.manual_seed(0)
    batch = torch.randn(5, *shape) if dtype is FLOATS else torch.randint(9, (5, *shape))
    return Scaled(make(), shape, dtype), batch
