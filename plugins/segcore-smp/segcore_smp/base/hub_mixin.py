"""Checkpoints in SMP's format: ``config.json`` with the arguments of the model, and ``model.safetensors``."""

# mypy: disable-error-code="no-untyped-def"

import functools
import importlib
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import segcore
from segcore_smp.hub import hub_file, upload

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CLASS = "_model_class"


class SMPHubMixin:
    """Gives a model `config`, `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    _hub_mixin_config: dict[str, Any] | None = None

    def _record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep the arguments of ``__init__`` that JSON can hold, defaults included."""
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        named = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        given = dict(zip(named, args, strict=False)) | dict(kwargs)
        kept = {key: value for key, value in defaults.items() if _is_json(value)}
        kept |= {key: value for key, value in given.items() if _is_json(value)}
        self.__dict__["_unsaved"] = sorted(key for key, value in given.items() if not _is_json(value))
        self.__dict__["_hub_mixin_config"] = {key: value for key, value in kept.items() if not key.startswith("_")}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments with which the model was made."""
        return self._hub_mixin_config  # type: ignore[return-value]

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: dict[str, Any] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        dataset: str | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write the model as a folder that SMP, this package and segcore load.

        Args:
            save_directory: made if it does not exist.
            config: written instead of the model's own.
            repo_id: to push to; None for the folder's name.
            push_to_hub: also upload the folder.
            model_card_kwargs: facts for the model card.
            metrics: for the model card.
            dataset: for the model card.
            **push_to_hub_kwargs: as in `push_to_hub`.

        Returns:
            The address of the commit if the folder was uploaded, else None.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        facts = dict(model_card_kwargs or {}) | ({} if metrics is None else {"metrics": metrics})
        facts |= {} if dataset is None else {"dataset": dataset}
        record = dict(self.config if config is None else config) | {CLASS: type(self).__name__}
        if self.__dict__.get("_unsaved"):
            warnings.warn(
                f"{', '.join(self.__dict__['_unsaved'])}: no JSON, so the checkpoint does not hold it. Give it again "
                f"when the model is loaded.",
                stacklevel=2,
            )
        state = {key: value.detach().contiguous() for key, value in self.state_dict().items()}  # type: ignore[attr-defined]
        _replace(folder / WEIGHTS, lambda path: save_file(state, path))
        _replace(folder / CONFIG, lambda path: path.write_text(json.dumps(record, indent=2, sort_keys=True), "utf-8"))
        card = folder / "README.md"
        if not card.exists():
            card.write_text(str(self.generate_model_card(**facts)), encoding="utf-8")
        if push_to_hub:
            return upload(folder, repo_id or folder.name, **push_to_hub_kwargs)
        return None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        config: dict[str, Any] | None = None,
        commit_message: str = "Push model using huggingface_hub.",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        allow_patterns: list[str] | str | None = None,
        ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> str:
        """Save the model and upload it to the Hugging Face Hub; return the address of the commit.

        Args:
            repo_id: ``owner/name``; made if it does not exist.
            config: as in `save_pretrained`.
            commit_message: of the commit.
            private: whether a new repository is private.
            token: of an account that may write.
            branch: to commit to.
            create_pr: propose the commit instead of making it.
            allow_patterns: files to upload.
            ignore_patterns: files to leave out.
            delete_patterns: files to delete from the repository.
            model_card_kwargs: as in `save_pretrained`.

        Raises:
            WeightsError: huggingface_hub is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, config=config, model_card_kwargs=model_card_kwargs)
            return upload(
                Path(folder),
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                branch=branch,
                create_pr=create_pr,
                allow_patterns=allow_patterns,
                ignore_patterns=ignore_patterns,
                delete_patterns=delete_patterns,
            )

    def generate_model_card(self, *args: Any, **kwargs: Any) -> str:  # noqa: ARG002
        """Return the text of the model card; it names ``metrics`` and ``dataset`` where they are given."""
        title = type(self).__name__
        arguments = "\n".join(f"    {key}: {value!r}" for key, value in self.config.items())
        lines = [
            "---",
            "library_name: segmentation-models-pytorch",
            "pipeline_tag: image-segmentation",
            "tags: [semantic-segmentation, pytorch, segcore]",
            "---",
            f"# {title}",
            "",
            "Loads with `from_pretrained` of segcore_smp, of segmentation_models_pytorch and of segcore. Arguments:",
            "",
            arguments,
        ]
        for key in ("metrics", "dataset"):
            if kwargs.get(key) is not None:
                lines += ["", f"## {key.capitalize()}", "", json.dumps(kwargs[key], indent=4)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        subfolder: str | None = None,
        strict: bool = True,
        map_location: str | torch.device = "cpu",
        **model_kwargs: Any,
    ) -> Any:
        """Return the model of a folder or repository, in evaluation mode; encoder weights are never fetched.

        Args:
            pretrained_model_name_or_path: a folder, or ``owner/name`` on the Hugging Face Hub.
            force_download: fetch files that are in the cache too.
            token: for private repositories.
            cache_dir: folder for downloads.
            local_files_only: use only what was downloaded before.
            revision: branch, tag or commit.
            subfolder: folder inside that holds the checkpoint.
            strict: False leaves out what does not fit.
            map_location: device to load to.
            **model_kwargs: arguments of the model that count more than those saved.

        Raises:
            CheckpointError: the folder is no checkpoint.
            WeightsError: huggingface_hub is not installed.
        """
        options = {"force_download": force_download, "token": token, "cache_dir": cache_dir, "revision": revision}
        options |= {"local_files_only": local_files_only, "subfolder": subfolder}
        config = read_config(pretrained_model_name_or_path, options)
        config.pop(CLASS, None)
        model: Any = cls(**_taken(cls, config | model_kwargs | {"encoder_weights": None}))
        if "encoder_weights" in config and model.config is not None:
            model.config["encoder_weights"] = model_kwargs.get("encoder_weights", config["encoder_weights"])
        state = load_file(hub_file(pretrained_model_name_or_path, WEIGHTS, options), device=str(map_location))
        model.load_state_dict(state, strict=strict)
        return model.to(map_location).eval()


def from_pretrained(
    pretrained_model_name_or_path: str,
    *args: Any,
    strict: bool = True,
    **kwargs: Any,
) -> nn.Module:
    """Return the model of a checkpoint; its config names the class.

    Args:
        pretrained_model_name_or_path: a folder, or ``owner/name`` on the Hugging Face Hub.
        *args: for the class's own ``from_pretrained``.
        strict: False leaves out what does not fit.
        **kwargs: for the class's own ``from_pretrained``.

    Raises:
        CheckpointError: the folder is no checkpoint, or its class is no model.
    """
    keys = ("force_download", "token", "cache_dir", "local_files_only", "revision", "subfolder")
    options = {key: value for key, value in kwargs.items() if key in keys}
    title = read_config(pretrained_model_name_or_path, options).get(CLASS)
    package = importlib.import_module("segcore_smp")
    known = {kind.__name__: kind for kind in package.MODEL_ARCHITECTURES_MAPPING.values()}
    if title not in known:
        raise segcore.CheckpointError(
            f"{os.fspath(pretrained_model_name_or_path)!r} holds a model of the class {str(title)!r:.60}; known are "
            f"{', '.join(known)}. Load your own class by its own from_pretrained."
        )
    model: nn.Module = known[title].from_pretrained(pretrained_model_name_or_path, *args, strict=strict, **kwargs)
    return model


def supports_config_loading(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function without arguments that begin with an underscore, which configs may hold."""

    @functools.wraps(func)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return func(self, *args, **{key: value for key, value in kwargs.items() if not key.startswith("_")})

    return wrapper


def read_config(source: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is no JSON object.
    """
    path = hub_file(source, CONFIG, options)
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise segcore.CheckpointError(f"{str(path)!r} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise segcore.CheckpointError(f"{str(path)!r} holds no JSON object.")
    return config


def _taken(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a class's ``__init__`` takes."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    return {key: value for key, value in arguments.items() if key in parameters}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there, so that an interruption leaves the old one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
