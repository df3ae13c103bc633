"""What went wrong, and what helps."""

import errno
import os

from diffsegkit.errors import DatasetError, DiffSegKitError


def explain(error: Exception) -> str:
    """What went wrong and what helps, in one sentence.

    Args:
        error: Anything that was raised.

    Returns:
        The message of errors that are made for users, and of full disks and GPUs; otherwise the
        message with its type, and how to see more. Of a data set that is missing, the tree too.
    """
    if isinstance(error, DatasetError):
        return str(error).strip()  # it draws the expected tree of files
    if isinstance(error, DiffSegKitError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        where = f" at {os.fspath(error.filename)!r}" if error.filename is not None else ""
        space = (
            "; free some space and go on (--skip-existing, or --resume), or choose another --out"
        )
        remedy = {
            errno.ENOSPC: space,
            errno.EDQUOT: space,
            errno.EACCES: "; check the permissions, or choose another place",
            errno.EROFS: "; choose another place with --out",
            errno.ENAMETOOLONG: "; use a shorter name",
        }.get(error.errno, "")
        return f"{os.strerror(error.errno)}{where}{remedy}."
    if is_out_of_memory(error):
        return (
            "The memory does not suffice; use --batch-size 1 (or --data.batch_size 1), a smaller "
            "--image-size, or --device cpu (or --trainer.accelerator cpu)."
        )
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message} (run again with --debug to see where)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of a GPU or of the machine is used up.

    By name, because whoever lists components need not import torch.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
