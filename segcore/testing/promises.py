"""Promises that every network keeps, encoder or model: what the checks of both kinds share.

Each function takes a module in evaluation mode, or a function that makes one, and an image; it raises AssertionError
with what is wrong and what to do.
"""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

SIZE = (64, 96)
ODD_SIZE = (50, 75)
Maker = Callable[[], nn.Module]


def flat(value: Any) -> list[Tensor]:
    """Return all tensors of an output, whatever its shape."""
    if isinstance(value, Tensor):
        return [value]
    return [item for part in (value.values() if isinstance(value, dict) else value) for item in flat(part)]


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever is raised meanwhile into an AssertionError that begins with this, and says the rest in one line."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise AssertionError(f"{what}: {type(error).__name__}: {first}") from error


def seeded(make: Maker, seed: int = 0) -> nn.Module:
    """Return a module made from this seed, in evaluation mode; the state of the generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def close(got: Any, wanted: Any, what: str, *, tolerance: float = 1e-4) -> None:
    """Raise unless two outputs are equal to within a tolerance."""
    pairs = list(zip(flat(got), flat(wanted), strict=True))
    for index, (one, two) in enumerate(pairs):
        where = f"output {index} " if len(pairs) > 1 else "the output "
        torch.testing.assert_close(one, two, rtol=10 * tolerance, atol=tolerance, msg=_said(where + what))


def _said(what: str) -> Callable[[str], str]:
    return lambda details: f"{what}: {' '.join(details.split())}"


def same(got: Any, wanted: Any, what: str) -> None:
    """Raise unless two outputs are the same, bit for bit."""
    for index, (one, two) in enumerate(zip(flat(got), flat(wanted), strict=True)):
        assert torch.equal(one, two), f"output {index} {what}"


def deterministic(module: nn.Module, images: Tensor) -> None:
    """The same image gives the same output, alone and in a batch."""
    with torch.no_grad():
        together, again, alone = module(images), module(images), module(images[1:2])
    same(
        again, together, "differs between two calls in evaluation mode: something random is not switched off by eval()"
    )
    one = [tensor[1:2] for tensor in flat(together)]
    close(alone, one, "depends on what else is in the batch")


def nothing_lingers(module: nn.Module, image: Tensor, other: Tensor) -> None:
    """Evaluating changes neither the weights nor the image, and an image of another size leaves no trace."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    kept = image.clone()
    with torch.no_grad():
        first = [tensor.clone() for tensor in flat(module(image))]
        assert torch.equal(image, kept), "forward changes the image in place: work on a copy"
        module(other)
        again = module(image)
    after = module.state_dict()
    changed = [key for key in before.keys() | after.keys() if not _equal(before.get(key), after.get(key))]
    assert not changed, f"evaluation changes the state dict: {sorted(changed)[:3]}"
    same(again, first, "differs after an image of another size: something made for a size is kept")


def _equal(one: Tensor | None, two: Tensor | None) -> bool:
    return one is not None and two is not None and torch.equal(one, two)


def flat_images_are_harmless(module: nn.Module, image: Tensor) -> None:
    """A black image gives finite outputs."""
    with torch.no_grad():
        for part in flat(module(torch.zeros_like(image))):
            assert torch.isfinite(part).all(), "the output for a black image is not finite: a division needs an eps"


def autocast_runs(module: nn.Module, image: Tensor) -> None:
    """Bfloat16 autocast gives finite outputs."""
    what = "does not run under bfloat16 autocast: bring the tensors that meet in forward to one dtype"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with told(what):
            parts = flat(module(image))
        for part in parts:
            assert torch.isfinite(part.float()).all(), "the output is not finite under bfloat16 autocast"


def dtypes_are_kept(module: nn.Module, image: Tensor) -> None:
    """Weights and images of float64 and of bfloat16 give outputs of that kind."""
    for dtype in (torch.float64, torch.bfloat16):
        with torch.no_grad(), told(f"does not run in {dtype}: make tensors in forward with the dtype of the image"):
            outputs = flat(module.to(dtype)(image.to(dtype)))
        wrong = {str(part.dtype) for part in outputs} - {str(dtype)}
        assert not wrong, f"in {dtype} the output is {', '.join(sorted(wrong))}"


def channels_last_is_the_same(module: nn.Module, image: Tensor) -> None:
    """The channels_last memory format gives the same output."""
    with torch.no_grad():
        plain = module(image)
        with told("does not run in channels_last: use reshape or flatten in place of view"):
            last = module.to(memory_format=torch.channels_last)(  # type: ignore[call-overload]
                image.contiguous(memory_format=torch.channels_last)
            )
    close(last, plain, "differs in channels_last", tolerance=1e-3)


def copies_are_the_same(module: nn.Module, image: Tensor) -> None:
    """Deep copies and pickles, made after a step of training, give the same output."""
    flat(module.train()(image))[-1].mean().backward()  # type: ignore[no-untyped-call]
    module.eval()
    with torch.no_grad():
        wanted = module(image)
        for how, make in (("a deep copy", copy.deepcopy), ("a pickle", _pickled)):
            with told(f"{how} cannot be made; keep modules, numbers and texts"):
                other = make(module)
            same(other(image), wanted, f"of {how} differs")


def _pickled(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO(pickle.dumps(module))
    return pickle.load(buffer)  # type: ignore[no-any-return] # noqa: S301 - made in the line above


def the_seed_decides(make: Maker) -> None:
    """Equal seeds give equal weights, and other seeds others."""
    one, again, other = (dict(seeded(make, seed).named_parameters()) for seed in (0, 0, 1))
    differing = [key for key in one if not torch.equal(one[key], again[key])]
    assert not differing, f"torch.manual_seed does not decide these weights: {differing[:3]}"
    assert any(not torch.equal(one[key], other[key]) for key in one) or not one, (
        "every seed gives the same weights: do not call torch.manual_seed when a network is made"
    )


def instances_share_nothing(make: Maker) -> None:
    """Two networks have no tensor in common."""
    one, two = make(), make()
    storage = {tensor.data_ptr(): key for key, tensor in one.state_dict().items() if tensor.numel()}
    shared = [storage[value.data_ptr()] for value in two.state_dict().values() if value.data_ptr() in storage]
    assert not shared, f"two networks share {shared[:3]}: make modules in __init__, not in the class or in a default"
    assert not {id(part) for part in one.modules()} & {id(part) for part in two.modules()}, (
        "two networks share a module"
    )


def tensors_are_registered(module: nn.Module) -> None:
    """Every tensor that a network keeps is a parameter or a buffer, so it moves with the network."""
    loose = [
        f"{name}.{key}".lstrip(".")
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if not key.startswith("_") and _holds_tensor(value)
    ]
    assert not loose, f"{loose[:3]} would stay behind when the network moves: use register_buffer"


def _holds_tensor(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def one_image_trains(module: nn.Module, image: Tensor) -> Any:
    """A batch of one image runs in training mode; return the output."""
    with told("a batch of one image does not train: no norm layer after pooling to one pixel"):
        return module.train()(image)


def parameters_get_gradients(module: nn.Module, images: Tensor, among: nn.Module, where: str) -> None:
    """Every parameter gets a gradient."""
    outputs = flat(module.train()(images))
    torch.stack([part.float().square().mean() for part in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    unused = [key for key, value in among.named_parameters() if value.requires_grad and value.grad is None]
    assert not unused, f"{where}: these parameters get no gradient: {unused[:3]}; do not build them"


def the_image_gets_a_gradient(module: nn.Module, image: Tensor) -> None:
    """The gradient of the last output reaches the image."""
    image = image.clone().requires_grad_()
    output = flat(module(image))[-1]
    assert output.requires_grad, "the output has no gradient: something in forward is detached"
    output.square().mean().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None, "the gradient stops before the image: something in forward is detached"
    assert image.grad.abs().sum() > 0, "the gradient is zero at the image: something in forward is detached"


def meta_build_is_the_same(make: Maker) -> None:
    """The network builds without memory, with the same tensors."""
    real = make()
    with torch.device("meta"):
        twin = make()
    facts = [{key: (value.shape, value.dtype) for key, value in part.state_dict().items()} for part in (real, twin)]
    assert facts[0] == facts[1], "the build on the meta device has other parameters"
    places = {tensor.device.type for tensor in (*twin.parameters(), *twin.buffers())}
    assert places <= {"meta"}, f"some tensors are made on {', '.join(sorted(places - {'meta'}))}, whatever the device"


def compiles(module: nn.Module, image: Tensor) -> None:
    """The network compiles as one graph with dynamic sizes, and gives the same output."""
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad(), _silence(), told("does not compile as one graph"):
        got = compiled(image)
    torch._dynamo.reset()
    with torch.no_grad():
        close(got, module(image), "differs when it is compiled", tolerance=1e-5)


def exports(module: nn.Module, image: Tensor) -> None:
    """The network exports, and gives the same output."""
    with torch.no_grad(), _silence(), told("does not export"):
        program = torch.export.export(module, (image,), strict=False)
        got = program.module()(image)
    with torch.no_grad():
        close(got, module(image), "differs when it is exported", tolerance=1e-5)


class _silence(warnings.catch_warnings):  # noqa: N801 - a context, like its parent
    """Silences torch's own warnings about its own deprecations."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
