"""Plugins and records that break one promise each, and what the conformance kit has to say to that."""

from dataclasses import dataclass, field

from torch import nn

from segcore import DecoderSpec, EncoderSpec
from segcore.testing import TinyEncoder
from tests.bad_encoders import MINE
from tests.fake_plugins import CHANNELS, encoder, listing

REQUIRES = ("segcore>=0.1,<0.2",)


@dataclass
class BadPlugin:
    """A plugin that breaks a promise, and part of what the check says.

    Attributes:
        before: source that stands at the top of its light module.
        records: what it lists, sources or names of encoders.
        network: source of the module ``fake_net``.
        installed: further arguments of `install`.
        rival: another distribution that claims the same id.
    """

    check: str
    says: str
    before: str = ""
    records: tuple[str, ...] = ("bad-net",)
    network: str = ""
    installed: dict = field(default_factory=dict)
    rival: str | None = None


def install(site, namespace, source, *, requires=REQUIRES, licence="MIT", distribution=None, **more):
    """Install a plugin with complete metadata."""
    distribution = distribution or f"segcore-plugin-{namespace}"
    lines = ["Metadata-Version: 2.4", f"Name: {distribution}", "Version: 1.0"]
    lines += [f"License-Expression: {licence}"] if licence else []
    lines += [f"Requires-Dist: {line}" for line in requires]
    site.install(namespace, source, distribution=distribution, metadata="\n".join([*lines, "", "A plugin."]), **more)


NETWORK = """
from segcore.testing import TinyEncoder

class Net(TinyEncoder):
    def __init__(self, depth: int = 5, in_channels: int = 3):
        super().__init__(depth, in_channels)
        {statement}
"""


def built(statement, imports=""):
    """Return the arguments of a plugin whose network does something when it is built."""
    record = f'EncoderSpec("bad-net", factory="fake_net:Net", out_channels={CHANNELS})'
    return {"network": imports + NETWORK.format(statement=statement), "records": (record,)}


BUSY = "import time\nstarted = time.process_time()\nwhile time.process_time() < started + 0.3:\n    pass\n"
LOOK_UP = "socket.getaddrinfo('localhost', 80)"

PLUGINS = [
    BadPlugin(
        "loads_without_warnings", "it warns: FutureWarning: old", "import warnings\nwarnings.warn('old', FutureWarning)"
    ),
    BadPlugin("loads_without_warnings", "degraded: 'bad-net' is listed twice", records=("bad-net", "bad-net")),
    BadPlugin("loads_without_warnings", "broken: importing .* raised ZeroDivisionError", "1 / 0"),
    BadPlugin(
        "loads_without_warnings",
        "while it is imported and asked for its records it ended the process with exit code 7",
        "import os\nos._exit(7)",
    ),
    BadPlugin(
        "listing_is_light", r"light module imports \['numpy'\]; import them where the network is", "import numpy"
    ),
    BadPlugin("listing_is_quick", r"it takes \d{3} ms; compute when a network is built", BUSY),
    BadPlugin("listing_is_silent", "it prints 'hello.*spoils the output of every command", "print('hello')"),
    BadPlugin("listing_touches_nothing", "network: socket.getaddrinfo", f"import socket\n{LOOK_UP}"),
    BadPlugin(
        "listing_touches_nothing", "file: os.mkdir .*made-by-a-plugin", "import os\nos.mkdir('made-by-a-plugin')"
    ),
    BadPlugin("listing_touches_nothing", "process: os.system", "import os\nos.system('true')"),
    BadPlugin("listing_leaves_settings_alone", "it changes os.environ; settings", "import os\nos.environ['BAD'] = '1'"),
    BadPlugin(
        "records_are_the_same_everywhere",
        "the records differ from one process to the next",
        "import os",
        (encoder("x").replace("'x'", "f'bad-{os.getpid()}'"),),
    ),
    BadPlugin("id_is_its_own", "it asks for the id 'bad': ", rival="segcore-bad"),
    BadPlugin("package_bounds_segcore", "do not require segcore; add dependencies", installed={"requires": ["torch"]}),
    BadPlugin("package_bounds_segcore", "has no upper bound", installed={"requires": ["segcore>=0.1"]}),
    BadPlugin("package_bounds_segcore", "has no lower bound", installed={"requires": ["segcore<0.2"]}),
    BadPlugin("package_states_its_licence", "its metadata state no licence; add license", installed={"licence": None}),
    BadPlugin("building_works_anywhere", "bad-net: ValueError: not today", **built("raise ValueError('not today')")),
    BadPlugin(
        "building_works_anywhere",
        "while its networks are built it crashed with SIGABRT .*fake_net.py:7",
        **built("os.abort()", "import os"),
    ),
    BadPlugin("building_is_silent", "it prints 'hello.*use logging", **built("print('hello')")),
    BadPlugin("building_touches_nothing", "network: socket.getaddrinfo", **built(LOOK_UP, "import socket")),
    BadPlugin(
        "building_leaves_settings_alone",
        "it changes torch.backends.cudnn; settings belong to the program",
        **built("torch.backends.cudnn.benchmark = True", "import torch"),
    ),
    BadPlugin(
        "aliases_reach_the_record", "the alias 'two' means 'two'", records=(encoder("one", "aliases=('two',)"), "two")
    ),
]


def takes_anything(**options):
    return TinyEncoder(**options)


def takes_an_activation(depth: int = 5, in_channels: int = 3, act: object = nn.ReLU):
    return TinyEncoder(depth, in_channels)


def needs_a_width(width, depth: int = 5, in_channels: int = 3):
    return TinyEncoder(depth, in_channels, width=width)


def record(name="bad-net", factory="segcore.testing:TinyEncoder", **more):
    return EncoderSpec(name, factory=factory, out_channels=CHANNELS, provenance=MINE, **more)


RECORDS = [
    ("record_is_plain", "options of 'bad-net' must be JSON-able", record(options={"width": {8}})),
    ("name_is_free", "'resnet18' belongs to segcore-plugin-resnet; choose another name", record("resnet18")),
    ("name_is_free", "'vgg11' belongs to segcore-plugin-timm", record(aliases=("vgg11",))),
    (
        "name_is_free",
        "'unet' belongs to segcore-plugin-decoders",
        DecoderSpec("u", factory="segcore.testing:TinyDecoder", title="Unet", provenance=MINE),
    ),
    (
        "factory_is_found",
        "cannot be built: its factory .* failed with AttributeError",
        record(factory="segcore.testing:No"),
    ),
    ("factory_is_found", "'segcore.testing:__doc__' cannot be called", record(factory="segcore.testing:__doc__")),
    ("options_are_explicit", r"the factory takes \*options, so misspelt options", record(factory=takes_anything)),
    ("options_fit_the_factory", "the factory takes no widht", record(options={"widht": 4})),
    (
        "options_fit_the_factory",
        "width has no default, so the name alone cannot be built",
        record(factory=needs_a_width),
    ),
    ("defaults_are_plain", "the default of 'act' is .*ReLU", record(factory=takes_an_activation)),
]


def source_of(bad):
    """Return the source of a bad plugin's light module."""
    return listing(*bad.records, before=bad.before)
