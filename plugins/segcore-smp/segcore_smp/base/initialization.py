"""Random initialisation of decoders and heads, drawn in the order in which modules were registered."""

from torch import nn


def initialize_decoder(module):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Draw convolutions by Kaiming's rule (uniform, fan in) and linear layers by Xavier's; set norms and biases."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_uniform_(part.weight, mode="fan_in", nonlinearity="relu")
            _zero_bias(part)
        elif isinstance(part, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm | nn.InstanceNorm2d):
            if part.weight is not None:
                nn.init.ones_(part.weight)
            _zero_bias(part)
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            _zero_bias(part)


def initialize_head(module):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Draw linear layers and convolutions by Xavier's rule and set their biases to zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
            _zero_bias(part)


def _zero_bias(part: nn.Module) -> None:
    bias = getattr(part, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
