"""What a source needs of a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ComponentFiles:
    """The files of one component, such as a UNet, in the layout of the Hugging Face hub.

    Args:
        folder: The component's folder in the model's; ``""`` for the model's own.
        weights: The stem of its weights, ``"model"`` for ``model.safetensors`` or, in shards,
            ``model.safetensors.index.json`` and what it lists; None if it has none.
        required: Further files without which it cannot be loaded, such as ``config.json``; of a
            tuple of names any one will do.
        wanted: Files that are taken where they exist.
        optional: Whether a model need not have the component; ``model_index.json`` tells.
        tensors: Tensors that the weights must hold, so that those of another model are noticed by
            their header alone; each as the end of a name, because prefixes differ.
    """

    folder: str
    weights: str | None = None
    required: tuple[str | tuple[str, ...], ...] = ("config.json",)
    wanted: tuple[str, ...] = ()
    optional: bool = False
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFiles:
    """A model, and what is needed of it.

    Args:
        model: A hub id (``owner/name``), a folder, or a single ``.safetensors`` file.
        components: What is needed.
        revision: Branch, tag or commit on the hub.
        variant: Such as ``"fp16"``, for ``model.fp16.safetensors``; a component that has no
            such file gives its plain one, as long as another component has one.
    """

    model: str
    components: tuple[ComponentFiles, ...]
    revision: str | None = None
    variant: str | None = None
