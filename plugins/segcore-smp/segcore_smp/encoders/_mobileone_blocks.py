"""Parts of MobileOne (https://arxiv.org/abs/2206.04040) for people's own networks, and the merging of its branches.

The encoders here are segcore's, of other blocks that merge alike.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class SEBlock(nn.Module):
    """Squeeze and excitation (https://arxiv.org/abs/1709.01507): scales each channel by a number from the whole map.

    Args:
        in_channels: channels C.
        rd_ratio: share of C inside; at least one channel must come of it.
    """

    def __init__(self, in_channels: int, rd_ratio: float = 0.0625) -> None:
        super().__init__()
        inner = int(in_channels * rd_ratio)
        self.reduce = nn.Conv2d(in_channels, inner, 1)
        self.expand = nn.Conv2d(inner, in_channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Turn (N, C, H, W) into the same shape."""
        mean = nn.functional.avg_pool2d(inputs, inputs.shape[-2:])
        return inputs * torch.sigmoid(self.expand(torch.relu(self.reduce(mean))))


class MobileOneBlock(nn.Module):
    """Parallel convolutions, each behind a batch norm, whose sum can be merged into one convolution.

    The branches: `num_conv_branches` convolutions; a 1x1 convolution beside larger ones; the input itself where shape
    and channels allow. Merging keeps the output where ``padding == kernel_size // 2``.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the convolutions.
        stride: of all convolutions.
        padding: of the convolutions; the 1x1 has none.
        dilation: of the one convolution of `inference_mode`; the branches ignore it.
        groups: of all convolutions.
        inference_mode: make one convolution instead of branches.
        use_se: put a `SEBlock` before the activation.
        num_conv_branches: number of equal branches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        inference_mode: bool = False,
        use_se: bool = False,
        num_conv_branches: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        self.inference_mode, self.num_conv_branches = inference_mode, num_conv_branches
        self.se = SEBlock(out_channels) if use_se else nn.Identity()
        self.activation = nn.ReLU()
        self.reparam_conv: nn.Module = nn.Identity()
        if inference_mode:
            self.reparam_conv = nn.Conv2d(
                in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups
            )
            return
        keeps = in_channels == out_channels and stride == 1
        self.rbr_skip = nn.BatchNorm2d(in_channels) if keeps else None
        self.rbr_conv = nn.ModuleList(self._branch(kernel_size, padding) for _ in range(num_conv_branches))
        self.rbr_scale = self._branch(1, 0) if kernel_size > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H', W')."""
        if self.inference_mode:
            x = self.reparam_conv(x)
        else:
            branches = (self.rbr_skip, self.rbr_scale, *self.rbr_conv)
            x = sum(branch(x) for branch in branches if branch is not None)
        return self.activation(self.se(x))  # type: ignore[no-any-return]

    def reparameterize(self) -> None:
        """Merge the branches into one convolution, with the statistics of eval mode; the block trains no more."""
        if self.inference_mode:
            return
        first: Any = self.rbr_conv[0]
        merged = nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, first.conv.padding, groups=self.groups
        ).to(first.conv.weight)
        with torch.no_grad():
            branches = (*self.rbr_conv, self.rbr_scale, self.rbr_skip)
            kernels, biases = zip(*(self._merge(branch) for branch in branches if branch is not None), strict=True)
            merged.weight.copy_(sum(kernels))
            merged.bias.copy_(sum(biases))  # type: ignore[union-attr]
        self.reparam_conv = merged
        self.requires_grad_(False)
        del self.rbr_conv, self.rbr_scale, self.rbr_skip
        self.inference_mode = True

    def _branch(self, kernel_size: int, padding: int) -> nn.Sequential:
        branch = nn.Sequential()
        branch.conv = nn.Conv2d(
            self.in_channels, self.out_channels, kernel_size, self.stride, padding, groups=self.groups, bias=False
        )
        branch.bn = nn.BatchNorm2d(self.out_channels)
        return branch

    def _merge(self, branch: Any) -> tuple[Tensor, Tensor]:
        """Return the weight, of the block's kernel size, and the bias of a convolution that computes as the branch."""
        norm: Any = branch if isinstance(branch, nn.BatchNorm2d) else branch.bn
        middle = self.kernel_size // 2
        if norm is branch:
            every = torch.arange(self.in_channels)
            inputs = self.in_channels // self.groups
            kernel = norm.weight.new_zeros(self.in_channels, inputs, self.kernel_size, self.kernel_size)
            kernel[every, every % inputs, middle, middle] = 1
        else:
            kernel = branch.conv.weight
            if kernel.shape[-1] != self.kernel_size:
                kernel = nn.functional.pad(kernel, [middle] * 4)
        deviation = (norm.running_var + norm.eps).sqrt()
        factor = (norm.weight / deviation)[:, None, None, None]
        return kernel * factor, norm.bias - norm.running_mean * norm.weight / deviation


def reparameterize_model(model: torch.nn.Module) -> nn.Module:
    """Return a copy of a model in which every MobileOne block is one convolution.

    Args:
        model: a `MobileOne`, a model with such an encoder, or any with modules that have ``reparameterize()``. The
            output of its eval mode stays, up to rounding.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        merge = getattr(module, "reparameterize", None)
        if merge is not None:
            merge()
    return model
