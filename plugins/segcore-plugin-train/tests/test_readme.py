"""The table of options in the README is that of the code; ``python test_readme.py`` prints it."""

from pathlib import Path

from segcore_plugin_train.settings import FIELDS


def table():
    lines = ["| option | default | |", "|---|---|---|"]
    for field in FIELDS.values():
        flag = "--" + field.name.replace("_", "-")
        default = (
            ""
            if field.default in {None, "", False} or not isinstance(field.default, str | int | float)
            else field.default
        )
        lines.append(f"| `{flag}` | {default} | {field.metadata['help']} |")
    return "\n".join(lines) + "\n"


def test_the_readme_lists_every_option():
    assert table() in (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    print(table())
