"""A module that shows another one under a different interface, with the same parameters, perhaps by other names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn


class View(nn.Module):
    """Holds the children of a `tree` as its own, so that parameters keep their names, and lets a `net` compute.

    Net and tree are one module, or share their parameters (see `share`). The net is no child: it would appear twice in
    the state dict.
    """

    _net: nn.Module
    _tree: nn.Module
    _renamed: Mapping[str, str] = {}

    def _show(self, tree: nn.Module, net: nn.Module | None = None) -> None:
        """Take over the children of a tree.

        Args:
            tree: has all modules.
            net: computes; the tree itself if None.
        """
        self.__dict__["_tree"] = tree
        self.__dict__["_net"] = tree if net is None else net
        for kind in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[kind] = tree.__dict__[kind]

    def _rename(self, renamed: Mapping[str, str]) -> None:
        """Set the names that parts of the tree have in state dicts: own path to shown path."""
        self.__dict__["_renamed"] = dict(renamed)

    def __prepare_scriptable__(self) -> View:
        """Refuse torch's script compiler, which cannot read the networks.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            f"{type(self).__name__} cannot be compiled by torch.jit.script, which torch has deprecated. Use "
            f"torch.export, torch.compile or torch.jit.trace."
        )

    def train(self, mode: bool = True) -> View:
        """Set the training mode, of the net too."""
        super().train(mode)
        for module in (self._net, self._tree):
            module.train(mode)
        return self

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return the state dict, with the shown names."""
        if not self._renamed:
            return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        own: Any = super().state_dict(keep_vars=keep_vars)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        for key, value in own.items():
            destination[prefix + self._shown(key)] = value
        for path, facts in own._metadata.items():
            destination._metadata[f"{prefix}{self._shown(path)}".rstrip(".")] = facts
        return destination

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if self._renamed:
            back = {shown: own for own, shown in self._renamed.items()}
            for key in [key for key in state_dict if key.startswith(prefix)]:
                own = _renamed(key.removeprefix(prefix), back)
                state_dict[prefix + own] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _shown(self, path: str) -> str:
        return _renamed(path, self._renamed)


def _renamed(path: str, names: Mapping[str, str]) -> str:
    """Return a dotted path whose longest known beginning is replaced."""
    words = path.split(".")
    for count in range(len(words), 0, -1):
        head = ".".join(words[:count])
        if head in names:
            return ".".join([names[head], *words[count:]])
    return path


def share(net: nn.Module, tree: nn.Module, *, replace: bool) -> nn.Module:
    """Give a net the parameters and buffers of a tree that has at least its modules; return the net.

    Args:
        net: built like the tree, perhaps with fewer modules or other strides.
        tree: keeps its own tensors.
        replace: put modules of the tree in place of equal ones of the net, so that hooks on them work. Not for a net
            whose modules have other strides.
    """
    for path, module in net.named_modules():
        twin = tree.get_submodule(path)
        module._parameters, module._buffers = twin._parameters, twin._buffers
    if replace:
        _replace(net, tree)
    return net


def _replace(net: nn.Module, tree: nn.Module) -> None:
    for name, child in net.named_children():
        twin = tree.get_submodule(name)
        if [path for path, _ in child.named_modules()] == [path for path, _ in twin.named_modules()]:
            net._modules[name] = twin
        else:
            _replace(child, twin)
