"""Assembly: names to specs, specs to parts, parts to a model. Nothing else happens here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from segcore.decoder import Decoder
from segcore.discovery import notify
from segcore.encoder import EncoderMixin, check_input_init
from segcore.errors import (
    IncompatiblePartsError,
    OptionValueError,
    PluginError,
    UnknownNameError,
    UnknownOptionError,
    shorten,
)
from segcore.features import FeatureInfo, greatest_depth, levels_at_depth
from segcore.heads import Activation, ClassificationHead
from segcore.model import SegmentationModel
from segcore.neck import PyramidNeck
from segcore.options import check_aux, factory_of, resolve_options, split_options, takes_option, tuples, whole_number
from segcore.owners import owner_of
from segcore.registry import Registry, decoders, encoders, with_output_stride
from segcore.specs import DecoderSpec, EncoderSpec, qualified_name
from segcore.transforms import Preprocessing
from segcore.weights import WeightsLike, check_weights, load_encoder_weights

_FORESEEN = {"depth", "output_stride"}  # options whose effect on the promised features is known


def create_model(
    decoder: str | DecoderSpec | type[Decoder],
    encoder: str | EncoderSpec | nn.Module,
    *,
    encoder_weights: WeightsLike = None,
    in_channels: int | None = None,
    classes: int = 1,
    activation: Activation = None,
    aux_params: Mapping[str, Any] | None = None,
    **options: Any,
) -> SegmentationModel:
    """Build a segmentation model from an encoder and a decoder.

    Args:
        decoder: name (``"unet"``, or qualified ``"decoders/unet"``), record, or class.
        encoder: name (``"resnet34"``), record, or a ready module with `EncoderMixin`.
        encoder_weights: None for random weights, a tag of the encoder's (``"imagenet"``), the path of a
            ``.safetensors`` file, or a state dict. Nothing is fetched unless a tag asks for it.
        in_channels: channels of the image; 3 by default, or what a ready encoder takes.
        classes: channels of the mask, at least 1.
        activation: applied to the mask: None for logits, a name (``"sigmoid"``, ``"softmax"``, ...), a module or a
            function; only names can be saved.
        aux_params: for a classification head on the deepest feature map, ``{"classes": 4, "pooling": "avg" or "max",
            "dropout": 0.2, "activation": None}``; the model then returns ``(mask, label)``.
        **options: ``encoder_<option>`` and ``decoder_<option>`` go to the parts, ``encoder_depth=4``; each is checked
            against what the part takes. ``encoder_neck="pyramid"`` makes a pyramid of a plain ViT, see
            `segcore.neck.PyramidNeck`. ``encoder_input_init`` says how published weights are fitted to other
            numbers of channels, see `segcore.encoder.adapt_input_weight`.

    Returns:
        A model in training mode whose ``config`` says how it was made.

    Raises:
        UnknownNameError, AmbiguousNameError: no part, or several, have this name.
        UnknownOptionError, OptionValueError: an option, or its value, does not exist.
        IncompatiblePartsError: the decoder cannot use this encoder.
        WeightsError: the weights are unknown or do not fit.
        PluginError: a plugin failed.

    Example:
        >>> from segcore.testing import TinyDecoder, TinyEncoder
        >>> model = create_model(TinyDecoder, TinyEncoder(depth=3), classes=4, decoder_channels=16)
        >>> model.segmentation_head[0].weight.shape
        torch.Size([4, 16, 3, 3])
    """
    model = assemble(
        decoder,
        encoder,
        encoder_weights=encoder_weights,
        in_channels=in_channels,
        classes=classes,
        activation=activation,
        aux_params=aux_params,
        options=options,
    )
    notify("segcore_model_created", model=model, config=model.config)
    return model


def assemble(
    decoder: str | DecoderSpec | type[Decoder],
    encoder: str | EncoderSpec | nn.Module,
    *,
    encoder_weights: WeightsLike,
    in_channels: int | None,
    classes: int,
    activation: Activation,
    aux_params: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> SegmentationModel:
    """Build a model as `create_model` does, without telling plugins of it."""
    encoder_options, decoder_options = split_options(options, inspect.signature(create_model).parameters)
    classes = whole_number("classes", classes)
    aux = check_aux(aux_params)
    decoder_spec = _decoder_spec(decoder, encoder)
    decoder_factory = factory_of(decoder_spec)
    decoder_config = resolve_options(decoder_spec, decoder_factory, decoder_options, first="features")
    wishes: Mapping[str, object] = {}
    if isinstance(decoder_factory, type) and issubclass(decoder_factory, Decoder):
        wishes = decoder_factory.encoder_defaults(decoder_config)

    built, encoder_part = _build_encoder(encoder, encoder_weights, in_channels, encoder_options, wishes)
    info: FeatureInfo = built.feature_info  # type: ignore[assignment]
    built_decoder = _build_decoder(decoder_spec, decoder_factory, info, decoder_config)
    head = built_decoder.default_head(classes, activation)
    aux_head = None if aux is None else ClassificationHead(info.channels[-1], **aux)
    config = {
        "encoder": encoder_part,
        "decoder": _part(decoder_spec, decoder_config),
        "in_channels": built.in_channels,
        "classes": classes,
        "activation": activation,
        "aux_params": aux,
        "class_names": None,
        "preprocessing": _preprocessing(encoder_part, built.in_channels),  # type: ignore[arg-type]
        "image_size": None,
    }
    return SegmentationModel(built, built_decoder, head, aux_head, config=config)


def create_encoder(
    encoder: str | EncoderSpec | nn.Module,
    *,
    weights: WeightsLike = None,
    in_channels: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build an encoder: a module with `EncoderMixin` that returns a list of feature maps, finest first.

    Args:
        encoder: name, record, or a ready module, which is returned after loading the weights.
        weights: as `encoder_weights` in `create_model`.
        in_channels: channels of the image; 3 by default.
        **options: of the encoder: ``depth``, ``output_stride``, ...; ``input_init``; and ``neck="pyramid"``, which
            makes strides 4 to 32 out of any encoder of one resolution, such as a plain ViT, with ``neck_channels``.

    Raises:
        SegcoreError: for the reasons that `create_model` has.
    """
    return _build_encoder(encoder, weights, in_channels, options, {})[0]


def create_decoder(
    decoder: str | DecoderSpec | type[Decoder], features: FeatureInfo | nn.Module, **options: Any
) -> Decoder:
    """Build a decoder for an encoder.

    Args:
        decoder: name, record or class.
        features: an encoder, or its `feature_info`.
        **options: of the decoder.

    Raises:
        SegcoreError: for the reasons that `create_model` has.
    """
    spec = _decoder_spec(decoder)
    factory = factory_of(spec)
    info = features if isinstance(features, FeatureInfo) else features.feature_info
    return _build_decoder(spec, factory, info, resolve_options(spec, factory, options, first="features"))  # type: ignore[arg-type]


def _decoder_spec(decoder: object, encoder: object = None) -> DecoderSpec:
    if isinstance(decoder, DecoderSpec):
        return decoder
    if isinstance(decoder, type) and issubclass(decoder, Decoder):
        return DecoderSpec(decoder.__name__.lower(), factory=decoder)
    if isinstance(decoder, str):
        spec: DecoderSpec = _resolve(decoders, encoders, decoder, encoder)
        return spec
    raise OptionValueError(f"decoder={decoder!r:.80}: a name, a DecoderSpec or a subclass of Decoder is needed.")


def _resolve(registry: Registry[Any], other: Registry[Any], name: str, partner: object = None) -> Any:
    """Return the record of a name; where that is the name of another kind of part, the error says so."""
    try:
        return registry.resolve(name)
    except UnknownNameError as error:
        if not _is_known(other, name):
            raise
        swapped = _is_known(registry, partner)
        hint = f" The arguments look swapped: write create_model({partner!r}, {name!r})." if swapped else ""
        kind = "an encoder" if other is encoders else "a decoder"
        raise UnknownNameError(f"{error} {name!r} is the name of {kind}.{hint}") from None


def _is_known(registry: Registry[Any], name: object) -> bool:
    return isinstance(name, str) and (name in registry or owner_of(registry.kind, name) is not None)


def _part(spec: EncoderSpec | DecoderSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config records of one part."""
    provenance = spec.provenance
    return {
        "name": qualified_name(spec) if provenance else None,
        "distribution": provenance.distribution if provenance else None,
        "version": provenance.version if provenance else None,
        "options": {name: tuples(value) for name, value in options.items()},
    }


def _build_encoder(
    encoder: object,
    weights: WeightsLike,
    in_channels: int | None,
    options: Mapping[str, Any],
    wishes: Mapping[str, object],
) -> tuple[nn.Module, dict[str, Any]]:
    options = dict(options)
    input_init = check_input_init(options.pop("input_init", "repeat"))
    if isinstance(encoder, nn.Module):
        if options:
            raise UnknownOptionError(f"a ready encoder takes no options, got {shorten(map(repr, options))}.")
        return _ready_encoder(encoder, weights, in_channels, input_init)
    neck, neck_channels = options.pop("neck", None), options.pop("neck_channels", None)
    neck_depth: Any = options.pop("depth", wishes.get("depth", 5)) if neck is not None else None
    if neck is None and neck_channels is not None:
        raise OptionValueError(f"encoder_neck_channels={neck_channels!r} needs encoder_neck='pyramid'.")
    if neck not in {None, "pyramid"}:
        raise OptionValueError(f"encoder_neck={neck!r}: it is 'pyramid', or None for none.")
    spec = _encoder_spec(encoder)
    wanted = whole_number("in_channels", 3 if in_channels is None else in_channels)
    check_weights(weights, spec)
    factory = factory_of(spec)
    if options.get("output_stride") == spec.output_strides[-1] and not takes_option(factory, "output_stride"):
        del options["output_stride"]  # asked to do without dilation, which it does
        wishes = {name: value for name, value in wishes.items() if name != "output_stride"}
    _check_shared(spec, options)
    resolved = resolve_options(spec, factory, options)
    resolved |= _grant(spec, factory, {} if neck else wishes, options)
    if spec.out_channels is not None:
        _settle_depth(spec, factory, spec.nominal_strides, options, resolved)
    built = _call(spec, factory, resolved, wanted)
    _verify(spec, built, resolved.get("output_stride"), promised=options.keys() <= _FORESEEN)
    if spec.out_channels is None and _settle_depth(spec, factory, built.nominal_strides, options, resolved):
        built = _call(spec, factory, resolved, wanted)
    if built.in_channels != wanted:
        built.set_in_channels(wanted, input_init)
    origin = load_encoder_weights(built, weights, spec, input_init)
    if neck is not None:
        channels = 256 if neck_channels is None else neck_channels
        built = PyramidNeck(built, channels=channels, depth=neck_depth)
        resolved |= {"neck": neck, "neck_channels": channels, "depth": neck_depth}
    part = _part(spec, resolved) | {"input_init": input_init, "weights": origin}
    return built, part


def _encoder_spec(encoder: object) -> EncoderSpec:
    if isinstance(encoder, EncoderSpec):
        return encoder
    if isinstance(encoder, type) and issubclass(encoder, EncoderMixin):
        return EncoderSpec(encoder.__name__.lower(), factory=encoder)
    if isinstance(encoder, str):
        spec: EncoderSpec = _resolve(encoders, decoders, encoder)
        return spec
    raise OptionValueError(f"encoder={encoder!r:.80}: a name, an EncoderSpec or a module with EncoderMixin is needed.")


def _ready_encoder(
    encoder: nn.Module, weights: WeightsLike, in_channels: int | None, input_init: str
) -> tuple[nn.Module, dict[str, Any]]:
    if not isinstance(encoder, EncoderMixin):
        raise OptionValueError(f"encoder={type(encoder).__name__}(...): a module with segcore.EncoderMixin is needed.")
    if in_channels is not None and in_channels != encoder.in_channels:
        encoder.set_in_channels(whole_number("in_channels", in_channels), input_init)
    _check_facts(encoder, None)
    origin = load_encoder_weights(encoder, weights, None, input_init)
    part = {"name": None, "distribution": None, "version": None, "options": {}, "weights": origin}
    return encoder, part


def _grant(
    spec: EncoderSpec, factory: Callable[..., Any], wishes: Mapping[str, object], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the decoder's wishes that the user left open; an output stride that the encoder lacks is refused."""
    parameters = inspect.signature(factory).parameters
    takes = {name for name, value in parameters.items() if value.kind is not value.VAR_KEYWORD}
    if len(takes) < len(parameters):
        takes.add("depth")  # a local recipe with **kwargs
    granted = {name: value for name, value in wishes.items() if name not in options}
    if spec.out_channels is None and "output_stride" not in takes:
        granted.pop("output_stride", None)  # a class that says nothing of its strides is used as it is
    stride = granted.get("output_stride", 32)
    if stride != 32 and ("output_stride" not in takes or (spec.out_channels and stride not in spec.output_strides)):
        raise IncompatiblePartsError(
            f"the decoder asks for output stride {stride}; {spec.name!r} has {shorten(spec.output_strides)}. "
            f"{with_output_stride(stride)} Or give encoder_output_stride={spec.output_strides[-1]} to do without."
        )
    return {name: value for name, value in granted.items() if name in takes}


def _settle_depth(
    spec: EncoderSpec,
    factory: Callable[..., Any],
    strides: Sequence[int],
    options: Mapping[str, Any],
    resolved: dict[str, Any],
) -> bool:
    """Refuse a depth that the user asks for and the encoder lacks; return whether a decoder's wish had to be cut."""
    depth, most = resolved.get("depth"), greatest_depth(strides)
    if depth is None or depth == resolve_options(spec, factory, {}).get("depth") or depth <= most:
        return False  # what the encoder says of itself is believed
    if "depth" in options:
        raise OptionValueError(
            f"encoder_depth={depth!r}: {spec.name!r} has depths 1 to {most}; its deepest map has stride {max(strides)}."
        )
    resolved["depth"] = most
    return True


def _check_shared(spec: EncoderSpec, options: Mapping[str, Any]) -> None:
    depth, stride = options.get("depth"), options.get("output_stride")
    if depth is not None and not 1 <= whole_number("encoder_depth", depth) <= 5:
        raise OptionValueError(f"encoder_depth={depth!r}: {spec.name!r} has depths 1 to 5.")
    if stride is not None and spec.out_channels and stride not in spec.output_strides:
        raise OptionValueError(
            f"encoder_output_stride={stride!r}: {spec.name!r} has {shorten(spec.output_strides)}. "
            + with_output_stride(stride)
        )


def _call(spec: EncoderSpec, factory: Callable[..., Any], resolved: Mapping[str, Any], in_channels: int) -> Any:
    arguments = dict(spec.options) | dict(resolved)
    if takes_option(factory, "in_channels"):
        arguments["in_channels"] = in_channels
    return factory(**arguments)


def _verify(spec: EncoderSpec, built: Any, output_stride: int | None, *, promised: bool) -> None:
    """Compare what was built with what its record promised."""
    where = spec.provenance.distribution if spec.provenance else None
    if not isinstance(built, nn.Module) or not isinstance(built, EncoderMixin):
        raise PluginError(
            f"the factory of {qualified_name(spec)!r} must return a module with EncoderMixin, got {built!r:.80}.",
            distribution=where,
            phase="contract",
        )
    _check_facts(built, where)
    if spec.out_channels is None or not promised:
        return
    channels, strides = levels_at_depth(spec.out_channels, spec.nominal_strides, built.depth)
    if output_stride in {8, 16}:
        strides = tuple(min(stride, output_stride) for stride in strides)
    if channels[0] == spec.in_channels:
        channels = (built.in_channels, *channels[1:])
    if (built.out_channels, built.strides) != (channels, strides):
        raise PluginError(
            f"{qualified_name(spec)!r} promises channels {channels} at strides {strides}; "
            f"the built encoder has {built.out_channels} at {built.strides}.",
            distribution=where,
            phase="contract",
        )


def _check_facts(encoder: nn.Module, where: str | None) -> None:
    for fact in ("_out_channels", "_depth"):
        if getattr(encoder, fact, None) is None:
            raise PluginError(
                f"{type(encoder).__name__} does not set self.{fact}, which every encoder states in its __init__; "
                f"see segcore.EncoderMixin.",
                distribution=where,
                phase="contract",
            )


def _build_decoder(
    spec: DecoderSpec, factory: Callable[..., Any], info: FeatureInfo, options: Mapping[str, Any]
) -> Decoder:
    decoder = factory(info, **spec.options, **options)
    if not isinstance(decoder, Decoder) or not {"out_channels", "output_stride"} <= vars(decoder).keys():
        raise PluginError(
            f"the factory of {qualified_name(spec)!r} must return a segcore.Decoder that sets self.out_channels and "
            f"self.output_stride in its __init__, got {type(decoder).__name__}.",
            distribution=spec.provenance.distribution if spec.provenance else None,
            phase="contract",
        )
    return decoder


def _preprocessing(encoder_part: Mapping[str, Any], in_channels: int) -> dict[str, Any] | None:
    """Return what the weights that the encoder started from ask of images, for the config."""
    facts = (encoder_part.get("weights") or {}).get("preprocessing")
    return None if facts is None else Preprocessing(**facts).for_channels(in_channels).as_dict()
