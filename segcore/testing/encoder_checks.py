"""Checks of encoders: light ones for every record, which cost no memory, and ones that compute."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore import create
from segcore.encoder import EncoderMixin
from segcore.errors import SegcoreError
from segcore.features import greatest_depth
from segcore.options import factory_of
from segcore.specs import EncoderSpec
from segcore.tensorfile import write_tensors
from segcore.testing import promises
from segcore.testing.promises import ODD_SIZE, SIZE

# --- without memory -------------------------------------------------------------------------------------------------


def features_match_the_record(spec: EncoderSpec) -> None:
    """At every depth, and with 1, 3 and 4 channels, the features have the declared channels and sizes."""
    for encoder, channels in _encoders_on_meta(spec):
        _check_features(encoder, torch.empty(1, channels, *_size(encoder, SIZE), device="meta"))


def odd_sizes_work(spec: EncoderSpec) -> None:
    """Sizes that no stride divides give features of the size rounded up or down."""
    encoder = _on_meta(spec)
    with promises.told("an image of 50 x 75 pixels fails: round sizes up, or declare size_multiple"):
        _check_features(encoder, _image_on_meta(encoder, ODD_SIZE))


def small_images_work(spec: EncoderSpec) -> None:
    """An image of one pixel of the deepest map gives features."""
    encoder = _on_meta(spec)
    side = encoder.strides[-1]
    with promises.told(f"an image of {side} x {side} pixels fails"):
        _check_features(encoder, _image_on_meta(encoder, (side, side)))


def output_strides_hold(spec: EncoderSpec) -> None:
    """Where several output strides are declared, each is built, with the same parameters."""
    if len(spec.output_strides) == 1:
        return
    plain = {key: value.shape for key, value in _on_meta(spec).state_dict().items()}
    for stride in spec.output_strides:
        with torch.device("meta"), promises.told(f"output stride {stride} is declared and not built"):
            encoder: Any = create.create_encoder(spec, output_stride=stride)
        assert encoder.output_stride == stride, f"asked for output stride {stride}, got {encoder.output_stride}"
        shapes = {key: value.shape for key, value in encoder.state_dict().items()}
        assert shapes == plain, f"with output stride {stride} the parameters differ, so weights would not fit"
        _check_features(encoder, _image_on_meta(encoder, SIZE))


def size_multiple_is_declared(spec: EncoderSpec) -> None:
    """The record says of which number the sides of an image must be a multiple."""
    built = _on_meta(spec).size_multiple
    assert built == spec.size_multiple, f"the record says {spec.size_multiple}, the encoder {built}"


def parameters_are_counted(spec: EncoderSpec) -> None:
    """The record's number of parameters, if it gives one, is that of the encoder at its greatest depth."""
    if spec.parameters is not None:
        count = sum(value.numel() for value in _on_meta(spec).parameters())
        assert count == spec.parameters, f"the record says {spec.parameters:_} parameters, the encoder has {count:_}"


def weights_are_pinned(spec: EncoderSpec) -> None:
    """Published weights have a checksum or a pinned revision, a licence, a source, and numbers for every channel."""
    for tag, weights in spec.weights.items():
        assert weights.problem() is None, f"{tag!r}: {weights.problem()}"
        assert len(weights.mean) == spec.in_channels, (
            f"{tag!r}: mean has {len(weights.mean)} numbers, the record's images have {spec.in_channels} channels"
        )


def encoder_keeps_no_loose_tensor(spec: EncoderSpec) -> None:
    """Every tensor that the encoder keeps is a parameter or a buffer."""
    promises.tensors_are_registered(_on_meta(spec))


def prefix_tokens_are_given(spec: EncoderSpec) -> None:
    """An encoder with prefix tokens gives them for every map below the image."""
    encoder = _on_meta(spec)
    wanted = encoder.feature_info.prefix_tokens
    if not wanted:
        return
    features, tokens = encoder.forward_with_prefix(_image_on_meta(encoder, SIZE))
    shapes = [tuple(token.shape) for token in tokens]
    assert shapes == [(1, wanted, feature.shape[1]) for feature in features[1:]], (
        f"{wanted} prefix tokens are declared; forward_with_prefix gives the shapes {shapes}"
    )


_last: list[tuple[EncoderSpec, Any]] = []


def _on_meta(spec: EncoderSpec) -> Any:
    """Return the encoder at its greatest depth on the meta device; the last one is kept for the next check."""
    if not _last or _last[0][0] is not spec:
        with torch.device("meta"):
            options: dict[str, Any] = {"depth": _greatest_depth(spec)} if _takes_depth(spec) else {}
            _last[:] = [(spec, create.create_encoder(spec, **options).eval())]
    return _last[0][1]


def _encoders_on_meta(spec: EncoderSpec) -> Iterator[tuple[Any, int]]:
    most = _greatest_depth(spec)
    for depth in range(1, most + 1) if _takes_depth(spec) else (None,):
        for channels in (1, 3, 4) if depth in {None, most} else (3,):
            options: dict[str, Any] = {} if depth is None else {"depth": depth}
            if (depth, channels) == (most, 3):
                yield _on_meta(spec), channels
                continue
            with torch.device("meta"):
                yield create.create_encoder(spec, in_channels=channels, **options), channels


def _greatest_depth(spec: EncoderSpec) -> int:
    return greatest_depth(spec.nominal_strides)


def _takes_depth(spec: EncoderSpec) -> bool:
    return "depth" in inspect.signature(factory_of(spec)).parameters


def _image_on_meta(encoder: Any, size: tuple[int, int]) -> Tensor:
    return torch.empty(1, encoder.in_channels, *_size(encoder, size), device="meta")


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


# --- with memory ----------------------------------------------------------------------------------------------------


def evaluation_is_deterministic(spec: EncoderSpec) -> None:
    """In evaluation mode the same image gives the same features, alone and in a batch."""
    promises.deterministic(*_encoder(spec, batch=3))


def evaluation_changes_nothing(spec: EncoderSpec) -> None:
    """Evaluating changes neither weights nor image, and an image of another size leaves no trace."""
    encoder, x = _encoder(spec)
    promises.nothing_lingers(encoder, x, torch.rand(1, encoder.in_channels, *_size(encoder, ODD_SIZE)))


def flat_images_are_finite(spec: EncoderSpec) -> None:
    """A black image gives finite features."""
    promises.flat_images_are_harmless(*_encoder(spec))


def every_parameter_learns(spec: EncoderSpec) -> None:
    """Every parameter gets a gradient at every depth, so distributed training works as it is."""
    most = _greatest_depth(spec)
    for depth in sorted({most, min(3, most)}, reverse=True) if _takes_depth(spec) else (None,):
        encoder, x = _encoder(spec, **({} if depth is None else {"depth": depth}))
        promises.parameters_get_gradients(encoder, x, encoder, f"at depth {depth}")


def image_gets_a_gradient(spec: EncoderSpec) -> None:
    """The gradient of the deepest feature reaches the image."""
    promises.the_image_gets_a_gradient(*_encoder(spec))


def one_image_trains(spec: EncoderSpec) -> None:
    """A batch of one image trains, and gives features of the same shapes as in evaluation."""
    encoder, x = _encoder(spec, batch=1)
    with torch.no_grad():
        wanted = [feature.shape for feature in encoder(x)]
    got = [feature.shape for feature in promises.one_image_trains(encoder, x)]
    assert got == wanted, f"in training the features have the shapes {got}, in evaluation {wanted}"


def half_precision_runs(spec: EncoderSpec) -> None:
    """The encoder runs under bfloat16 autocast and gives finite features."""
    promises.autocast_runs(*_encoder(spec))


def other_dtypes_run(spec: EncoderSpec) -> None:
    """With weights and images of float64 or bfloat16 the features are of that kind."""
    promises.dtypes_are_kept(*_encoder(spec))


def channels_last_is_equal(spec: EncoderSpec) -> None:
    """The channels_last memory format gives the same features."""
    promises.channels_last_is_the_same(*_encoder(spec))


def copies_are_equal(spec: EncoderSpec) -> None:
    """Deep copies and pickles, made after a step of training, give the same features."""
    promises.copies_are_the_same(*_encoder(spec))


def weights_round_trip(spec: EncoderSpec) -> None:
    """Weights that were saved as safetensors load, and give the same features."""
    encoder, x = _encoder(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_tensors(path, encoder.state_dict(), {})
        again = _load(spec, path, "its own weights do not load")
    with torch.no_grad():
        promises.same(again(x), encoder(x), "differs after saving and loading the weights")


def weights_fit_every_depth(spec: EncoderSpec) -> None:
    """Weights of the whole encoder load into a shallower one, and give the same features."""
    most = _greatest_depth(spec)
    if not _takes_depth(spec) or most == 1:
        return
    less = min(3, most - 1)
    encoder, x = _encoder(spec, depth=most)
    what = f"weights of depth {most} do not load at depth {less}; drop those of absent stages in convert_state_dict"
    shallow = _load(spec, encoder.state_dict(), what, depth=less)
    with torch.no_grad():
        features = shallow(x)
        promises.same(
            features, encoder(x)[: len(features)], f"differs at depth {less}, with the weights of depth {most}"
        )


def weights_fit_other_images(spec: EncoderSpec) -> None:
    """Weights of the whole encoder load for images with 1 and with 4 channels."""
    encoder, x = _encoder(spec)
    for channels in (1, 4):
        what = f"weights for {spec.in_channels} channels do not load for {channels}"
        other = _load(spec, encoder.state_dict(), what, in_channels=channels)
        with torch.no_grad():
            other(torch.rand(1, channels, *x.shape[-2:]))


def seed_decides_the_weights(spec: EncoderSpec) -> None:
    """Equal seeds of torch give equal weights, and other seeds others."""
    promises.the_seed_decides(lambda: create.create_encoder(spec))


def instances_are_independent(spec: EncoderSpec) -> None:
    """Two encoders share no tensor."""
    promises.instances_share_nothing(lambda: create.create_encoder(spec))


def builds_without_memory(spec: EncoderSpec) -> None:
    """The encoder builds on the meta device and has the same tensors there."""
    promises.meta_build_is_the_same(lambda: create.create_encoder(spec))


def compiles_whole(spec: EncoderSpec) -> None:
    """The encoder compiles as one graph with dynamic sizes, and gives equal features."""
    promises.compiles(*_encoder(spec))


def exports_whole(spec: EncoderSpec) -> None:
    """The encoder exports with torch.export, and gives equal features."""
    promises.exports(*_encoder(spec))


def _encoder(spec: EncoderSpec, batch: int = 2, **options: Any) -> tuple[Any, Tensor]:
    """Return the encoder in evaluation mode, always with the same weights, and images for it."""
    encoder: Any = promises.seeded(lambda: create.create_encoder(spec, **options))
    generator = torch.Generator().manual_seed(0)
    return encoder, torch.rand(batch, encoder.in_channels, *_size(encoder, SIZE), generator=generator)


def _load(spec: EncoderSpec, weights: Any, what: str, **options: Any) -> nn.Module:
    """Return the encoder with these weights; what they do not decide is drawn from another seed than `_encoder`'s."""
    try:
        return promises.seeded(lambda: create.create_encoder(spec, weights=weights, **options), seed=1)
    except SegcoreError as error:
        raise AssertionError(f"{what}: {error}") from error
