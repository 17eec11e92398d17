"""`SegmentationModel`, the class of all twelve models and of those that people assemble themselves."""

# mypy: disable-error-code="no-untyped-call, attr-defined"

import re
import warnings
from collections.abc import Mapping
from typing import Any, Type, TypeVar  # noqa: UP035

import torch
from torch import Tensor, nn

import segcore
from segcore_smp.base import initialization
from segcore_smp.base.hub_mixin import SMPHubMixin
from segcore_smp.base.utils import is_torch_compiling

T = TypeVar("T", bound="SegmentationModel")

_MOVED = re.compile(r"regnet|res2|resnest|mobilenetv3|gernet")  # families whose keys lacked "model." before SMP 0.4


class SegmentationModel(SMPHubMixin, segcore.SegmentationModel):  # type: ignore[misc]
    """An encoder, a decoder and heads, which a subclass sets in its ``__init__``.

    The subclass sets ``encoder``, ``decoder``, ``segmentation_head`` and ``classification_head`` (or None), and calls
    `initialize` where decoder and heads are to be drawn as SMP draws them. The arguments of its ``__init__`` are
    recorded and make up `config`.

    Attributes:
        requires_divisible_input_shape: refuse images whose sides are no multiples of the encoder's stride.
    """

    _is_torch_scriptable = False
    _is_torch_exportable = True
    _is_torch_compilable = True
    requires_divisible_input_shape = True

    def __new__(cls: Type[T], *args, **kwargs) -> T:  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, UP006
        """Record the arguments."""
        instance = super().__new__(cls)
        instance._record(args, kwargs)
        return instance

    def __init__(self) -> None:
        nn.Module.__init__(self)  # the parts are set by the subclass
        self._is_encoder_frozen = False

    def initialize(self) -> None:
        """Draw decoder and heads at random."""
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)
        if self.classification_head is not None:
            initialization.initialize_head(self.classification_head)

    def check_input_shape(self, x: Tensor) -> None:
        """Refuse images whose sides are no multiples of the encoder's stride, where the model requires that.

        Raises:
            RuntimeError: the sides are no multiples; the message says to which size to pad.
        """
        if not self.requires_divisible_input_shape:
            return
        height, width = x.shape[-2:]
        stride: Any = self.encoder.output_stride
        padded = tuple(-(-side // stride) * stride for side in (height, width))
        if padded != (height, width):
            raise RuntimeError(
                f"Wrong input shape height={height}, width={width}: {type(self).__name__} takes sides that are "
                f"multiples of {stride}. Pad the images to {padded}."
            )

    def forward(self, x: Tensor) -> Any:
        """Return the mask (N, classes, H, W), or ``(mask, label)`` with a classification head."""
        if not (torch.jit.is_scripting() or torch.jit.is_tracing() or is_torch_compiling()):
            self.check_input_shape(x)
        features = self.encoder(x)
        masks = self.segmentation_head(self.decoder(features))
        if self.classification_head is not None:
            return masks, self.classification_head(features[-1])
        return masks

    @torch.inference_mode()
    def predict(self, x: Tensor) -> Any:
        """Return what ``forward`` gives in evaluation mode, without gradients; the model stays in that mode."""
        if self.training:
            self.eval()
        return self(x)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict, of older versions too; the given one is left as it is.

        Args:
            state_dict: tensors by name.
            strict: False leaves out what does not fit, sizes included, and says so in a warning.
            assign: keep the given tensors instead of copying them.
        """
        state = self._modern(dict(state_dict))
        if not strict:
            own = self.state_dict()
            misfits = [key for key in own if key in state and state[key].shape != own[key].shape]
            if misfits:
                lines = [f"{key}: {tuple(state.pop(key).shape)}, here {tuple(own[key].shape)}" for key in misfits]
                warnings.warn(
                    "these weights have other shapes and are left out, so that the model has to be trained: "
                    + "; ".join(lines),
                    stacklevel=2,
                )
        return super().load_state_dict(state, strict=strict, assign=assign)

    def _modern(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict under today's keys."""
        name = getattr(self.encoder, "name", "")
        if not _MOVED.match(name):
            return state
        found = {}
        for key, value in state.items():
            old = key.startswith("encoder.") and not key.startswith("encoder.model.")
            new = f"encoder.model.{key.removeprefix('encoder.')}" if old else key
            found[new.replace(".stages.", ".stages_") if "gernet" in name else new] = value
        return found

    def train(self: T, mode: bool = True) -> T:
        """Set the training mode; the norms of a frozen encoder stay in evaluation mode.

        Raises:
            ValueError: a mode that is no bool.
        """
        if not isinstance(mode, bool):
            raise ValueError(f"train({mode!r}): a bool is needed.")  # noqa: TRY004
        nn.Module.train(self, mode)
        if getattr(self, "_is_encoder_frozen", False):
            self._set_norms(mode=False)
        return self

    def freeze_encoder(self) -> None:
        """Stop training the encoder: no gradients, and norms in evaluation mode."""
        self._set_encoder_trainable(mode=False)

    def unfreeze_encoder(self) -> None:
        """Train the encoder again, its norms too."""
        self._set_encoder_trainable(mode=True)

    def _set_encoder_trainable(self, *, mode: bool) -> None:
        unused: frozenset[str] = getattr(self.encoder, "_unused", frozenset())
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad = mode and name not in unused
        self._set_norms(mode=mode)
        self._is_encoder_frozen = not mode

    def _set_norms(self, *, mode: bool) -> None:
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.train(mode)
