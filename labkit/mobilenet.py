"""MobileNetV2 and EfficientNet-Lite0 in plain torch: inverted residuals, batch norm, ReLU6.

Sandler et al. 2018 (arXiv 1801.04381) and the Lite variant of Tan and Le 2019 (arXiv 1905.11946):
the same blocks, EfficientNet with 5 × 5 kernels here and there, TensorFlow's padding and a
classifier. Weights come from `labkit.real_models`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

# (expansion, output channels, blocks, stride of the first, kernel size) a stage.
MOBILENET_V2 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
EFFICIENTNET_LITE0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM_CHANNELS, FEATURES = 32, 1280


class InvertedResidual(nn.Sequential):
    """Widen by 1 × 1, filter each channel by itself, narrow by 1 × 1; add the input if it fits.

    >>> block = InvertedResidual(16, 16, expansion=6, stride=1, kernel_size=3)
    >>> [name for name, _ in block.named_children()][:4]
    ['expand', 'expand_norm', 'expand_relu', 'depthwise']
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        expansion: int,
        stride: int,
        kernel_size: int,
        eps: float = 1e-5,
        same: bool = False,
    ) -> None:
        """`eps` and `same` as in `MobileNet`."""
        wide = channels * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion > 1:
            layers["expand"] = nn.Conv2d(channels, wide, 1, bias=False)
            layers["expand_norm"] = nn.BatchNorm2d(wide, eps)
            layers["expand_relu"] = nn.ReLU6()
        layers |= _spatial("depthwise", wide, wide, kernel_size, stride, same, groups=wide)
        layers["depthwise_norm"] = nn.BatchNorm2d(wide, eps)
        layers["depthwise_relu"] = nn.ReLU6()
        layers["project"] = nn.Conv2d(wide, out_channels, 1, bias=False)
        layers["project_norm"] = nn.BatchNorm2d(out_channels, eps)
        super().__init__(layers)
        self.adds_input = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, out_channels, h / stride, w / stride)."""
        y = super().forward(x)
        return x + y if self.adds_input else y


class MobileNet(nn.Module):
    """Stem, a column of inverted residuals, a 1 × 1 head, the mean over the picture.

    stages: see MOBILENET_V2. eps: of the batch norms. same: pad strided convolutions as TensorFlow
    does, more on the right and below. classes: 0 returns the features (n, 1280), otherwise a linear
    layer turns them into scores (n, classes). Takes (n, 3, h, w), both a multiple of 32.

    >>> sum(parameter.numel() for parameter in MobileNet(MOBILENET_V2).parameters())
    2223872
    """

    def __init__(
        self, stages: tuple, classes: int = 0, eps: float = 1e-5, same: bool = False
    ) -> None:
        """Make the layers with torch's ordinary random initialization."""
        super().__init__()
        stem = _spatial("conv", 3, STEM_CHANNELS, 3, 2, same)
        self.stem = nn.Sequential(
            stem | OrderedDict(norm=nn.BatchNorm2d(STEM_CHANNELS, eps), relu=nn.ReLU6())
        )
        blocks, channels = [], STEM_CHANNELS
        for expansion, out_channels, count, first_stride, kernel_size in stages:
            for index in range(count):
                stride = first_stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(
                        channels, out_channels, expansion, stride, kernel_size, eps, same
                    )
                )
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(channels, FEATURES, 1, bias=False),
                norm=nn.BatchNorm2d(FEATURES, eps),
                relu=nn.ReLU6(),
            )
        )
        self.classifier = nn.Linear(FEATURES, classes) if classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) → features (n, 1280), or scores (n, classes)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(x.mean((2, 3)))


def _spatial(
    name: str, channels: int, out_channels: int, size: int, stride: int, same: bool, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    """A convolution that keeps the picture's size (or divides it), with its padding."""
    total = size - 1
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if same and stride > 1:
        # TensorFlow pads only what an even picture needs, and puts the odd pixel at the end.
        before, after = (total - 1) // 2, total // 2
        layers[f"{name}_pad"] = nn.ZeroPad2d((before, after, before, after))
        total = 0
    layers[name] = nn.Conv2d(
        channels, out_channels, size, stride, total // 2, groups=groups, bias=False
    )
    return layers
