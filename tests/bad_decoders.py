"""Decoders that break one promise each, and what the conformance kit has to say to that."""

import time

import torch
import torch.nn.functional as F
from torch import nn

from segcore import DecoderSpec, IncompatiblePartsError
from segcore.testing import TinyDecoder
from tests import bad_encoders
from tests.bad_encoders import MINE

SHARED = nn.Conv2d(8, 8, 1)
SPECIMENS = []


class Specimen(bad_encoders.Specimen):
    """As those of encoders, with another kind of record."""

    @property
    def record(self):
        return DecoderSpec(self.factory.__name__.lower(), factory=self.factory, provenance=MINE, **self.more)


def breaks(check, says, *also, **record):
    """Return a decorator that lists a class as the specimen of a check."""

    def keep(factory):
        SPECIMENS.append(Specimen(check, factory, says, record, set(also)))
        return factory

    return keep


class Tail(TinyDecoder):
    """Does something to its output."""

    def forward(self, features):
        return self.tail(super().forward(features))


# --- with every encoder of the zoo ----------------------------------------------------------------------------------


@breaks("decoder_asks_for_no_name", "'bad/asksforaname' refuses every encoder of the zoo", "*")
class AsksForAName(TinyDecoder):
    def __init__(self, features):
        if getattr(features, "name", "") != "resnet34":
            raise IncompatiblePartsError("only for resnet34")
        super().__init__(features)


@breaks(
    "masks_have_the_image_size",
    r"five levels: an image of \(50, 75\) fails: resize to the size of another map",
    "decoder_changes_nothing",
)
class DoublesItsSize(TinyDecoder):
    def forward(self, features):
        deep = super().forward(features)
        small = F.max_pool2d(deep, 2)
        return deep + F.interpolate(small, scale_factor=2)


@breaks(
    "masks_have_the_image_size",
    r"five levels: the mask of a \(64, 96\) image has the shape \(2, 2, 128, 192\)",
    "any_image_will_do",
)
class BringsALargeHead(TinyDecoder):
    def default_head(self, classes, activation=None):
        return LargeHead(super().default_head(classes, activation))


class LargeHead(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features, size=None):
        return F.interpolate(self.head(features, size), scale_factor=2)


@breaks("declared_output_is_given", r"five levels: size \(32, 48\), the declared stride gives \(16, 24\)")
class LiesAboutItsStride(TinyDecoder):
    def __init__(self, features):
        super().__init__(features)
        self.output_stride = 2 * self.output_stride


@breaks("declared_output_is_given", "five levels: 16 channels, 8 declared")
class LiesAboutItsChannels(Tail):
    def tail(self, deep):
        return torch.cat([deep, deep], 1)

    def default_head(self, classes, activation=None):
        self.out_channels = 16
        head = super().default_head(classes, activation)
        self.out_channels = 8
        return head


@breaks("decoder_parameters_learn", r"five levels: these parameters get no gradient: \['0.extra.weight'")
class HasDeadParameters(TinyDecoder):
    def __init__(self, features):
        super().__init__(features)
        self.extra = nn.Linear(2, 2)


@breaks("one_image_trains_the_decoder", "five levels: a batch of one image does not train: .*more than 1 value")
class NormalisesPixels(Tail):
    def __init__(self, features):
        super().__init__(features)
        self.norm = nn.BatchNorm2d(8)

    def tail(self, deep):
        return deep + self.norm(deep.mean((2, 3), keepdim=True))


@breaks("decoder_builds_without_memory", "five levels: some tensors are made on cpu, whatever the device")
class InsistsOnTheCpu(TinyDecoder):
    def __init__(self, features):
        super().__init__(features)
        self.register_buffer("mean", torch.zeros(3, device="cpu"))


# --- with one encoder -----------------------------------------------------------------------------------------------


@breaks("wishes_are_plain", r"it asks for \['width'\]; encoders share only \['depth', 'output_stride'\]")
class WishesForWidth(TinyDecoder):
    encoder_options = {"width": 64}


@breaks("every_head_is_offered", "the mask does not show the sigmoid")
class ForgetsTheActivation(TinyDecoder):
    def default_head(self, classes, activation=None):
        return super().default_head(classes)


@breaks("every_head_is_offered", "1 classes were asked for, the mask has 2 channels")
class HasTwoClasses(TinyDecoder):
    def default_head(self, classes, activation=None):
        return super().default_head(2, activation)


@breaks("any_image_will_do", "an encoder of images with 1 channels is refused: IncompatiblePartsError: only RGB")
class WantsColour(TinyDecoder):
    def __init__(self, features):
        if features.strides[1] == 2 and features.channels[0] != 3:
            raise IncompatiblePartsError("only RGB")
        super().__init__(features)


@breaks(
    "decoder_is_deterministic",
    "differs between two calls in evaluation mode: something random is not",
    *("every_head_is_offered", "decoder_changes_nothing", "decoder_channels_last_is_equal", "decoder_copies_are_equal"),
    *("decoder_weights_round_trip", "decoder_compiles_whole", "decoder_exports_whole"),
)
class IsNoisy(Tail):
    def tail(self, deep):
        return deep + torch.rand_like(deep)


@breaks("decoder_changes_nothing", r"evaluation changes the state dict: \['decoder.calls'\]")
class Counts(Tail):
    def __init__(self, features):
        super().__init__(features)
        self.register_buffer("calls", torch.zeros(1))

    def tail(self, deep):
        self.calls += 1
        return deep


@breaks("features_are_left_alone", "the decoder changes the list of features: work on a copy")
class TakesTheLastFeature(TinyDecoder):
    def forward(self, features):
        deep = features.pop()
        return super().forward([*features, deep])


@breaks(
    "features_are_left_alone",
    "of the encoder is changed in place: do not use in-place functions",
    *("decoder_parameters_learn", "features_get_gradients", "decoder_copies_are_equal"),
)
class WritesOnAFeature(TinyDecoder):
    def forward(self, features):
        features[-1].add_(1)
        return super().forward(features)


@breaks("flat_features_are_finite", "the output for a black image is not finite: a division needs an eps")
class DividesByNothing(TinyDecoder):
    def forward(self, features):
        return super().forward(features) / features[0].std((1, 2, 3), keepdim=True)


@breaks("features_get_gradients", "the gradient stops before the image: something in forward is detached")
class Detaches(TinyDecoder):
    def forward(self, features):
        return super().forward([feature.detach() for feature in features])


@breaks("decoder_half_precision_runs", "does not run under bfloat16 autocast: bring the tensors that meet")
class MixesDtypes(TinyDecoder):
    def forward(self, features):
        deep = super().forward(features)
        return torch.lerp(features[0].new_zeros(deep.shape), deep, 0.5)


@breaks(
    "decoder_other_dtypes_run", "does not run in torch.float64: make tensors in forward with the dtype of the image"
)
class InsistsOnFloat(Tail):
    def tail(self, deep):
        half = torch.full(deep.shape, 0.5, device=deep.device)
        return torch.lerp(deep, deep + 1, half if deep.dtype != torch.bfloat16 else half.to(deep.dtype))


@breaks("decoder_channels_last_is_equal", "does not run in channels_last: use reshape or flatten in place of view")
class Views(TinyDecoder):
    def forward(self, features):
        image = features[0]
        return super().forward([image.view(image.shape[0], -1).view(image.shape), *features[1:]])


@breaks("decoder_copies_are_equal", "a pickle cannot be made; keep modules, numbers and texts")
class KeepsALambda(Tail):
    def __init__(self, features):
        super().__init__(features)
        self.tail = lambda deep: deep * 2


@breaks("decoder_weights_round_trip", "differs after saving and loading the weights")
class HidesATensor(Tail):
    def __init__(self, features):
        super().__init__(features)
        self.register_buffer("secret", torch.rand(1), persistent=False)

    def tail(self, deep):
        return deep * self.secret


@breaks("decoder_seed_decides_the_weights", "every seed gives the same weights: do not call torch.manual_seed")
class SeedsItself(TinyDecoder):
    def __init__(self, features):
        torch.manual_seed(0)
        super().__init__(features)


@breaks("decoder_instances_are_independent", r"two networks share \['extra.weight', 'extra.bias'\]", "*")
class SharesAModule(Tail):
    def __init__(self, features):
        super().__init__(features)
        self.extra = SHARED

    def tail(self, deep):
        return self.extra(deep)


@breaks("decoder_keeps_no_loose_tensor", r"\['mean'\] would stay behind .* use register_buffer")
class KeepsALooseTensor(TinyDecoder):
    def __init__(self, features):
        super().__init__(features)
        self.mean = {"rgb": torch.zeros(3)}


@breaks("decoder_compiles_whole", "does not compile as one graph: ")
class BreaksTheGraph(Tail):
    def tail(self, deep):
        time.sleep(0)
        return deep


@breaks("decoder_exports_whole", "does not export: GuardOnDataDependentSymNode", "decoder_compiles_whole")
class DependsOnValues(Tail):
    def tail(self, deep):
        if deep.is_meta or deep.abs().sum() > 0:
            return deep
        return deep + 1
