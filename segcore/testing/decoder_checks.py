"""Checks of decoders, each built for encoders of every shape."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore import create
from segcore.decoder import Decoder
from segcore.errors import IncompatiblePartsError
from segcore.features import FeatureInfo
from segcore.model import SegmentationModel
from segcore.options import factory_of, resolve_options
from segcore.specs import DecoderSpec, qualified_name
from segcore.tensorfile import TensorFile, write_tensors
from segcore.testing import promises
from segcore.testing.promises import ODD_SIZE, SIZE
from segcore.testing.tiny import TinyEncoder, zoo

CLASSES = 2
SMALL_SIZE = (32, 32)

# --- with every encoder of the zoo ----------------------------------------------------------------------------------


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


def masks_have_the_image_size(spec: DecoderSpec) -> None:
    """With every encoder of the zoo the mask has the image's size, or the decoder refuses at construction."""
    for name, model in _models(spec):
        for size in (SIZE, ODD_SIZE, SMALL_SIZE):
            what = f"{name}: an image of {size} fails: resize to the size of another map, not by a factor"
            with torch.no_grad(), promises.told(what):
                mask = model.eval()(torch.rand(2, 3, *size))
            assert mask.shape == (2, CLASSES, *size), (
                f"{name}: the mask of a {size} image has the shape {tuple(mask.shape)}"
            )
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
        parts = nn.ModuleList([model.decoder, model.segmentation_head])
        promises.parameters_get_gradients(model, torch.rand(2, 3, *SIZE), parts, name)


def one_image_trains_the_decoder(spec: DecoderSpec) -> None:
    """A batch of one image trains, with every encoder of the zoo."""
    for name, model in _models(spec):
        with _with(name):
            promises.one_image_trains(model, torch.rand(1, 3, *SIZE))


def decoder_builds_without_memory(spec: DecoderSpec) -> None:
    """The decoder builds on the meta device and has the same parameters there."""
    for name, encoder in zoo().items():
        with contextlib.suppress(IncompatiblePartsError), _with(name):
            promises.meta_build_is_the_same(functools.partial(create.create_decoder, spec, encoder))


# --- with one encoder -----------------------------------------------------------------------------------------------


def wishes_are_plain(spec: DecoderSpec) -> None:
    """What the decoder asks of an encoder are options by name, as plain data."""
    factory = factory_of(spec)
    if not isinstance(factory, type) or not issubclass(factory, Decoder):
        return
    wishes = factory.encoder_defaults(resolve_options(spec, factory, {}, first="features"))
    known = {"depth", "output_stride"}
    assert set(wishes) <= known, f"it asks for {sorted(set(wishes) - known)}; encoders share only {sorted(known)}"
    json.dumps(dict(wishes))


def every_head_is_offered(spec: DecoderSpec) -> None:
    """The default head gives as many channels as there are classes, and takes an activation."""
    encoder, decoder = _parts(spec)
    masks: list[Tensor] = []
    for classes, activation in ((1, None), (1, "sigmoid"), (5, None)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = decoder.default_head(classes, activation)
        with torch.no_grad():
            masks.append(SegmentationModel(encoder, decoder, head).eval()(_image()))
        count = masks[-1].shape[1]
        assert count == classes, f"{classes} classes were asked for, the mask has {count} channels"
    assert torch.allclose(masks[1], masks[0].sigmoid(), atol=1e-5), "the mask does not show the sigmoid"


def any_image_will_do(spec: DecoderSpec) -> None:
    """Images with one channel and with five give masks."""
    for channels in (1, 5):
        encoder, _ = _parts(spec)
        encoder.set_in_channels(channels)
        with promises.told(f"an encoder of images with {channels} channels is refused"):
            decoder = create.create_decoder(spec, encoder)
        model = SegmentationModel(encoder, decoder, decoder.default_head(CLASSES)).eval()
        with torch.no_grad():
            mask = model(torch.rand(2, channels, *SIZE))
        assert mask.shape == (2, CLASSES, *SIZE), f"with {channels} channels the mask has the shape {tuple(mask.shape)}"


def decoder_is_deterministic(spec: DecoderSpec) -> None:
    """In evaluation mode the same image gives the same mask, alone and in a batch."""
    promises.deterministic(_model(spec), _image(3))


def decoder_changes_nothing(spec: DecoderSpec) -> None:
    """Evaluating changes neither weights nor image, and an image of another size leaves no trace."""
    promises.nothing_lingers(_model(spec), _image(), torch.rand(1, 3, *ODD_SIZE))


def features_are_left_alone(spec: DecoderSpec) -> None:
    """The decoder changes neither the list of features nor a feature in it."""
    model = _model(spec)
    with torch.no_grad():
        inputs: Any = model.encoder(_image())
        if model.decoder.reads_prefix_tokens:
            inputs, prefix = model.encoder.forward_with_prefix(_image())  # type: ignore[operator]
        given, kept = list(inputs), [feature.clone() for feature in inputs]
        model.decoder(*((inputs, prefix) if model.decoder.reads_prefix_tokens else (inputs,)))
    assert len(inputs) == len(given), "the decoder changes the list of features: work on a copy"
    assert all(one is two for one, two in zip(inputs, given, strict=True)), "the decoder changes the list of features"
    promises.same(given, kept, "of the encoder is changed in place: do not use in-place functions on the features")


def flat_features_are_finite(spec: DecoderSpec) -> None:
    """A black image gives a finite mask."""
    promises.flat_images_are_harmless(_model(spec), _image())


def features_get_gradients(spec: DecoderSpec) -> None:
    """The gradient of the mask reaches the image through the decoder."""
    promises.the_image_gets_a_gradient(_model(spec), _image())


def decoder_half_precision_runs(spec: DecoderSpec) -> None:
    """The model runs under bfloat16 autocast and gives a finite mask."""
    promises.autocast_runs(_model(spec), _image())


def decoder_other_dtypes_run(spec: DecoderSpec) -> None:
    """With weights and images of float64 or bfloat16 the mask is of that kind."""
    promises.dtypes_are_kept(_model(spec), _image())


def decoder_channels_last_is_equal(spec: DecoderSpec) -> None:
    """The channels_last memory format gives the same mask."""
    promises.channels_last_is_the_same(_model(spec), _image())


def decoder_copies_are_equal(spec: DecoderSpec) -> None:
    """Deep copies and pickles, made after a step of training, give the same mask."""
    promises.copies_are_the_same(_model(spec), _image())


def decoder_weights_round_trip(spec: DecoderSpec) -> None:
    """Weights that were saved as safetensors load, and give the same mask."""
    model, again = _model(spec), _model(spec, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_tensors(path, model.state_dict(), {})
        again.load_state_dict(TensorFile(path).tensors(), strict=True)
    with torch.no_grad():
        promises.same(again(_image()), model(_image()), "differs after saving and loading the weights")


def decoder_seed_decides_the_weights(spec: DecoderSpec) -> None:
    """Equal seeds of torch give equal weights, and other seeds others."""
    encoder, _ = _parts(spec)
    promises.the_seed_decides(lambda: create.create_decoder(spec, encoder))


def decoder_instances_are_independent(spec: DecoderSpec) -> None:
    """Two decoders share no tensor."""
    encoder, _ = _parts(spec)
    promises.instances_share_nothing(lambda: create.create_decoder(spec, encoder))


def decoder_keeps_no_loose_tensor(spec: DecoderSpec) -> None:
    """Every tensor that the decoder keeps is a parameter or a buffer."""
    promises.tensors_are_registered(_model(spec).decoder)


def decoder_compiles_whole(spec: DecoderSpec) -> None:
    """Encoder, decoder and head compile as one graph with dynamic sizes, and give an equal mask."""
    promises.compiles(_model(spec), _image())


def decoder_exports_whole(spec: DecoderSpec) -> None:
    """Encoder, decoder and head export with torch.export, and give an equal mask."""
    promises.exports(_model(spec), _image())


# --- what they are built from ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _with(name: str) -> Iterator[None]:
    """Say with which encoder a promise was broken."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error


def _models(spec: DecoderSpec) -> Iterator[tuple[str, SegmentationModel]]:
    torch.manual_seed(0)
    for name, encoder in zoo().items():
        try:
            decoder = create.create_decoder(spec, encoder)
        except IncompatiblePartsError:
            continue
        assert isinstance(decoder, Decoder), f"the factory must return a segcore.Decoder, got {type(decoder).__name__}"
        yield name, SegmentationModel(encoder, decoder, decoder.default_head(CLASSES))


def _parts(spec: DecoderSpec) -> tuple[TinyEncoder, Decoder]:
    """Return the first encoder of the zoo that suits the decoder, and the decoder."""
    for encoder in zoo().values():
        with contextlib.suppress(IncompatiblePartsError):
            return encoder, create.create_decoder(spec, encoder)
    raise AssertionError(f"{qualified_name(spec)!r} refuses every encoder of the zoo")


def _model(spec: DecoderSpec, seed: int = 0) -> SegmentationModel:
    """Return a model with the first encoder that suits the decoder, in evaluation mode."""

    def make() -> SegmentationModel:
        encoder, decoder = _parts(spec)
        return SegmentationModel(encoder, decoder, decoder.default_head(CLASSES))

    return promises.seeded(make, seed)  # type: ignore[return-value]


def _image(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def _decode(model: SegmentationModel, x: Tensor) -> Any:
    if model.decoder.reads_prefix_tokens:
        features, prefix = model.encoder.forward_with_prefix(x)  # type: ignore[operator]
        return model.decoder(features, prefix)
    return model.decoder(model.encoder(x))
