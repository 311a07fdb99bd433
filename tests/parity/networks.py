"""Small networks made of the blocks that the usual families are made of. Needs torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(
    inside: int, outside: int, kernel: int = 3, activation: nn.Module | None = None, **options
) -> nn.Sequential:
    options.setdefault("padding", kernel // 2)
    layers = [nn.Conv2d(inside, outside, kernel, bias=False, **options), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers, nn.ReLU() if activation is None else activation)


class Head(nn.Module):
    """Mean over space and a linear layer."""

    def __init__(self, channels: int, classes: int = 5):
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(tuple(range(2, x.ndim))))


class Residual(nn.Module):
    """ResNet: a basic block, and a bottleneck with a strided projection."""

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int):
            super().__init__()
            self.first = conv_bn(inside, outside, stride=stride)
            self.second = conv_bn(outside, outside, activation=nn.Identity())
            same = stride == 1 and inside == outside
            self.skip = nn.Identity() if same else conv_bn(inside, outside, 1, nn.Identity(), stride=stride)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.second(self.first(x)) + self.skip(x))

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, 7, stride=2), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(self.Block(8, 8, 1), self.Block(8, 16, 2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class Dense(nn.Module):
    """DenseNet: pre-activation layers that concatenate, and a transition."""

    class Layer(nn.Module):
        def __init__(self, inside: int, growth: int = 6):
            super().__init__()
            self.narrow = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, 12, 1, bias=False))
            self.grow = nn.Sequential(nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, growth, 3, padding=1, bias=False))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.grow(self.narrow(x))], 1)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 10), nn.MaxPool2d(3, 2, 1))
        self.first = nn.Sequential(self.Layer(10), self.Layer(16))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(22), nn.ReLU(), nn.Conv2d(22, 11, 1, bias=False), nn.AvgPool2d(2)
        )
        self.second = nn.Sequential(self.Layer(11), self.Layer(17))
        self.norm = nn.BatchNorm2d(23)
        self.head = Head(23)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.second(self.transition(self.first(self.stem(x)))))))


class Vgg(nn.Module):
    """VGG: convolutions with bias, max pools, a head of linear layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


class Inception(nn.Module):
    """Inception: parallel branches, factorised kernels, average pools that do not count the padding."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, padding=0), nn.MaxPool2d(3, 2, ceil_mode=True))
        self.one = conv_bn(8, 5, 1)
        self.five = nn.Sequential(conv_bn(8, 4, 1), conv_bn(4, 6, 5))
        self.seven = nn.Sequential(
            *(nn.Conv2d(8, 4, (1, 7), padding=(0, 3)), nn.ReLU(), nn.Conv2d(4, 6, (7, 1), padding=(3, 0))),
            *(nn.BatchNorm2d(6, eps=1e-3), nn.ReLU()),
        )
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv_bn(8, 5, 1))
        self.counted = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=True), conv_bn(8, 3, 1))
        self.maximum = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(8, 3, 1))
        self.reduce = nn.Sequential(conv_bn(28, 12, 1), nn.MaxPool2d(3, 2, ceil_mode=True))
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        branches = (self.one, self.five, self.seven, self.pooled, self.counted, self.maximum)
        return self.head(self.reduce(torch.cat([each(x) for each in branches], 1)))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, activation: nn.Module, gate: nn.Module):
        super().__init__()
        self.squeeze = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), activation, nn.Conv2d(4, channels, 1), gate)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.squeeze(x)


class Inverted(nn.Module):
    """MobileNet and EfficientNet: inverted residuals, depthwise convolutions, squeeze and excitation."""

    class Block(nn.Module):
        def __init__(self, channels: int, kernel: int, activation: type[nn.Module], gate: nn.Module):
            super().__init__()
            wide = 3 * channels
            self.layers = nn.Sequential(
                conv_bn(channels, wide, 1, activation()),
                conv_bn(wide, wide, kernel, activation(), groups=wide),
                Gate(wide, nn.ReLU() if activation is nn.Hardswish else activation(), gate),
                conv_bn(wide, channels, 1, nn.Identity()),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.layers(x)

    def __init__(self, activation: type[nn.Module], gate: type[nn.Module]):
        super().__init__()
        self.stem = conv_bn(3, 6, 3, activation(), stride=2)
        self.blocks = nn.Sequential(self.Block(6, 3, activation, gate()), self.Block(6, 5, activation, gate()))
        self.last = conv_bn(6, 20, 1, activation())
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 12), activation(), nn.Linear(12, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x))))


class Shuffle(nn.Module):
    """ShuffleNet: channels split, one half through depthwise convolutions, channels shuffled."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 12, stride=2), nn.MaxPool2d(3, 2, 1))
        self.branch = nn.Sequential(
            *(conv_bn(6, 6, 1), conv_bn(6, 6, 3, nn.Identity(), groups=6), conv_bn(6, 6, 1)),
        )
        self.last = conv_bn(12, 16, 1)
        self.head = Head(16)

    @staticmethod
    def shuffle(x: Tensor, groups: int = 2) -> Tensor:
        n, channels, height, width = x.shape
        return x.view(n, groups, channels // groups, height, width).transpose(1, 2).reshape(n, channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = self.stem(x).chunk(2, 1)
        return self.head(self.last(self.shuffle(torch.cat([kept, self.branch(changed)], 1))))


class Grouped(nn.Module):
    """ResNeXt and RegNet: grouped convolutions of several widths, some strided, with ReLU6."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 16, stride=2, activation=nn.ReLU6())
        self.first = conv_bn(16, 16, groups=4)
        self.second = conv_bn(16, 24, groups=2, stride=2)
        self.third = conv_bn(24, 24, groups=8, activation=nn.Identity())
        self.head = Head(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.stem(x)))
        return self.head(F.relu(x + self.third(x)))


class Pyramid(nn.Module):
    """DeepLab and feature pyramids: dilated branches, global context resized back, nearest and bilinear upsampling."""

    def __init__(self):
        super().__init__()
        self.fine = conv_bn(3, 8)
        self.coarse = conv_bn(8, 12, stride=2)
        self.branches = nn.ModuleList(conv_bn(12, 6, 3, dilation=d, padding=d) for d in (1, 2, 3))
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU())
        self.project = conv_bn(24, 8, 1)
        self.lateral = nn.Conv2d(8, 8, 1)
        self.mix = conv_bn(16, 8)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        x = self.coarse(fine)
        found = [each(x) for each in self.branches]
        found.append(F.interpolate(self.context(x), size=(8, 8), mode="bilinear", align_corners=False))
        x = self.project(torch.cat(found, 1))
        nearest = F.interpolate(x, scale_factor=2, mode="nearest") + self.lateral(fine)
        smooth = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(self.mix(torch.cat([nearest, smooth], 1)))


class UNet(nn.Module):
    """U-Net: transposed convolutions, skip connections, a score for every pixel."""

    def __init__(self):
        super().__init__()
        self.down = conv_bn(3, 6)
        self.pool = nn.MaxPool2d(2)
        self.middle = nn.Sequential(conv_bn(6, 10, stride=2), conv_bn(10, 10))
        self.up1 = nn.ConvTranspose2d(10, 8, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(14, 6, 3, stride=2, padding=1, output_padding=1)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.down(x)
        low = self.pool(top)
        low = torch.cat([low, F.relu(self.up1(self.middle(low)))], 1)
        return self.last(torch.cat([top, F.relu(self.up2(low))], 1))


class Signal(nn.Module):
    """A 1-D network, as for electrocardiograms."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv1d(2, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(3, 2, 1)),
            *(nn.Conv1d(8, 12, 5, padding=4, dilation=2), nn.BatchNorm1d(12), nn.LeakyReLU(0.1), nn.AvgPool1d(2)),
        )
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Volume(nn.Module):
    """A 3-D network, as for computed tomography."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv3d(1, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2)),
            *(nn.Conv3d(6, 10, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(10), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(10, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Norms(nn.Module):
    """Instance and group normalisation with the activations of segmentation networks."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.01)),
            *(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.GroupNorm(3, 12), nn.PReLU(12)),
            *(nn.Conv2d(12, 12, 3, padding=1), nn.InstanceNorm2d(12), nn.ELU(0.7)),
        )
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


class GroupNorms(nn.Module):
    """Groups of six channels, which straddle blocks of channels, one group of all, and a normalisation without
    weights, with the activations of the U-Nets of diffusion models."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 18, 3, padding=1)
        self.block = nn.Sequential(
            *(nn.GroupNorm(3, 18), nn.SiLU(), nn.Conv2d(18, 18, 3, padding=1)),
            *(nn.GroupNorm(9, 18), nn.ReLU(), nn.Conv2d(18, 18, 3, padding=1)),
        )
        self.down = nn.Sequential(
            *(nn.Conv2d(18, 20, 3, stride=2, padding=1), nn.GroupNorm(1, 20), nn.GELU()),
            *(nn.Conv2d(20, 12, 1), nn.GroupNorm(2, 12, affine=False), nn.Sigmoid()),
        )
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.down(x + self.block(x)))


class Attention(nn.Module):
    """Self-attention written out, as timm does without a fused kernel."""

    def __init__(self, width: int, heads: int, fused: bool = False):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.project(x.transpose(1, 2).reshape(n, tokens, width))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, attention: nn.Module):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-6)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Vision transformer: patches, class token, positions, two blocks."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(0.5 * torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(
            TransformerBlock(16, Attention(16, 2)), TransformerBlock(16, Attention(16, 4, fused=True))
        )
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Windows(nn.Module):
    """Swin: attention in shifted windows with a mask and relative positions, patches merged."""

    class Attention(nn.Module):
        def __init__(self, width: int, side: int, shift: int):
            super().__init__()
            self.shift = shift
            self.inner = Attention(width, 2)
            self.positions = nn.Parameter(torch.randn(2, 16, 16))
            region = torch.zeros(1, side, side)
            for i, rows in enumerate((slice(0, -4), slice(-4, -shift), slice(-shift, None))):
                for j, columns in enumerate((slice(0, -4), slice(-4, -shift), slice(-shift, None))):
                    region[:, rows, columns] = 3 * i + j
            labels = self.cut(region[..., None])[..., 0]
            apart = labels[:, None] != labels[:, :, None]
            self.register_buffer("mask", torch.where(apart, -100.0, 0.0))

        def cut(self, x: Tensor) -> Tensor:
            """(N, H, W, C) -> (N windows, 16, C)"""
            n, height, width, channels = x.shape
            x = x.view(n, height // 4, 4, width // 4, 4, channels).transpose(2, 3)
            return x.reshape(-1, 16, channels)

        def forward(self, x: Tensor) -> Tensor:
            n, height, width, channels = x.shape
            inner = self.inner
            windows = self.cut(torch.roll(x, (-self.shift, -self.shift), (1, 2)))
            q, k, v = inner.qkv(windows).reshape(-1, 16, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
            scores = q * (channels // 2) ** -0.5 @ k.transpose(-2, -1) + self.positions
            count = self.mask.shape[0]
            scores = scores.view(n, count, 2, 16, 16) + self.mask[None, :, None]
            found = scores.view(-1, 2, 16, 16).softmax(-1) @ v
            found = inner.project(found.transpose(1, 2).reshape(-1, 16, channels))
            found = (
                found.view(n, height // 4, width // 4, 4, 4, channels)
                .transpose(2, 3)
                .reshape(n, height, width, channels)
            )
            return torch.roll(found, (self.shift, self.shift), (1, 2))

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 2, stride=2)
        self.block = TransformerBlock(12, self.Attention(12, 8, 2))
        self.merge = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 20, bias=False))
        self.last = nn.LayerNorm(20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.patches(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.head(self.last(self.merge(x)).mean((1, 2)))


class ConvNext(nn.Module):
    """ConvNeXt: 7x7 depthwise, LayerNorm over channels, GELU, a scale for every channel."""

    class Block(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
            self.layers = nn.Sequential(
                *(nn.LayerNorm(channels, eps=1e-6), nn.Linear(channels, 3 * channels), nn.GELU()),
                nn.Linear(3 * channels, channels),
            )
            self.scale = nn.Parameter(torch.rand(channels, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.scale * self.layers(self.depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class Norm(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 2, stride=2), self.Norm(12))
        self.first = self.Block(12)
        self.reduce = nn.Sequential(self.Norm(12), nn.Conv2d(12, 16, 2, stride=2))
        self.second = self.Block(16)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), self.Norm(16), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.reduce(self.first(self.stem(x)))))


class PreActivation(nn.Module):
    """BatchNorms that no convolution can take in: after a sum, a pool, a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(16)
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1)
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv1(F.relu(self.norm1(x)))
        pooled = F.max_pool2d(x, 2)
        return self.head(F.relu(self.norm3(torch.cat([pooled, self.conv2(F.silu(self.norm2(pooled)))], 1))))


class Fire(nn.Module):
    """SqueezeNet: squeeze and expand, a convolution as classifier, pools that round up."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True))
        self.squeeze = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.narrow = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
        self.classify = nn.Sequential(
            nn.Dropout(), nn.Conv2d(16, 5, 1), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(self.stem(x))
        return self.classify(torch.cat([self.narrow(x), self.wide(x)], 1))


class Cbam(nn.Module):
    """Attention over channels and over positions, by means and maxima."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 8), conv_bn(8, 12, stride=2))
        self.shared = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 12))
        self.position = nn.Conv2d(2, 1, 5, padding=2)
        self.last = conv_bn(12, 12)
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        gate = torch.sigmoid(self.shared(x.mean((2, 3))) + self.shared(x.amax((2, 3))))
        x = x * gate[:, :, None, None]
        x = x * torch.sigmoid(self.position(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))
        return self.head(self.last(x))


IMAGE, SMALL = (3, 16, 16), (3, 12, 12)
# name: network, module of the layer, shape of a row, how the layer becomes planes, is there a file of both exporters
NETWORKS = {
    "residual": (Residual, "blocks", (3, 24, 24), "as_planes", True),
    "dense": (Dense, "second", IMAGE, "as_planes", True),
    "vgg": (Vgg, "features", IMAGE, "as_planes", False),
    "inception": (Inception, "pooled", (3, 17, 15), "as_planes", False),
    "mobilenet": (lambda: Inverted(nn.Hardswish, nn.Hardsigmoid), "blocks", IMAGE, "as_planes", True),
    "efficientnet": (lambda: Inverted(nn.SiLU, nn.Sigmoid), "blocks", IMAGE, "as_planes", True),
    "shuffle": (Shuffle, "last", (3, 18, 18), "as_planes", False),
    "grouped": (Grouped, "second", (3, 15, 17), "as_planes", False),
    "pyramid": (Pyramid, "project", IMAGE, "as_planes", False),
    "unet": (UNet, "middle", SMALL, "as_planes", True),
    "signal": (Signal, "features", (2, 61), "as_planes", False),
    "volume": (Volume, "features", (1, 8, 10, 10), "as_planes", False),
    "norms": (Norms, "layers", IMAGE, "as_planes", True),
    "groupnorms": (GroupNorms, "block", IMAGE, "as_planes", False),
    "vit": (Vit, "blocks.1.norm1", IMAGE, "tokens_as_planes", True),
    "windows": (Windows, "merge", IMAGE, "channels_last_as_planes", True),
    "convnext": (ConvNext, "second", IMAGE, "as_planes", True),
    "preactivation": (PreActivation, "norm3", SMALL, "as_planes", False),
    "fire": (Fire, "wide", IMAGE, "as_planes", False),
    "cbam": (Cbam, "last", SMALL, "as_planes", False),
}
