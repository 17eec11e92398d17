"""Every public name of SMP's models, encoders and base exists here, with the same signature. SMP is walked live."""

import importlib
import inspect
import pkgutil

import pytest
import segcore_smp
import segmentation_models_pytorch as smp

ROOT = "segmentation_models_pytorch"
MODULES = sorted(
    module.name
    for top in ("base", "decoders", "encoders")
    for module in pkgutil.walk_packages(importlib.import_module(f"{ROOT}.{top}").__path__, f"{ROOT}.{top}.")
    if not any(word.startswith("_") for word in module.name.split("."))
)


def public_names(module):
    """Yield the names that a module defines or, a package, gathers; not what it imports for its own use."""
    for name, value in vars(module).items():
        home = getattr(value, "__module__", "") or ""
        if name.startswith("_") or inspect.ismodule(value) or not home.startswith(ROOT):
            continue
        if home == module.__name__ or hasattr(module, "__path__"):
            yield name, value


def parameters(call):
    """Return the parameters of a signature; where the default is a class of SMP's or ours, with its name instead."""
    return [
        each.replace(default=each.default.__name__)
        if inspect.isclass(each.default) and each.default.__module__.partition(".")[0] in {ROOT, "segcore_smp"}
        else each
        for each in inspect.signature(call).parameters.values()
    ]


def test_the_walk_finds_smp():
    assert len(MODULES) > 50
    assert {f"{ROOT}.decoders.unet.model", f"{ROOT}.base.modules", f"{ROOT}.encoders.resnet"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_exists_with_its_signature(module):
    theirs = importlib.import_module(module)
    here = importlib.import_module(module.replace(ROOT, "segcore_smp", 1))
    missing = []
    for name, value in public_names(theirs):
        if not hasattr(here, name):
            missing.append(name)
            continue
        own = getattr(here, name)
        assert inspect.isclass(own) == inspect.isclass(value), name
        if name in {"SMPHubMixin", "from_pretrained", "supports_config_loading", "T"}:
            continue  # SMP inherits these signatures from huggingface_hub, whose version they depend on
        assert parameters(own) == parameters(value), name
        returns = {str(inspect.signature(each).return_annotation) for each in (own, value)}  # a TypeVar by its name
        assert len(returns) == 1, (name, returns)
    assert missing == []


def test_names_at_the_top():
    assert set(smp.__all__) <= set(segcore_smp.__all__)
    for name in dir(smp):
        assert name.startswith("_") or hasattr(segcore_smp, name), name
    assert list(segcore_smp.MODEL_ARCHITECTURES_MAPPING) == list(smp.MODEL_ARCHITECTURES_MAPPING)
    with pytest.raises(AttributeError, match="no attribute 'Unett'"):
        segcore_smp.Unett  # noqa: B018


@pytest.mark.parametrize("name", smp.MODEL_ARCHITECTURES_MAPPING)
def test_methods_of_models(name):
    theirs, own = smp.MODEL_ARCHITECTURES_MAPPING[name], segcore_smp.MODEL_ARCHITECTURES_MAPPING[name]
    methods = [key for key in dir(theirs) if not key.startswith("_") and not hasattr(object, key)]
    assert [key for key in methods if not hasattr(own, key)] == []
    for flag in ("requires_divisible_input_shape", "_is_torch_compilable", "_is_torch_exportable"):
        assert getattr(own, flag) == getattr(theirs, flag)
    hub = {"save_pretrained", "push_to_hub", "from_pretrained"}
    for key in hub:
        wanted = set(inspect.signature(getattr(theirs, key)).parameters)
        assert wanted - {"push_to_hub_kwargs"} <= set(inspect.signature(getattr(own, key)).parameters)


def test_the_table_of_encoders():
    theirs, own = smp.encoders.encoders, segcore_smp.encoders.encoders
    assert list(own) == list(theirs)
    assert segcore_smp.encoders.get_encoder_names() == smp.encoders.get_encoder_names()
    for name, row in theirs.items():
        assert own[name]["encoder"].__name__ == row["encoder"].__name__, name
        assert own[name]["pretrained_settings"] == row["pretrained_settings"], name
        assert own[name]["params"]["out_channels"] == row["params"]["out_channels"], name


def test_listing_plugins_loads_no_torch():
    import subprocess
    import sys

    code = "import segcore, segcore_smp, sys; segcore.list_plugins(); assert not {'torch', 'timm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("code", ["import segcore_smp as smp; smp.Unet('resnet18', encoder_weights=None)"])
def test_models_without_timm_load_no_timm(code):
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert 'timm' not in sys.modules"], check=True)
