"""A part of SMP's networks beside ours."""

import importlib

import torch


def build(module, name, args, options):
    """Return SMP's and ours, made with one seed, with norms that have seen data."""
    made = []
    for root in ("segmentation_models_pytorch", "segcore_smp"):
        torch.manual_seed(1)
        made.append(getattr(importlib.import_module(f"{root}.{module}"), name)(*args, **options))
        spread(made[-1])
    return made


def spread(module):
    """Give norms weights and statistics that are not all alike."""
    for part in module.modules():
        if getattr(part, "running_var", None) is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if hasattr(part, "eps") and part.weight is not None:
            torch.nn.init.uniform_(part.weight, 0.5, 2)
            torch.nn.init.normal_(part.bias)


def run(module, inputs, training):
    """Return outputs, gradients of inputs and parameters, and the state after."""
    module.train(training)
    module.zero_grad()
    inputs = [x.clone().requires_grad_() if torch.is_tensor(x) else x for x in inputs]
    torch.manual_seed(2)
    outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    sum((x * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum() for x in outputs).backward()
    values = {f"output {index}": x.detach() for index, x in enumerate(outputs)}
    values |= {f"input {index}": x.grad for index, x in enumerate(inputs) if torch.is_tensor(x)}
    values |= {f"gradient of {name}": x.grad for name, x in module.named_parameters()}
    return values | {name: x.detach().clone() for name, x in module.state_dict().items()}


def compare(module, name, args, options, inputs, *, training):
    """Assert that keys, random weights, values, gradients and statistics are equal bit for bit."""
    theirs, own = build(module, name, args, options)
    assert list(own.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(own.state_dict()[key], value), key
    expected, got = run(theirs, inputs, training), run(own, inputs, training)
    assert list(got) == list(expected)
    for key, value in expected.items():
        if value is None:
            assert got[key] is None, key
        else:
            assert torch.equal(got[key], value), (key, (got[key] - value).abs().max())
