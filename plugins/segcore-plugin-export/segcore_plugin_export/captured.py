"""A model at one size of images as a graph of torch's operators without side effects, with constants kept apart.

The graph says nothing of memory layouts: copies that only change a layout are left out, and views become reshapes.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten

NORMS = (aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default)
COPIES = (aten.clone.default, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default)
VIEWS = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)
RESIZES = (aten.upsample_nearest2d.default, aten._upsample_nearest_exact2d.default, aten.upsample_bilinear2d.default)


class CaptureError(Exception):
    """The model cannot be written as a graph; the message says why."""


class Memory(dict[Any, Tensor]):
    """Constants that were computed from the model's own tensors, so that another size need not compute them again."""


class Captured:
    """A graph and its constants.

    Attributes:
        graph: the operators; constants are ``get_attr`` nodes.
        values: value of each constant by its name.
        memory: constants of all sizes.
        done: what was done, by kind.
        left: what could not be done, by kind.
    """

    def __init__(self, graph: fx.Graph, values: dict[str, Any], memory: Memory, own: set[int]) -> None:
        self.graph, self.values, self.memory = graph, values, memory
        self.done: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self._keys: dict[str, Any] = {name: id(value) if id(value) in own else None for name, value in values.items()}

    def calls(self, *targets: Any) -> Iterator[fx.Node]:
        """Yield the nodes that call one of these operators, in order; they may be replaced meanwhile."""
        for node in list(self.graph.nodes):
            if node.op == "call_function" and node.target in targets and not node._erased:
                yield node

    def value(self, node: object) -> Any:
        """Return the value of a constant, None for anything else."""
        return self.values[str(node.target)] if isinstance(node, fx.Node) and node.op == "get_attr" else None

    def constant(self, function: Callable[..., Any], *inputs: Any, before: fx.Node, remember: bool = True) -> fx.Node:
        """Return a node for ``function(*inputs)``, constants being given as nodes, everything else as it is."""
        given = [self.value(item) if isinstance(item, fx.Node) else item for item in inputs]
        keys = [self._keys[str(item.target)] if isinstance(item, fx.Node) else repr(item) for item in inputs]
        key = None if None in keys or not remember else (str(getattr(function, "__qualname__", function)), *keys)
        value = None if key is None else self.memory.get(key)
        if value is None:
            with torch.no_grad():
                value = function(*given)
            if key is not None:
                self.memory[key] = value
        name = f"constant_{len(self.values)}"
        self.values[name], self._keys[name] = value, key
        with self.graph.inserting_before(before):
            node = self.graph.create_node("get_attr", name)
        node.meta["val"] = value
        return node

    def call(self, target: Any, *arguments: Any, like: fx.Node | Tensor, before: fx.Node) -> fx.Node:
        """Return a new node in front of another; `like` has the shape of its result."""
        with self.graph.inserting_before(before):
            node = self.graph.call_function(target, arguments)
        node.meta["val"] = like.meta["val"] if isinstance(like, fx.Node) else like
        return node

    def replace(self, node: fx.Node, by: fx.Node) -> None:
        """Let all users of a node use another one."""
        node.replace_all_uses_with(by)
        self.graph.erase_node(node)

    def clean(self) -> None:
        """Remove what nobody uses."""
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in {"placeholder", "output"}:
                self.graph.erase_node(node)

    def module(self) -> fx.GraphModule:
        """Return the graph as a module that can be called."""
        self.clean()
        used = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        return fx.GraphModule({name: self.values[name] for name in used}, self.graph)


def capture(model: Callable[[Tensor], Any], own: Iterable[Tensor], x: Tensor, memory: Memory) -> Captured:
    """Run a model in evaluation mode on a tensor without numbers and record its operators.

    Args:
        model: what is run.
        own: its parameters and buffers, which stay as long as `memory`.
        x: says the shape.
        memory: constants of all sizes.

    Raises:
        CaptureError: if what the model does depends on the numbers, or an operator has no counterpart.
    """

    def run(image: Tensor) -> Any:  # a bound method would be unwrapped and then lack its argument
        return model(image)

    try:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            functional = torch.func.functionalize(run, remove="mutations")
            traced = make_fx(functional, tracing_mode="fake", _allow_non_fake_inputs=True)(x)
    except Exception as error:
        raise CaptureError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    values: dict[str, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            values[str(node.target)] = node.meta["val"] = operator.attrgetter(str(node.target))(traced)
    captured = Captured(traced.graph, values, memory, {id(tensor) for tensor in own})
    _simplify(captured)
    return captured


def _simplify(captured: Captured) -> None:
    captured.clean()
    for node in list(captured.graph.nodes):
        source = node.args[0] if node.op == "call_function" and node.args else None
        if not isinstance(source, fx.Node):
            continue
        if node.target in COPIES or (node.target in RESIZES and shape(node) == shape(source)):
            captured.replace(node, source)
        elif node.target is aten._to_copy.default:
            if node.meta["val"].dtype == source.meta["val"].dtype:
                captured.replace(node, source)
        elif node.target in VIEWS:
            if shape(node) == shape(source):
                captured.replace(node, source)
            else:
                node.target = aten.reshape.default
        elif node.target in {aten.as_strided.default, aten.as_strided_.default}:
            if _strides(node) != _strides(source):
                raise CaptureError("as_strided, which depends on the layout of memory")
            captured.replace(node, source)
    for node in list(captured.graph.nodes):
        if node.op == "call_function" and node.all_input_nodes and not node.kwargs:
            _fold_constant(captured, node)
    captured.clean()


def _strides(node: fx.Node) -> list[tuple[int, int]]:
    value = node.meta["val"]
    return [(size, stride) for size, stride in zip(value.shape, value.stride(), strict=True) if size > 1]


def _fold_constant(captured: Captured, node: fx.Node) -> None:
    """Compute a node whose inputs are all constant."""
    if any(item.op != "get_attr" for item in node.all_input_nodes) or any(_nested(item) for item in node.args):
        return
    target: Any = node.target
    captured.replace(node, captured.constant(target, *node.args, before=node))


def _nested(item: object) -> bool:
    return isinstance(item, list | tuple) and any(isinstance(part, fx.Node) for part in item)


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's result."""
    return tuple(node.meta["val"].shape)


def first_result(node: fx.Node) -> fx.Node | None:
    """Return the node that takes the first of several results, if no other is used."""
    users = list(node.users)
    if len(users) == 1 and users[0].target is operator.getitem and users[0].args[1] == 0:
        return users[0]
    return None


def is_sum(node: fx.Node) -> bool:
    """Return whether a node adds two results of one shape."""
    if node.target is not aten.add.Tensor or node.kwargs or len(node.args) != 2:
        return False
    left, right = node.args
    return isinstance(left, fx.Node) and isinstance(right, fx.Node) and shape(left) == shape(right)
