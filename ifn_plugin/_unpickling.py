"""What a checkpoint may hold besides tensors, and a pickle for the versions of torch that cannot be told so.

A pickle names what it wants called. Here each name that mmengine's checkpoints need stands for something that can do
nothing else: numpy's own functions would let a crafted file make arrays that lie about their memory.
"""

import pickle
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# Since then torch's own safe loading can be told what else to allow, and under which names
TORCH_KNOWS_SAFE_GLOBALS = torch.__version__ >= torch.torch_version.TorchVersion('2.6')


def _getattr(owner: object, name: str) -> Any:
    """For ``getattr``: HistoryBuffer's four statistics."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise UnpicklingError(f'The file wants attribute {name!r} of {owner!r}, which a checkpoint has no use for.')


class _Kind:
    """For ``numpy.dtype``: a kind of number."""

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(name, str) or np.dtype(name).char not in '?bhilqBHILQefdg':
            raise UnpicklingError(f'The file has an array of {name!r}, which is no kind of number.')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        # of the state, a number has the byte order only
        self.dtype = self.dtype.newbyteorder('>' if state[1] == '>' else '<')


class _Array(np.ndarray):
    """For ``numpy.ndarray``: an array of numbers, written again as any other."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, kind, fortran, content = state
        super().__setstate__((version, shape, kind.dtype, fortran, content))

    def __reduce__(self) -> Any:
        return np.array(self, subok=False).__reduce__()


def _reconstruct(*_: object) -> _Array:
    return np.empty(0).view(_Array)


def _scalar(kind: _Kind, content: bytes) -> np.generic:
    value: np.generic = np.frombuffer(content, kind.dtype)[0]
    return value


def _encode(text: str, encoding: str) -> bytes:
    """For ``codecs.encode``, by which pickles of old protocols have bytes."""
    if encoding != 'latin1':
        raise UnpicklingError(f'The file wants text encoded in {encoding}, which a checkpoint has no use for.')
    return text.encode('latin1')


def what_mmengine_writes() -> list[Any]:
    """What mmengine's checkpoints hold besides tensors, in pairs with the name that pickles have for it.

    The runner logs in ``HistoryBuffer``, which holds numpy arrays of numbers.
    """
    allowed: list[Any] = [(HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
                          (_getattr, 'builtins.getattr'), (_Kind, 'numpy.dtype'), (_Array, 'numpy.ndarray')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # the name before and since numpy 2
        allowed += [(_reconstruct, f'{module}._reconstruct'), (_scalar, f'{module}.scalar')]
    return allowed


class SafePickle:
    """In place of the module ``pickle`` in ``torch.load``, for versions of torch before 2.6."""

    @staticmethod
    def load(file: IO[bytes], **kwargs: Any) -> Any:
        return SafePickle.Unpickler(file, **kwargs).load()

    class Unpickler(pickle.Unpickler):
        """Knows the names that torch's safe loading allows and those of :func:`what_mmengine_writes`, and no others."""

        def find_class(self, module: str, name: str) -> Any:
            # names are looked up, as in torch's own, and never imported
            known: dict[str, Any] = {'_codecs.encode': _encode}
            known |= torch._weights_only_unpickler._get_allowed_globals()
            known |= {stands_for: value for value, stands_for in what_mmengine_writes()}
            module = {'__builtin__': 'builtins'}.get(module, module)
            try:
                return known[f'{module}.{name}']
            except KeyError:
                raise UnpicklingError(f'The file wants {module}.{name}, which a checkpoint has no use for.') from None
