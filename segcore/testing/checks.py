"""The checks of the conformance kit: one function each, its sentence in the docstring, applied by what is declared.

A check gets a record and raises AssertionError, with what is wrong and what to do, where the promise is not kept.
"""

from __future__ import annotations

import copy
import inspect
import io
import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from segcore import create
from segcore.decoder import Decoder
from segcore.encoder import EncoderMixin
from segcore.errors import IncompatiblePartsError, OptionValueError
from segcore.features import FeatureInfo
from segcore.model import SegmentationModel
from segcore.options import factory_of
from segcore.owners import distribution_of, owner_of
from segcore.specs import DecoderSpec, EncoderSpec, as_json, kind_of, qualified_name
from segcore.testing.tiny import zoo

SIZE = (64, 96)
ODD_SIZE = (50, 75)

_PROBE = """
import sys, warnings
warnings.simplefilter("error")
from segcore.discovery import catalogue
plugin = catalogue.load({plugin!r})
assert plugin is not None, "no plugin of this namespace is installed"
assert plugin.status == "ok", plugin.reason
print(*sorted(name for name in {heavy!r} if name in sys.modules))
"""
_HEAVY = ("torch", "timm", "numpy", "torchvision", "transformers")


# --- plugins -------------------------------------------------------------------------------------------------------


def loads_without_warnings(plugin: str) -> None:
    """The plugin loads in a fresh process, with warnings as errors."""
    _probe(plugin)


def listing_is_light(plugin: str) -> None:
    """Asking the plugin for its records imports no heavy package."""
    heavy = _probe(plugin).split()
    assert not heavy, f"importing the plugin's light module imports {heavy}; import them where the network is"


def _probe(plugin: str) -> str:
    code = _PROBE.format(plugin=plugin, heavy=_HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1:]
    return done.stdout


# --- records -------------------------------------------------------------------------------------------------------


def record_is_plain(spec: EncoderSpec | DecoderSpec) -> None:
    """The record survives pickling and is plain data."""
    assert spec.problem() is None, spec.problem()
    assert pickle.loads(pickle.dumps(spec)) == spec, "the record differs after pickling"  # noqa: S301
    json.dumps(as_json(spec), allow_nan=False)


def name_is_free(spec: EncoderSpec | DecoderSpec) -> None:
    """The bare name belongs to no other published package."""
    assert spec.provenance is not None
    owner = None if "/" in spec.name else owner_of(str(kind_of(spec)), spec.name)
    mine = {spec.provenance.namespace, spec.provenance.distribution}
    assert owner is None or mine & {owner, distribution_of(owner)}, (
        f"{spec.name!r} belongs to {distribution_of(str(owner))}; choose another name, or begin it with "
        f"'{spec.provenance.namespace}/'"
    )


def options_are_explicit(spec: EncoderSpec | DecoderSpec) -> None:
    """The factory names every argument that it takes."""
    for parameter in inspect.signature(factory_of(spec)).parameters.values():
        assert parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}, (
            f"the factory takes *{parameter.name}, so misspelt options would be swallowed; name its arguments"
        )


# --- encoders, without memory ----------------------------------------------------------------------------------------


def features_match_the_record(spec: EncoderSpec) -> None:
    """At every depth, and with 1, 3 and 4 channels, the features have the declared channels and sizes."""
    for encoder, channels in _encoders_on_meta(spec):
        _check_features(encoder, torch.empty(1, channels, *_size(encoder, SIZE), device="meta"))


def odd_sizes_work(spec: EncoderSpec) -> None:
    """Sizes that no stride divides give features of the size rounded up or down."""
    with torch.device("meta"):
        encoder: Any = create.create_encoder(spec)
    _check_features(encoder, torch.empty(1, encoder.in_channels, *_size(encoder, ODD_SIZE), device="meta"))


def output_strides_hold(spec: EncoderSpec) -> None:
    """Every declared output stride is built; others are refused."""
    for stride in (8, 16, 32):
        if spec.output_strides == (stride,):
            continue
        try:
            with torch.device("meta"):
                encoder: Any = create.create_encoder(spec, output_stride=stride)
        except (OptionValueError, TypeError, IncompatiblePartsError):
            assert stride not in spec.output_strides, f"output stride {stride} is declared and refused"
            continue
        assert stride in spec.output_strides, f"output stride {stride} is built, but the record does not declare it"
        assert encoder.output_stride == stride, f"asked for output stride {stride}, got {encoder.output_stride}"
        _check_features(encoder, torch.empty(1, 3, *SIZE, device="meta"))


def _encoders_on_meta(spec: EncoderSpec) -> Iterator[tuple[Any, int]]:
    takes_depth = "depth" in inspect.signature(factory_of(spec)).parameters
    for depth in range(1, 6) if takes_depth else (None,):
        for channels in (1, 3, 4) if depth in {None, 5} else (3,):
            options: dict[str, Any] = {} if depth is None else {"depth": depth}
            with torch.device("meta"):
                yield create.create_encoder(spec, in_channels=channels, **options), channels


def _check_features(encoder: Any, x: Tensor) -> None:
    assert isinstance(encoder, EncoderMixin)
    assert isinstance(encoder, nn.Module)
    features = encoder.eval()(x)
    assert isinstance(features, list), f"forward must return a list of tensors, got {type(features).__name__}"
    assert len(features) == len(encoder.strides), (
        f"{len(encoder.strides)} maps are declared at depth {encoder.depth}, forward returns {len(features)}"
    )
    assert features[0].shape[-2:] == x.shape[-2:], "the first map must have the image's own resolution"
    for index, (feature, channels, stride) in enumerate(
        zip(features, encoder.out_channels, encoder.strides, strict=True)
    ):
        assert feature.shape[1] == channels, f"map {index} has {feature.shape[1]} channels, {channels} are declared"
        for given, got in zip(x.shape[-2:], feature.shape[-2:], strict=True):
            assert given // stride <= got <= -(-given // stride), (
                f"map {index} has size {got} for an image of {given}; stride {stride} is declared"
            )
    assert all(shallow <= deep for shallow, deep in pairwise(encoder.strides))


def _size(encoder: Any, size: tuple[int, int]) -> tuple[int, int]:
    multiple = encoder.size_multiple
    return tuple(-(-side // multiple) * multiple for side in size)


# --- encoders, with memory -------------------------------------------------------------------------------------------


def evaluation_is_deterministic(spec: EncoderSpec) -> None:
    """In evaluation mode the same image gives the same features, alone and in a batch."""
    encoder, x = _encoder(spec, batch=3)
    encoder.eval()
    with torch.no_grad():
        together, again, alone = encoder(x), encoder(x), encoder(x[1:2])
    for index, (first, second, single) in enumerate(zip(together, again, alone, strict=True)):
        assert torch.equal(first, second), f"map {index} differs between two calls in evaluation mode"
        torch.testing.assert_close(first[1:2], single, rtol=1e-3, atol=1e-4, msg=f"map {index} depends on the batch")


def every_parameter_learns(spec: EncoderSpec) -> None:
    """Every parameter gets a gradient at every depth, so distributed training works as it is."""
    for depth in (5, 3) if "depth" in inspect.signature(factory_of(spec)).parameters else (None,):
        encoder, x = _encoder(spec, **({} if depth is None else {"depth": depth}))
        encoder.train()
        torch.stack([feature.float().mean() for feature in encoder(x)]).sum().backward()  # type: ignore[no-untyped-call]
        unused = [name for name, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
        assert not unused, f"at depth {depth} these parameters get no gradient: {unused[:3]}; do not build them"


def one_image_trains(spec: EncoderSpec) -> None:
    """A batch of one image trains."""
    encoder, x = _encoder(spec, batch=1)
    encoder.train()(x)


def half_precision_runs(spec: EncoderSpec) -> None:
    """The encoder runs under bfloat16 autocast and gives finite features."""
    encoder, x = _encoder(spec)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for feature in encoder.eval()(x):
            assert torch.isfinite(feature.float()).all(), "a feature is not finite under bfloat16"


def channels_last_is_equal(spec: EncoderSpec) -> None:
    """The channels_last memory format gives the same features."""
    encoder, x = _encoder(spec)
    encoder.eval()
    with torch.no_grad():
        plain = encoder(x)
        last = encoder.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    for index, (one, two) in enumerate(zip(plain, last, strict=True)):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3, msg=f"map {index} differs in channels_last")


def copies_are_equal(spec: EncoderSpec) -> None:
    """Deep copies, pickles and state dicts give the same features."""
    encoder, x = _encoder(spec)
    encoder.eval()
    buffer = io.BytesIO()
    torch.save(encoder.state_dict(), buffer)
    buffer.seek(0)
    loaded: nn.Module = create.create_encoder(spec).eval()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    with torch.no_grad():
        wanted = encoder(x)[-1]
        for how, other in (
            ("a deep copy", copy.deepcopy(encoder)),
            ("a pickle", pickle.loads(pickle.dumps(encoder))),  # noqa: S301
            ("the state dict", loaded),
        ):
            assert torch.equal(other(x)[-1], wanted), f"{how} gives other features"


def compiles_whole(spec: EncoderSpec) -> None:
    """The encoder compiles as one graph with dynamic sizes, and gives equal features."""
    encoder, x = _encoder(spec)
    _check_compiled(encoder.eval(), x)


def _encoder(spec: EncoderSpec, batch: int = 2, **options: Any) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    encoder: Any = create.create_encoder(spec, **options)
    return encoder, torch.rand(batch, encoder.in_channels, *_size(encoder, SIZE))


def _check_compiled(module: nn.Module, *inputs: Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own deprecations
        for plain, got in zip(_flat(module(*inputs)), _flat(compiled(*inputs)), strict=True):
            torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-5, msg="compiled and eager differ")
    torch._dynamo.reset()


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [item for part in (value.values() if isinstance(value, dict) else value) for item in _flat(part)]


# --- decoders --------------------------------------------------------------------------------------------------------


def masks_have_the_image_size(spec: DecoderSpec) -> None:
    """With every encoder of the zoo the mask has the image's size, or the decoder refuses at construction."""
    for name, model in _models(spec):
        for size in (SIZE, ODD_SIZE):
            with torch.no_grad():
                mask = model.eval()(torch.rand(2, 3, *size))
            assert mask.shape == (2, 2, *size), f"{name}: the mask of a {size} image has the shape {tuple(mask.shape)}"
            assert torch.isfinite(mask).all(), f"{name}: the mask is not finite"


def declared_output_is_given(spec: DecoderSpec) -> None:
    """What forward returns has the declared channels and stride."""
    for name, model in _models(spec):
        decoder: Any = model.decoder
        x = torch.rand(1, 3, *SIZE)
        with torch.no_grad():
            out = _decode(model.eval(), x)
        if not isinstance(out, Tensor):
            continue  # a richer output, for a head of the decoder's own
        assert out.shape[1] == decoder.out_channels, f"{name}: {out.shape[1]} channels, {decoder.out_channels} declared"
        wanted = tuple(-(-side // decoder.output_stride) for side in SIZE)
        assert tuple(out.shape[-2:]) == wanted, (
            f"{name}: size {tuple(out.shape[-2:])}, the declared stride gives {wanted}"
        )


def decoder_parameters_learn(spec: DecoderSpec) -> None:
    """Every parameter of decoder and head gets a gradient with every encoder of the zoo."""
    for name, model in _models(spec):
        outputs = _flat(model.train()(torch.rand(2, 3, *SIZE)))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
        parts = nn.ModuleList([model.decoder, model.segmentation_head])
        unused = [key for key, value in parts.named_parameters() if value.requires_grad and value.grad is None]
        assert not unused, f"{name}: these parameters get no gradient: {unused[:3]}; do not build them"


def one_image_trains_the_decoder(spec: DecoderSpec) -> None:
    """A batch of one image trains, with every encoder of the zoo."""
    for name, model in _models(spec):
        try:
            model.train()(torch.rand(1, 3, *SIZE))
        except ValueError as error:
            raise AssertionError(f"{name}: {error}") from error


def decoder_builds_without_memory(spec: DecoderSpec) -> None:
    """The decoder builds on the meta device and has the same parameters there."""
    for name, encoder in zoo().items():
        try:
            decoder = create.create_decoder(spec, encoder)
        except IncompatiblePartsError:
            continue
        with torch.device("meta"):
            twin = create.create_decoder(spec, encoder)
        shapes = [{key: value.shape for key, value in part.state_dict().items()} for part in (decoder, twin)]
        assert shapes[0] == shapes[1], f"{name}: the meta build has other parameters"


def decoder_compiles_whole(spec: DecoderSpec) -> None:
    """Encoder, decoder and head compile as one graph with dynamic sizes, and give an equal mask."""
    _, model = next(_models(spec))
    _check_compiled(model.eval(), torch.rand(2, 3, *SIZE))


def decoder_asks_for_no_name(spec: DecoderSpec) -> None:
    """The decoder is built from channels and strides alone, and some encoder of the zoo suits it."""
    built = 0
    for encoder in zoo().values():
        info = encoder.feature_info
        try:
            create.create_decoder(spec, FeatureInfo(info.channels, info.strides, info.prefix_tokens))
        except IncompatiblePartsError:
            continue
        built += 1
    assert built, f"{qualified_name(spec)!r} refuses every encoder of the zoo"


def _models(spec: DecoderSpec) -> Iterator[tuple[str, SegmentationModel]]:
    torch.manual_seed(0)
    for name, encoder in zoo().items():
        try:
            decoder = create.create_decoder(spec, encoder)
        except IncompatiblePartsError:
            continue
        assert isinstance(decoder, Decoder), f"the factory must return a segcore.Decoder, got {type(decoder).__name__}"
        yield name, SegmentationModel(encoder, decoder, decoder.default_head(2))


def _decode(model: SegmentationModel, x: Tensor) -> Any:
    if model.decoder.reads_prefix_tokens:
        features, prefix = model.encoder.forward_with_prefix(x)  # type: ignore[operator]
        return model.decoder(features, prefix)
    return model.decoder(model.encoder(x))


PLUGIN_CHECKS: tuple[Callable[[str], None], ...] = (loads_without_warnings, listing_is_light)
RECORD_CHECKS: tuple[Callable[[Any], None], ...] = (record_is_plain, name_is_free, options_are_explicit)
LIGHT_ENCODER_CHECKS: tuple[Callable[[EncoderSpec], None], ...] = (
    features_match_the_record,
    odd_sizes_work,
    output_strides_hold,
)
HEAVY_ENCODER_CHECKS: tuple[Callable[[EncoderSpec], None], ...] = (
    evaluation_is_deterministic,
    every_parameter_learns,
    one_image_trains,
    half_precision_runs,
    channels_last_is_equal,
    copies_are_equal,
    compiles_whole,
)
DECODER_CHECKS: tuple[Callable[[DecoderSpec], None], ...] = (
    decoder_asks_for_no_name,
    masks_have_the_image_size,
    declared_output_is_given,
    decoder_parameters_learn,
    one_image_trains_the_decoder,
    decoder_builds_without_memory,
    decoder_compiles_whole,
)
