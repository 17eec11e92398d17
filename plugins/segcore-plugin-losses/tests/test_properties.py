"""What holds for every loss, in every mode, for any number of spatial dimensions."""

import copy
import pickle
import subprocess
import sys

import pytest
import segcore_plugin_losses
import torch

import segcore
from segcore import InputError, OptionValueError, UnknownOptionError, create_loss

NAMES = [spec.name for spec in segcore_plugin_losses.segcore_specs()]
SINGLE = [name for name in NAMES if name != "compound"]
MODES = ("binary", "multiclass", "multilabel")
HARD = ("ohem", "lovasz", "boundary")
every = pytest.mark.parametrize("name", NAMES)
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def batch(mode, space=(7, 9), n=2, dtype=torch.float32):
    classes = {"binary": 1, "multiclass": 4, "multilabel": 3}[mode]
    x = torch.randn(n, classes, *space, dtype=dtype)
    return x, torch.randint(4, (n, *space)) if mode == "multiclass" else torch.randint(2, x.shape)


def gradient(loss, x, y):
    x = x.detach().clone().requires_grad_()
    value = loss(x, y)
    (value if value.ndim == 0 else value.sum()).backward()
    return value.detach(), x.grad


@every
@every_mode
@pytest.mark.parametrize("space", [(13,), (7, 9), (4, 5, 6)])
def test_trains_in_every_mode_and_rank(name, mode, space):
    x, y = batch(mode, space)
    options = {"min_kept": 1.0} if name == "ohem" else {}  # with fewer, a step changes which pixels are hard
    value, grad = gradient(create_loss(name, mode=mode, **options), x, y)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0
    better = x - 0.1 * grad / grad.norm()
    assert create_loss(name, mode=mode, **options)(better, y) < value


@every
@every_mode
def test_gradcheck(name, mode):
    x, y = batch(mode, (3, 4), dtype=torch.float64)
    y.view(-1)[:3] = 255
    options = {"parts": ("dice", "ce")} if name == "compound" else {}
    loss = create_loss(name, mode=mode, ignore_index=255, **options)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), x.requires_grad_())


@every
@every_mode
def test_zero_with_a_gradient_if_no_pixel_counts(name, mode):
    x, y = batch(mode)
    value, grad = gradient(create_loss(name, mode=mode, ignore_index=255), x, torch.full_like(y, 255))
    assert value == 0
    assert grad is not None
    assert (grad == 0).all()


@every
@every_mode
def test_what_is_ignored_has_no_influence(name, mode):
    x, y = batch(mode)
    keep = torch.rand(y.shape) < 0.7
    loss = create_loss(name, mode=mode, ignore_index=255)
    left = y.masked_fill(~keep, 255)
    value, grad = gradient(loss, x, left)
    known = keep[:, None].expand_as(x) if mode == "multiclass" else keep
    other, _ = gradient(loss, torch.where(known, x, -x * 3 + 1), left)
    torch.testing.assert_close(value, other)
    assert (grad[~known] == 0).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"boundary", "cldice"}])
@every_mode
def test_ignoring_is_leaving_out(name, mode):
    x, y = batch(mode, (40,))
    y[..., 25:] = 255
    ours = create_loss(name, mode=mode, ignore_index=255)(x, y)
    torch.testing.assert_close(ours, create_loss(name, mode=mode)(x[..., :25], y[..., :25]))


@every
@every_mode
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_fp32(name, mode, dtype):
    x, y = batch(mode, (64, 64))
    x = (x * 20).to(dtype)
    value, grad = gradient(create_loss(name, mode=mode), x, y)
    expected, other = gradient(create_loss(name, mode=mode), x.float(), y)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert grad.dtype == dtype
    assert torch.equal(grad, other.to(dtype))


@every
def test_autocast_changes_nothing(name):
    x, y = batch("multiclass")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = create_loss(name, mode="multiclass")(x, y)
    assert torch.equal(value, create_loss(name, mode="multiclass")(x, y))


@every
@every_mode
def test_extreme_logits_are_finite(name, mode):
    x, y = batch(mode)
    for scale in (1e4, -1e4, 6e4):
        value, grad = gradient(create_loss(name, mode=mode), x.sign() * scale, y)
        assert value.isfinite()
        assert grad.isfinite().all()


@every
@every_mode
@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64, torch.bool, torch.uint16, torch.float32])
def test_targets_of_any_kind(name, mode, kind):
    x, y = batch(mode)
    loss = create_loss(name, mode=mode, ignore_index=255)
    if mode == "multiclass" and kind == torch.float32:
        with pytest.raises(InputError, match="integer tensor"):
            loss(x, y.to(kind))
        return
    if mode == "multiclass" and kind == torch.bool:
        y = y.clamp_max(1)
    assert torch.equal(loss(x, y.to(kind)), loss(x, y))


def test_an_ignore_index_outside_the_kind_is_nowhere():
    x, y = torch.randn(1, 200, 5), torch.tensor([[156, 3, 4, 199, 0]])  # 156 is -100 modulo 256
    assert torch.equal(
        create_loss("ce", mode="multiclass", ignore_index=-100)(x, y.to(torch.uint8)),
        create_loss("ce", mode="multiclass")(x, y),
    )


@pytest.mark.parametrize("name", SINGLE)
@every_mode
def test_channels_last_and_strides_change_nothing(name, mode):
    x, y = batch(mode)
    loss = create_loss(name, mode=mode)
    torch.testing.assert_close(loss(x.to(memory_format=torch.channels_last), y), loss(x, y))
    torch.testing.assert_close(loss(x.mT.contiguous().mT, y.mT.contiguous().mT), loss(x, y))


@pytest.mark.parametrize("name", SINGLE)
@every_mode
def test_reductions_agree(name, mode):
    x, y = batch(mode)
    none, total = (create_loss(name, mode=mode, reduction=kind)(x, y) for kind in ("none", "sum"))
    torch.testing.assert_close(none.sum(), total)
    assert none.ndim > 0
    if name != "ohem":
        torch.testing.assert_close(create_loss(name, mode=mode)(x, y), none.mean())


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_class_weights(name, mode):
    x, y = batch(mode)
    classes = x.shape[1]
    plain = create_loss(name, mode=mode)(x, y)
    torch.testing.assert_close(create_loss(name, mode=mode, weight=[2.0] * classes)(x, y), plain)
    loss = create_loss(name, mode=mode, weight=range(classes))
    assert loss(x, y) != plain
    assert "weight" not in loss.state_dict()
    assert loss.to(torch.device("meta")).weight.device.type == "meta"
    if name not in {"ce", "focal", "ohem"} or mode == "multilabel":
        alone = create_loss(name, mode=mode, weight=[0.0, 1.0] + [0.0] * (classes - 2), reduction="sum")
        none = create_loss(name, mode=mode, reduction="none")(x, y)
        one = none[1] if none.ndim == 1 else none[:, 1].sum()
        if name != "ohem":
            torch.testing.assert_close(alone(x, y), one)


@pytest.mark.parametrize("name", SINGLE)
@every_mode
def test_one_image_of_the_batch_in_any_order(name, mode):
    x, y = batch(mode, n=3)
    loss = create_loss(name, mode=mode)
    torch.testing.assert_close(loss(x.flip(0), y.flip(0)), loss(x, y))


@pytest.mark.parametrize("name", SINGLE)
@every_mode
def test_a_perfect_prediction_is_the_least(name, mode):
    x, y = batch(mode, (12, 12))
    truth = torch.nn.functional.one_hot(y, 4).movedim(-1, 1) if mode == "multiclass" else y
    perfect = (truth * 2.0 - 1) * 40
    loss = create_loss(name, mode=mode)
    assert loss(perfect, y) < loss(x, y)
    assert loss(perfect, y) < loss(-perfect, y)
    if name != "boundary":
        assert loss(perfect, y).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", SINGLE)
def test_losses_copy_and_pickle(name):
    x, y = batch("multiclass")
    loss = create_loss(name, mode="multiclass", ignore_index=255, weight=[1.0, 2, 3, 4])
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(x, y), loss(x, y))
    assert "'multiclass', ignore_index=255, reduction='mean'" in repr(loss)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own, about what it does itself
@pytest.mark.parametrize("name", ["ce", "bce", "dice", "focal", "focal-tversky", "mcc"])
def test_compiles(name):
    x, y = batch("multiclass")
    loss = create_loss(name, mode="multiclass", ignore_index=255)
    value, grad = gradient(torch.compile(loss, backend="aot_eager"), x, y)
    expected, other = gradient(loss, x, y)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, other)


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_wrong_options(name):
    with pytest.raises(OptionValueError, match="mode='multi'"):
        create_loss(name, mode="multi")
    for options, told in (
        ({"reduction": "avg"}, "reduction='avg'"),
        ({"ignore_index": 0.5}, "ignore_index=0.5"),
        ({"ignore_index": True}, "ignore_index=True"),
        ({"weight": 3.0}, "weight=3.0"),
        ({"weight": [1.0, -1.0]}, "weight="),
        ({"weight": [1.0, float("nan")]}, "weight="),
        ({"weight": "heavy"}, "weight='heavy'"),
    ):
        with pytest.raises(OptionValueError, match=told):
            create_loss(name, mode="multiclass", **options)
    with pytest.raises(OptionValueError, match="binary mode has one"):
        create_loss(name, mode="binary", weight=[1.0])
    with pytest.raises(UnknownOptionError, match="Did you mean 'ignore_index'"):
        create_loss(name, mode="binary", ignore_indx=255)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ce", {"label_smoothing": 1.5}),
        ("bce", {"pos_weight": -1.0}),
        ("ohem", {"threshold": 2}),
        ("ohem", {"min_kept": 1.5}),
        ("ohem", {"min_kept": -1}),
        ("focal", {"gamma": -1}),
        ("focal", {"activation": "tanh"}),
        ("focal", {"alpha": 0.3}),
        ("dice", {"smooth": -1.0}),
        ("dice", {"absent": "ignore"}),
        ("tversky", {"alpha": "0.5"}),
        ("focal-tversky", {"gamma": 0.0}),
        ("lovasz", {"absent": "all"}),
        ("cldice", {"iterations": 0}),
    ],
)
def test_wrong_options_of_their_own(name, options):
    with pytest.raises(OptionValueError, match=next(iter(options))):
        create_loss(name, mode="multiclass", **options)
    if name == "focal" and "activation" in options:
        with pytest.raises(OptionValueError, match="activation='softmax' is for"):
            create_loss(name, mode="binary", activation="softmax")


@pytest.mark.parametrize(
    ("mode", "x", "y", "told"),
    [
        ("binary", torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 5), r"must have shape \(2, 4, 4\), got \(2, 4, 5\)"),
        ("binary", torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), r"binary needs logits \(N, 1, \.\.\.\)"),
        ("binary", torch.zeros(2, 4), torch.zeros(2, 4), r"logits \(N, classes, \.\.\.\) are needed"),
        ("binary", torch.zeros(2, 1, 4), torch.full((2, 4), 2), "the target has the value 2; values from 0 to 1"),
        ("binary", torch.zeros(2, 1, 4), torch.full((2, 4), float("nan")), "the target has the value nan"),
        ("binary", torch.zeros(2, 1, 4), torch.zeros(2, 4, dtype=torch.complex64), "integer, bool or floating"),
        ("binary", torch.zeros(2, 1, 4), [[0] * 4] * 2, "target: one tensor is needed, got a list"),
        ("binary", {"logits": torch.zeros(2, 1, 4)}, torch.zeros(2, 4), "create_loss\\('compound'"),
        ("binary", None, torch.zeros(2, 4), "logits: a tensor is needed, got NoneType"),
        ("binary", torch.zeros(2, 1, 4), torch.zeros(2, 4, device="meta"), "are on cpu and target on meta"),
        ("multiclass", torch.zeros(2, 1, 4), torch.zeros(2, 4).long(), "use mode='binary'"),
        ("multiclass", torch.zeros(2, 3, 4), torch.zeros(2, 3, 4).long(), r"must have shape \(2, 4\)"),
        ("multiclass", torch.zeros(2, 3, 4), torch.full((2, 4), 3), "value 3; values from 0 to 2.*ignore_index=3"),
        ("multiclass", torch.zeros(2, 3, 4), torch.full((2, 4), -1), "value -1"),
        ("multiclass", torch.zeros(2, 3, 4).long(), torch.zeros(2, 4).long(), "logits must be floating point"),
        ("multilabel", torch.zeros(2, 3, 4), torch.zeros(2, 4), r"must have shape \(2, 3, 4\)"),
    ],
)
def test_wrong_inputs_are_told(mode, x, y, told):
    for name in SINGLE:
        with pytest.raises(InputError, match=told):
            create_loss(name, mode=mode)(x, y)


def test_wrong_numbers_of_weights_are_told():
    x, y = batch("multiclass")
    with pytest.raises(InputError, match="weight has 3 numbers and the logits 4 classes"):
        create_loss("dice", mode="multiclass", weight=[1.0, 2, 3])(x, y)
    with pytest.raises(InputError, match="pos_weight has 3 numbers"):
        create_loss("bce", mode="multiclass", pos_weight=[1.0, 2, 3])(x, y)


@pytest.mark.parametrize("name", SINGLE)
def test_soft_targets_are_taken_or_refused(name):
    x, soft = torch.randn(2, 1, 8, 8), torch.rand(2, 8, 8)
    loss = create_loss(name, mode="binary")
    if name in HARD:
        with pytest.raises(InputError, match="hard target"):
            loss(x, soft)
    else:
        assert loss(x, soft).isfinite()


@pytest.mark.parametrize("name", ["boundary", "cldice"])
def test_four_spatial_dimensions(name):
    with pytest.raises(InputError, match="one to three spatial dimensions"):
        create_loss(name, mode="binary")(torch.zeros(1, 1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2))


# --- the package --------------------------------------------------------------------------------------------------------


def test_listing_does_not_import_torch():
    code = "import sys, segcore_plugin_losses as p; list(p.segcore_specs()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_classes_are_those_of_the_names():
    titles = {spec.title for spec in segcore_plugin_losses.segcore_specs()}
    assert set(segcore_plugin_losses.__all__) == titles | {"Loss", "across_processes"}
    for spec in segcore_plugin_losses.segcore_specs():
        assert type(create_loss(spec, mode="binary")) is getattr(segcore_plugin_losses, spec.title)
    assert not hasattr(segcore_plugin_losses, "SomeLoss")
    assert set(segcore.list_losses()) >= set(NAMES)
    assert type(create_loss("focal_tversky", mode="binary")).__name__ == "FocalTverskyLoss"
