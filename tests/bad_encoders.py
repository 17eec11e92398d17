"""Encoders that break one promise each, and what the conformance kit has to say to that."""

import random
import time
from dataclasses import dataclass, field

import torch
from torch import nn

from segcore import EncoderSpec, OptionValueError, Weights
from segcore.specs import Provenance
from segcore.testing import TinyEncoder
from tests.fake_plugins import CHANNELS

MINE = Provenance("bad", "segcore-plugin-bad", "1.0")
SHARED = nn.Conv2d(40, 40, 1)


@dataclass
class Specimen:
    """A class that breaks a promise, the record it is registered by, and part of what the check says."""

    check: str
    factory: type
    says: str
    more: dict = field(default_factory=dict)
    also: set = field(default_factory=set)  # checks that the same fault fails as well, "*" for whatever they are

    @property
    def record(self):
        name = self.factory.__name__.lower()
        return EncoderSpec(name, factory=self.factory, provenance=MINE, **{"out_channels": CHANNELS, **self.more})


SPECIMENS = []


def breaks(check, says, *also, **record):
    """Return a decorator that lists a class as the specimen of a check."""

    def keep(factory):
        SPECIMENS.append(Specimen(check, factory, says, record, set(also)))
        return factory

    return keep


class Tail(TinyEncoder):
    """Does something to the deepest map."""

    def forward(self, x):
        *features, deep = super().forward(x)
        return [*features, self.tail(deep)]


# --- without memory -------------------------------------------------------------------------------------------------


@breaks("features_match_the_record", "map 5 has 80 channels, 40 are declared", "odd_sizes_work", "small_images_work")
class LiesAboutChannels(Tail):
    def tail(self, deep):
        return torch.cat([deep, deep], 1) if self.depth == 5 else deep


@breaks("features_match_the_record", "map 5 has size 1 for an image of 64; stride 32 is declared")
class LiesAboutStrides(Tail):
    def tail(self, deep):
        return nn.functional.max_pool2d(deep, 2, ceil_mode=True) if self.depth == 5 else deep


@breaks(
    "features_match_the_record",
    "promises channels .* the built encoder has",
    "*",
    out_channels=(3, 9, 16, 24, 32, 40),
)
class LiesInTheRecord(TinyEncoder):
    pass


@breaks("features_match_the_record", "forward must return a list", "odd_sizes_work", "small_images_work")
class ReturnsATuple(TinyEncoder):
    def forward(self, x):
        return tuple(super().forward(x))


@breaks("odd_sizes_work", "an image of 50 x 75 pixels fails: round sizes up", "evaluation_changes_nothing")
class WantsMultiplesOf32(TinyEncoder):
    def forward(self, x):
        n, c, h, w = x.shape
        return super().forward(x.reshape(n, c, h // 32, 32, w // 32, 32).reshape(x.shape))


@breaks("small_images_work", "an image of 32 x 32 pixels fails: RuntimeError: .*[Pp]adding size")
class Reflects(Tail):
    def tail(self, deep):
        return nn.functional.pad(deep, (1, 1, 1, 1), mode="reflect")[..., 1:-1, 1:-1]


@breaks("output_strides_hold", "with output stride 8 the parameters differ", output_strides=(8, 16, 32))
class GrowsWithDilation(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3, output_stride: int = 32):
        super().__init__(depth, in_channels, output_stride)
        self.extra = nn.Conv2d(in_channels, in_channels, 1) if output_stride < 32 else nn.Identity()

    def forward(self, x):
        return super().forward(self.extra(x))


@breaks("output_strides_hold", "output stride 16 is declared and not built: OptionValueError", output_strides=(16, 32))
class RefusesDilation(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3, output_stride: int = 32):
        if output_stride != 32:
            raise OptionValueError("no")
        super().__init__(depth, in_channels)


@breaks("size_multiple_is_declared", "the record says 1, the encoder 32")
class HidesItsMultiple(TinyEncoder):
    _size_multiple = 32


@breaks("parameters_are_counted", "the record says 5 parameters, the encoder has 2.*_", parameters=5)
class Miscounts(TinyEncoder):
    pass


@breaks(
    "weights_are_pinned",
    "'imagenet': weights need a sha256, or an hf:// address and a revision",
    weights={
        "imagenet": Weights(
            url="https://example.org/a.safetensors", license="MIT", source="a paper", mean=(0.5,) * 3, std=(0.5,) * 3
        )
    },
)
class IsNotPinned(TinyEncoder):
    pass


@breaks(
    "weights_are_pinned",
    "'imagenet': mean has 1 numbers, the record's images have 3 channels",
    weights={
        "imagenet": Weights(
            url="https://example.org/a.safetensors",
            license="MIT",
            source="a paper",
            mean=(0.5,),
            std=(0.5,),
            sha256="0" * 64,
        )
    },
)
class HasOneMean(TinyEncoder):
    pass


@breaks("encoder_keeps_no_loose_tensor", r"\['mean'\] would stay behind .* use register_buffer")
class KeepsALooseTensor(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.mean = [torch.zeros(3)]


@breaks("prefix_tokens_are_given", "1 prefix tokens are declared; forward_with_prefix gives the shapes")
class GivesTwoTokens(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels, prefix_tokens=1)

    def forward_with_prefix(self, x):
        features, prefix = super().forward_with_prefix(x)
        return features, [token.repeat(1, 2, 1) for token in prefix]


# --- with memory ----------------------------------------------------------------------------------------------------


@breaks(
    "evaluation_is_deterministic",
    "differs between two calls in evaluation mode: something random",
    *("evaluation_changes_nothing", "channels_last_is_equal", "copies_are_equal", "weights_round_trip"),
    *("weights_fit_every_depth", "compiles_whole", "exports_whole"),
)
class IsNoisy(Tail):
    def tail(self, deep):
        return deep + torch.rand_like(deep)


@breaks("evaluation_is_deterministic", "depends on what else is in the batch", "weights_fit_every_depth")
class LooksAtTheBatch(Tail):
    def tail(self, deep):
        return deep - deep.mean(0, keepdim=True)


@breaks("evaluation_changes_nothing", r"evaluation changes the state dict: \['calls'\]")
class Counts(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@breaks(
    "evaluation_changes_nothing",
    "forward changes the image in place",
    *("evaluation_is_deterministic", "image_gets_a_gradient", "channels_last_is_equal", "copies_are_equal"),
    *("weights_round_trip", "weights_fit_every_depth", "compiles_whole", "exports_whole"),
)
class WritesOnTheImage(TinyEncoder):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


@breaks("evaluation_changes_nothing", "differs after an image of another size: something made for a size is kept")
class RemembersASize(TinyEncoder):
    _narrowest = 1000

    def forward(self, x):
        self._narrowest = min(self._narrowest, x.shape[-1])
        return [feature * self._narrowest for feature in super().forward(x)]


@breaks("flat_images_are_finite", "the output for a black image is not finite: a division needs an eps")
class DividesByNothing(TinyEncoder):
    def forward(self, x):
        return super().forward(x / x.std((1, 2, 3), keepdim=True))


@breaks("every_parameter_learns", r"at depth 5: these parameters get no gradient: \['extra.weight', 'extra.bias'\]")
class HasDeadParameters(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.extra = nn.Linear(2, 2)


@breaks("image_gets_a_gradient", "the gradient stops before the image: something in forward is detached")
class Detaches(TinyEncoder):
    def forward(self, x):
        return super().forward(x.detach())


@breaks(
    "one_image_trains",
    "a batch of one image does not train: no norm layer after pooling.*more than 1 value",
    "weights_fit_every_depth",
)
class NormalisesPixels(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.norm = nn.BatchNorm2d(self.out_channels[-1])

    def forward(self, x):
        *features, deep = super().forward(x)
        return [*features, deep + self.norm(deep.mean((2, 3), keepdim=True))]


@breaks(
    "half_precision_runs",
    "does not run under bfloat16 autocast: bring the tensors that meet",
    "weights_fit_every_depth",
)
class MixesDtypes(TinyEncoder):
    def forward(self, x):
        *features, deep = super().forward(x)
        return [*features, torch.lerp(x.new_zeros(deep.shape), deep, 0.5)]


@breaks(
    "other_dtypes_run",
    "does not run in torch.float64: make tensors in forward with the dtype of the image",
    "weights_fit_every_depth",
)
class InsistsOnFloat(Tail):
    def tail(self, deep):
        half = torch.full(deep.shape, 0.5, device=deep.device)
        return torch.lerp(deep, deep + 1, half if deep.dtype != torch.bfloat16 else half.to(deep.dtype))


@breaks("channels_last_is_equal", "does not run in channels_last: use reshape or flatten in place of view")
class Views(Tail):
    def tail(self, deep):
        return deep.view(deep.shape[0], -1).view(deep.shape)


@breaks("copies_are_equal", "a pickle cannot be made; keep modules, numbers and texts", "weights_fit_every_depth")
class KeepsALambda(Tail):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.tail = lambda deep: deep * 2


@breaks("weights_round_trip", "differs after saving and loading the weights", "weights_fit_every_depth")
class HidesATensor(Tail):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.register_buffer("secret", torch.rand(1), persistent=False)

    def tail(self, deep):
        return deep * self.secret


@breaks(
    "weights_round_trip",
    "its own weights do not load: .*first.bias",
    "weights_fit_every_depth",
    "weights_fit_other_images",
)
class DropsAWeight(TinyEncoder):
    def convert_state_dict(self, state):
        return {key: value for key, value in state.items() if key != "first.bias"}


@breaks("weights_fit_every_depth", "weights of depth 5 do not load at depth 3; drop those .*level3")
class NamesItsDepth(Tail):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.depths = nn.ModuleDict({f"level{depth}": nn.BatchNorm2d(self.out_channels[-1])})

    def tail(self, deep):
        return next(iter(self.depths.values()))(deep)


@breaks(
    "weights_fit_other_images",
    "weights for 3 channels do not load for 1: ",
    "weights_round_trip",
    "weights_fit_every_depth",
)
class MisnamesItsFirstLayer(TinyEncoder):
    _first_conv = "stages.0.0"


@breaks("seed_decides_the_weights", "every seed gives the same weights: do not call torch.manual_seed")
class SeedsItself(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        torch.manual_seed(0)
        super().__init__(depth, in_channels)


@breaks("seed_decides_the_weights", r"torch.manual_seed does not decide these weights: \['first.bias'\]")
class RollsItsOwnDice(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        nn.init.constant_(self.first.bias, random.SystemRandom().random())


@breaks("instances_are_independent", r"two networks share \['tail.weight', 'tail.bias'\]", "*")
class SharesAModule(Tail):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.tail = SHARED


@breaks("builds_without_memory", "some tensors are made on cpu, whatever the device")
class InsistsOnTheCpu(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.register_buffer("mean", torch.zeros(3, device="cpu"))


@breaks("compiles_whole", "does not compile as one graph: ")
class BreaksTheGraph(Tail):
    def tail(self, deep):
        time.sleep(0)
        return deep


@breaks("exports_whole", "does not export: GuardOnDataDependentSymNode", "compiles_whole")
class DependsOnValues(Tail):
    def tail(self, deep):
        if deep.is_meta or deep.abs().sum() > 0:
            return deep
        return deep + 1
