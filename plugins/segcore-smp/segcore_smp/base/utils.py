"""Whether torch is compiling."""

import torch


def is_torch_compiling():  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Return whether the caller is being compiled or exported."""
    return torch.compiler.is_compiling()
