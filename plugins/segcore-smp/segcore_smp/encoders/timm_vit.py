"""`TimmViTEncoder`: timm's transformers for DPT."""

# mypy: disable-error-code="no-untyped-def"

from typing import Any, Optional

import torch
from torch import Tensor, nn

import segcore
from segcore_smp.encoders.timm_universal import default_tag, timm_name, timm_options
from segcore_smp.view import View


def sample_block_indices_uniformly(n: int, total_num_blocks: int) -> list[int]:
    """Return `n` positions of blocks, evenly spaced, the last block included."""
    return [int(total_num_blocks / n * number) - 1 for number in range(1, n + 1)]


def validate_output_indices(output_indices: list[int], model_num_blocks: int, depth: int):  # noqa: ANN201, ARG001
    """Refuse positions that are no blocks.

    Raises:
        ValueError: a position out of range.
    """
    for index in output_indices:
        if not -model_num_blocks <= index < model_num_blocks:
            raise ValueError(f"the index {index} is out of range: the network has {model_num_blocks} blocks.")


def preprocess_output_indices(
    output_indices: Optional[list[int]],  # noqa: UP045
    model_num_blocks: int,
    depth: int,
) -> list[int]:
    """Return the positions of the blocks that give a map; None for evenly spaced ones.

    Raises:
        ValueError: no list, or a position out of range.
    """
    if output_indices is None:
        output_indices = sample_block_indices_uniformly(depth, model_num_blocks)
    if not isinstance(output_indices, list | tuple):
        raise ValueError(f"output_indices={output_indices!r}: a list, a tuple or None is needed.")  # noqa: TRY004
    validate_output_indices(output_indices, model_num_blocks, depth)
    return output_indices


class TimmViTEncoder(View):
    """A transformer of timm's that gives maps of one resolution and its class and register tokens.

    Args:
        name: timm's, with or without a tag.
        pretrained: load published weights.
        in_channels: channels of the image.
        depth: number of maps.
        output_indices: positions of the blocks that give them; None for evenly spaced ones.
        **kwargs: ``img_size``, ``drop_path_rate``.

    Raises:
        ValueError: an impossible depth or position.
        UnknownOptionError: another argument.
    """

    _is_torch_scriptable = False
    _is_torch_exportable = True
    _is_torch_compilable = True

    def __init__(  # noqa: ANN204
        self,
        name: str,
        pretrained: bool = True,
        in_channels: int = 3,
        depth: int = 4,
        output_indices: Optional[list[int]] = None,  # noqa: UP045
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth={depth!r}: at least one map is needed.")
        if kwargs.pop("output_stride", None) is not None:
            raise ValueError("output_stride: transformers of one resolution cannot be dilated.")
        if isinstance(output_indices, list | tuple) and len(output_indices) != depth:
            raise ValueError(f"output_indices={output_indices!r}: depth={depth} needs as many positions.")
        segcore.guard_torchvision()
        import timm  # takes seconds, and models of other families do without

        options = timm_options(name, kwargs)
        self.name = name
        plain: Any = timm.create_model(name, in_chans=in_channels, **options)
        if not hasattr(plain, "forward_intermediates"):
            raise ValueError(f"timm's {name!r} has no forward_intermediates(), which this encoder reads.")
        rows: Any = plain.feature_info
        if depth > len(rows):
            raise ValueError(f"depth={depth!r}: {name!r} has {len(rows)} blocks.")
        indices = preprocess_output_indices(output_indices, len(rows), depth)
        tree = nn.Module()
        tree.add_module("model", plain)
        self._show(tree)
        net = self._network(in_channels, depth, indices, rows, options)
        self.__dict__["_net"] = net
        self._unused = frozenset(self._beside(net))
        if pretrained:
            state = segcore.create_encoder(
                timm_name(name), weights=default_tag(name), in_channels=in_channels, **options
            )
            net.load_state_dict(state.state_dict())

        self.has_prefix_tokens = net.feature_info.prefix_tokens > 0
        self.output_strides = [rows[index]["reduction"] for index in indices]
        self.output_stride = self.output_strides[-1]
        self.out_channels = [rows[index]["num_chs"] for index in indices]
        self.in_channels = in_channels
        self.input_size = plain.pretrained_cfg.get("input_size", None)
        self.is_fixed_input_size = plain.pretrained_cfg.get("fixed_input_size", False)

    def _network(self, in_channels: int, depth: int, indices: list[int], rows: Any, options: dict[str, Any]) -> Any:
        """Return segcore's encoder of the name, with the tensors of timm's whole network."""
        pyramid = len({row["reduction"] for row in rows}) > 1
        where = {"depth": 5} if pyramid else {"out_indices": tuple(indices)}
        if pyramid and list(indices) != list(range(len(rows))):
            raise ValueError(f"{self.name!r} is a pyramid of {len(rows)} maps; depth={depth} of them cannot be chosen.")
        with torch.device("meta"):
            net = segcore.create_encoder(timm_name(self.name), in_channels=in_channels, **where, **options)
        paths = {_plain_path(path): path for path, _ in net.named_modules()}
        for shown, path in paths.items():
            try:
                twin = self._tree.get_submodule(shown)
            except AttributeError:
                continue  # a container of the feature network's own
            part = net.get_submodule(path)
            part._parameters, part._buffers = twin._parameters, twin._buffers
        if any(tensor.is_meta for tensor in net.parameters()) and not next(self._tree.parameters()).is_meta:
            raise segcore.IncompatiblePartsError(
                f"timm's feature network of {self.name!r} has other names than the whole."
            )
        return net

    def _beside(self, net: nn.Module) -> list[str]:
        """Return the names of tensors that no map needs, which are not trained."""
        computed = {id(value) for value in net.parameters()}
        found = [name for name, value in self.named_parameters() if id(value) not in computed]
        for name in found:
            self.get_parameter(name).requires_grad = False
        return found

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[Optional[torch.Tensor]]]:  # noqa: UP045
        """Return the maps, and the tokens of each, None where the network has none."""
        if self.has_prefix_tokens:
            features, tokens = self._net.forward_with_prefix(x)  # type: ignore[operator]
            return list(features[1:]), list(tokens)
        features = self._net(x)[1:]
        nothing: list[Tensor | None] = [None] * len(features)
        return features, nothing


def _plain_path(path: str) -> str:
    """Return the path in timm's whole network of a module of its feature network."""
    return path.replace("model.model", "model", 1).replace(".stages_", ".stages.").replace(".stem_", ".stem.")
