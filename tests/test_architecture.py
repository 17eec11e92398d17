"""The table of layers: who may import whom."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_ORDER = {
    1: "errors features specs hookspecs",
    2: "encoder neck heads decoder model guard tensorfile",
    3: "owners installed discovery local registry",
    4: "options transforms weights hub transfer download create loss config skeleton foreign card checkpoints convert",
    5: "cli weights_commands __main__ __init__ testing probe inspection installation doctor plugin_commands scaffold",
}
LAYERS = {name: layer for layer, names in _ORDER.items() for name in names.split()}
WITHOUT_TORCH = {
    "errors",
    "features",
    "specs",
    "hookspecs",
    "owners",
    "installed",
    "discovery",
    "local",
    "registry",
    "hub",
    "transfer",
    "download",
    "cli",
    "probe",
    "inspection",
    "installation",
    "doctor",
    "plugin_commands",
    "scaffold",
    "weights_commands",
}
FACES = {
    ("model", "checkpoints"),
    ("registry", "create"),
}  # methods and functions that forward to assembly, when called
CORE = {"torch", "pluggy", "safetensors", "packaging", "click", "filelock"}
OPTIONAL = {"huggingface_hub"}  # the extra `hub`
STANDARD = set(__import__("sys").stdlib_module_names)


def modules():
    return sorted((ROOT / "segcore").rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT / "segcore").with_suffix("").parts
    return parts[0]


def imports(path, *, lazy):
    """Yield (module, names) of imports at run time; those inside functions only if `lazy`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if node in typing_only or (node in inner and not lazy):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, tuple(alias.name for alias in node.names)


def internal(path, *, lazy=True):
    for module, names in imports(path, lazy=lazy):
        if module == "segcore":
            yield from (name if name in LAYERS else "__init__" for name in names)
        elif module.startswith("segcore."):
            yield module.split(".")[1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(path.parts[-2:]))
def test_imports_point_downwards(path):
    own = name_of(path)
    for target in internal(path):
        if target == own or (own, target) in FACES or target == "__init__":
            continue
        assert LAYERS[target] <= LAYERS[own], f"{own} (layer {LAYERS[own]}) imports {target} (layer {LAYERS[target]})"


def test_no_circle():
    graph = {name: set() for name in LAYERS}
    for path in modules():
        graph[name_of(path)] |= {t for t in internal(path, lazy=False) if t not in {name_of(path), "__init__"}}
    done = set()

    def walk(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in graph[name]:
                walk(target, [*trail, name])
            done.add(name)

    for name in graph:
        walk(name, [])


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH))
def test_catalogue_and_facts_import_no_torch(name):
    heavy = {module.split(".")[0] for module, _ in imports(ROOT / "segcore" / f"{name}.py", lazy=False)}
    assert not heavy & {"torch", "safetensors", "numpy"}


def test_core_needs_only_its_dependencies():
    used = {module.split(".")[0] for path in modules() for module, _ in imports(path, lazy=True)}
    assert used - STANDARD - {"segcore"} <= CORE | OPTIONAL
    eager = {module.split(".")[0] for path in modules() for module, _ in imports(path, lazy=False)}
    assert not eager & OPTIONAL


def requirements(folder):
    """Names of the packages without which a plugin cannot be installed."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}


@pytest.mark.parametrize("package", sorted((ROOT / "plugins").glob("*/segcore_*")), ids=lambda path: path.name)
def test_plugins_use_the_public_core_and_of_each_other_what_they_require(package):
    public = set(__import__("segcore").__all__)
    for path in package.rglob("*.py"):
        for module, names in imports(path, lazy=True):
            top = module.split(".")[0]
            if top.startswith("segcore_plugin") and top != package.name:
                assert top.replace("_", "-") in requirements(package.parent), f"{path} imports {module}"
                assert module == top, f"{path} imports {module}; use the public names of {top}"
            if top == "segcore":
                assert module == "segcore", f"{path} imports {module}; use the public names of segcore"
                titles = {name for name in names if name[:1].isupper()} - public
                assert set(names) <= public | titles, f"{path} imports {set(names) - public} from segcore"


def test_files_stay_readable():
    paths = [*modules(), *(ROOT / "plugins").glob("*/segcore_*/*.py")]
    long = {str(path): n for path in paths if (n := len(path.read_text(encoding="utf-8").splitlines())) > 420}
    assert not long
