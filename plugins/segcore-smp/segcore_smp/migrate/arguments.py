"""Arguments of a call: which parameter of SMP's each is for, what it is worth, and how a new call is written."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst import matchers

from segcore_smp.losses.constants import BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE
from segcore_smp.migrate.names import OLD

MODES = {
    f"{OLD}.losses{module}.{name}": value
    for module in ("", ".constants")
    for name, value in (
        ("BINARY_MODE", BINARY_MODE),
        ("MULTICLASS_MODE", MULTICLASS_MODE),
        ("MULTILABEL_MODE", MULTILABEL_MODE),
    )
}
Resolve = Callable[[cst.BaseExpression], str | None]


class LeftError(Exception):
    """A call cannot be rewritten with certainty; the message is the reason."""


@dataclass(frozen=True)
class Context:
    """What is known about values in a program.

    Attributes:
        constants: names of the module that are assigned once, to a literal.
        meaning: gives the name in SMP that an expression stands for, or None.
    """

    constants: Mapping[str, Any]
    meaning: Resolve


@dataclass
class Arguments:
    """The arguments of one call by the names of SMP's parameters.

    Attributes:
        given: what the program gives.
        defaults: what SMP takes for the others.
    """

    given: dict[str, cst.Arg]
    defaults: dict[str, Any]
    context: Context

    @classmethod
    def of(cls, call: cst.Call, function: Callable[..., Any], context: Context) -> Arguments:
        """Sort the arguments of a call.

        Raises:
            LeftError: some come from ``*`` or ``**``, or the function takes no such parameter.
        """
        parameters = {
            name: parameter
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        names, given = list(parameters), {}
        for index, arg in enumerate(call.args):
            if arg.star:
                raise LeftError(f"arguments come from {arg.star}")
            name = arg.keyword.value if arg.keyword else names[index] if index < len(names) else "?"
            if name not in parameters or name in given:
                raise LeftError(f"it has no argument {name!r}, which SMP swallows or passes on to the encoder")
            given[name] = arg
        defaults = {name: parameter.default for name, parameter in parameters.items() if name not in given}
        for name, value in defaults.items():
            if value is inspect.Parameter.empty:
                raise LeftError(f"the argument {name!r} is missing")
        return cls(given, defaults, context)

    def value(self, name: str) -> Any:
        """Return what a parameter is worth.

        Raises:
            LeftError: it is not a literal, nor a constant that the program assigns once.
        """
        if name not in self.given:
            return self.defaults[name]
        node = self.given[name].value
        meaning = self.context.meaning(node)
        if meaning in MODES:
            return MODES[meaning]
        if isinstance(node, cst.Name) and node.value in self.context.constants:
            return self.context.constants[node.value]
        try:
            return ast.literal_eval(cst.Module([]).code_for_node(node).strip())
        except (ValueError, SyntaxError, TypeError):
            raise LeftError(f"{name} is computed, so that its value is not known here") from None

    def only_defaults(self, names: Iterable[str], why: str) -> None:
        """Raise LeftError unless these parameters have SMP's defaults."""
        for name in names:
            if name in self.given and self.value(name) != self._default(name):
                raise LeftError(f"{name}: {why}")

    def _default(self, name: str) -> Any:
        return self.defaults.get(name, _DEFAULTS.get(name))


_DEFAULTS: dict[str, Any] = {"from_logits": True, "log_loss": False, "normalized": False, "gamma": 1.0, "eps": 1e-7}


def keyword(name: str, value: cst.BaseExpression | str, like: cst.Arg | None = None) -> cst.Arg:
    """Return ``name=value`` as an argument, with the comma and the spaces of another one."""
    node = cst.parse_expression(value) if isinstance(value, str) else value
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    arg = like or cst.Arg(node)
    return arg.with_changes(keyword=cst.Name(name), equal=equal, value=node)


def written(call: cst.Call, function: str, args: list[cst.Arg]) -> cst.Call:
    """Return a call with the layout of another one, whose arguments were used for its own.

    Raises:
        LeftError: a comment of the other one would be lost.
    """
    between = call.whitespace_before_args
    if isinstance(between, cst.ParenthesizedWhitespace):
        between = between.with_changes(first_line=cst.TrailingWhitespace(cst.SimpleWhitespace("")), empty_lines=())
    else:
        between = cst.SimpleWhitespace(" ")
    closing = call.args[-1] if call.args else cst.Arg(cst.Name("_"))
    spaced = [_followed(arg, between, at_end=_end(arg) == _end(closing)) for arg in args[:-1]]
    end = args[-1].with_changes(comma=closing.comma, whitespace_after_arg=closing.whitespace_after_arg)
    if isinstance(between, cst.ParenthesizedWhitespace) and _end(args[-1]) != _end(closing):
        end = _closed(end)
    new = call.with_changes(func=cst.parse_expression(function), args=[*spaced, end])
    if _comments(new) != _comments(call):
        raise LeftError("a comment stands at an argument that would go")
    return new


def _end(arg: cst.Arg) -> tuple[int, int]:
    """Return what tells the end of one argument from that of another."""
    return id(arg.comma) if isinstance(arg.comma, cst.Comma) else 0, id(arg.whitespace_after_arg)


def _followed(arg: cst.Arg, between: cst.BaseParenthesizableWhitespace, *, at_end: bool) -> cst.Arg:
    """Return an argument with a comma after it; one that stood at the end keeps its comment."""
    if isinstance(arg.comma, cst.Comma) and not at_end:
        return arg
    after = arg.comma.whitespace_after if isinstance(arg.comma, cst.Comma) else arg.whitespace_after_arg
    if isinstance(between, cst.ParenthesizedWhitespace) and isinstance(after, cst.ParenthesizedWhitespace):
        between = between.with_changes(first_line=after.first_line, empty_lines=after.empty_lines)
    return arg.with_changes(comma=cst.Comma(whitespace_after=between), whitespace_after_arg=cst.SimpleWhitespace(""))


def _closed(arg: cst.Arg) -> cst.Arg:
    """Return the last argument with its line break, without a comment that belongs to another one."""
    plain = cst.TrailingWhitespace(cst.SimpleWhitespace(""))
    if isinstance(arg.comma, cst.Comma) and isinstance(arg.comma.whitespace_after, cst.ParenthesizedWhitespace):
        after = arg.comma.whitespace_after.with_changes(first_line=plain, empty_lines=())
        return arg.with_changes(comma=arg.comma.with_changes(whitespace_after=after))
    if isinstance(arg.whitespace_after_arg, cst.ParenthesizedWhitespace):
        after = arg.whitespace_after_arg.with_changes(first_line=plain, empty_lines=())
        return arg.with_changes(whitespace_after_arg=after)
    return arg


def _comments(call: cst.Call) -> list[str]:
    return [node.value for node in matchers.findall(call, matchers.Comment()) if isinstance(node, cst.Comment)]
