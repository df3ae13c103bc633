"""The configurations that belong to a single file: those of this package, or a user's."""

from importlib.resources import files as resources
from pathlib import Path

from diffsegkit.errors import DownloadError, WeightsError
from diffsegkit.weights import ComponentFiles, ModelFiles, check_folder, find_model

_VOCABULARY = ComponentFiles(
    "tokenizer",
    required=(("vocab.json", "tokenizer.json"), ("merges.txt", "tokenizer.json")),
    wanted=("tokenizer_config.json", "special_tokens_map.json"),
    optional=True,
)
_NEEDED = (
    ComponentFiles("unet"),
    ComponentFiles("vae"),
    ComponentFiles("text_encoder"),
    ComponentFiles("text_encoder_2", optional=True),
)
# Without tokenizers there is the empty prompt, and without a scheduler there is no noise.
_EXTRAS = (
    _VOCABULARY,
    ComponentFiles("tokenizer_2", None, _VOCABULARY.required, _VOCABULARY.wanted, optional=True),
    ComponentFiles("scheduler", required=("scheduler_config.json",), optional=True),
)


def bundled_configurations(family: str) -> Path:
    """The folder with a family's published configurations, which comes with this package.

    Args:
        family: ``"sd1"``, ``"sd2"`` or ``"sdxl"``.

    Example:
        >>> sorted(path.name for path in bundled_configurations("sd1").iterdir())
        ['scheduler', 'text_encoder', 'unet', 'vae']
    """
    return Path(str(resources(__package__))) / "configs" / family


def find_configurations(config: str) -> Path:
    """The folder with the configurations that a user names.

    Args:
        config: Folder or hub id, in the layout of diffusers; weights are not needed.

    Raises:
        WeightsError: If there is no such folder, or a file is missing or damaged.
        DownloadError: If it has to be fetched and cannot be.
        ComponentError: If it is on the hub, and huggingface_hub is not installed.
    """
    folder = Path(config).expanduser()
    if folder.is_dir():
        # Whatever model_index.json lists: a folder made for this may have the needed ones only.
        extras = tuple(each for each in _EXTRAS if (folder / each.folder).is_dir())
        check_folder(folder, ModelFiles(config, (*_NEEDED, *extras)))
        return folder
    try:
        return find_model(ModelFiles(config, (*_NEEDED, *_EXTRAS)))
    except (DownloadError, WeightsError) as error:
        # The advice is for another option.
        message = str(error).replace("--source.model", "--source.config")
        raise type(error)(message) from error
