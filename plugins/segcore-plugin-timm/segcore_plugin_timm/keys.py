"""Finds the tensors of a network in a state dict that names them as a sibling of the network does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def _forms(key: str) -> list[str]:
    """Return what a key may be called: without the prefixes of wrappers, and with flattened containers."""
    forms = [key]
    for prefix in ("model.", "model.", "body."):
        if forms[-1].startswith(prefix):
            forms.append(forms[-1].removeprefix(prefix))
    return [form.replace(".", "_") for form in forms]


def match_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of `state` under the keys of `own`; those that `own` lacks are left out.

    timm names a tensor ``stages.0.conv.weight`` in a plain model, ``stages_0.conv.weight`` in a feature network, and
    puts ``model.`` or ``body.`` in front in some of those; SMP puts ``model.`` in front of that.
    """
    index: dict[str, str] = {}
    for key in state:
        for form in _forms(key):
            index.setdefault(form, key)
    found = {}
    for key in own:
        there = next((index[form] for form in _forms(key) if form in index), None)
        if there is not None:
            found[key] = state[there]
    return found


def fits(own: Mapping[str, Tensor], found: Mapping[str, Tensor], inputs: tuple[str, ...] = ()) -> bool:
    """Return whether every tensor of `own` was found in its shape.

    Args:
        own: the network's state dict.
        found: what `match_keys` gave.
        inputs: names of convolutions whose weights may have another number of input channels.
    """
    free = {f"{name}.weight" for name in inputs}
    for key, tensor in own.items():
        if key not in found:
            if not key.endswith("num_batches_tracked"):
                return False
            continue
        wanted, given = list(tensor.shape), list(found[key].shape)
        if key in free and len(wanted) == len(given) > 1:
            wanted[1] = given[1]
        if wanted != given:
            return False
    return True
