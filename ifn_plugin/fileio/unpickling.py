"""Allowlist of what a checkpoint may hold besides tensors, and a restricted unpickler for torch before 2.6.

A pickle names the functions and classes to call. Each name that mmengine's checkpoints need is mapped to an inert
placeholder: with numpy's and mmengine's own, a crafted file could misstate memory sizes or modify classes. Once the
file has been read, :func:`finish` turns the contents of the placeholders into arrays and log values.
"""

import datetime
import pickle
from collections import Counter, OrderedDict
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

# Since 2.6, torch's own safe loading accepts additional globals under given names
TORCH_KNOWS_SAFE_GLOBALS = torch.__version__ >= torch.torch_version.TorchVersion('2.6')


def _refuse(what: str) -> UnpicklingError:
    return UnpicklingError(f'The file requests {what}, which is not allowed in a checkpoint.')


class _Name:
    """Placeholder for any other name, such as the user's statistics in mmengine's logs. It cannot be called."""

    __slots__ = ('name', )

    def __new__(cls, *_: object) -> '_Name':
        if not isinstance(cls, type):  # torch instantiates whatever a file names as a class
            raise _refuse(f'an object of {cls}')
        return super().__new__(cls)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> Any:
        raise _refuse(f'a call of {self.name}')

    def __repr__(self) -> str:
        return self.name


class _Log:
    """Placeholder for mmengine's ``HistoryBuffer``: its values and counts; its statistics come from the program."""

    __slots__ = ('state', )

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> HistoryBuffer:
        values, counts, length = (self.state[name] for name in ('_log_history', '_count_history', 'max_length'))
        if type(values) is not _Array or type(counts) is not _Array or type(length) is not int:
            raise _refuse('a log with non-numeric values')
        log = HistoryBuffer(max_length=length)
        log._log_history, log._count_history = values.finish(), counts.finish()
        return log


class _DType:
    """Placeholder for ``numpy.dtype``: a numeric type, or text of fixed length."""

    __slots__ = ('dtype', )

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if type(name) is not str or np.dtype(name).kind not in 'biufcSU':
            raise _refuse(f'an array of {name!r}, which is neither a numeric nor a text type')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        # for numbers and text, only the byte order of the state matters
        self.dtype = self.dtype.newbyteorder('>' if state[1] == '>' else '<')


def _from_bytes(dtype: Any, content: Any) -> np.ndarray:
    """Return a copy of bytes as a flat array."""
    if type(dtype) is not _DType or type(content) is not bytes:
        raise _refuse('an array of neither numbers nor text')
    return np.frombuffer(content, dtype.dtype).copy()


class _Array:
    """Placeholder for ``numpy.ndarray``: an array of numbers or text."""

    __slots__ = ('state', )

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self.state
        return _from_bytes(dtype, content).reshape(shape, order='F' if fortran is True else 'C')


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any) -> np.generic:
    value: np.generic = _from_bytes(dtype, content)[0]
    return value


class _Settings:
    """Placeholder for mmengine's ``ConfigDict``, which copies its content repeatedly."""

    __slots__ = ('content', )

    def __init__(self, content: Any) -> None:
        if type(content) is not dict:
            raise _refuse('a ConfigDict that is not made from a dictionary')
        self.content = content

    def finish(self, done: dict[int, tuple[Any, Any]]) -> ConfigDict:
        settings = ConfigDict()
        dict.update(settings, finish(self.content, done))
        return settings


def _path(*parts: object) -> Path:
    """Stand in for the path classes of any operating system."""
    if not all(type(part) is str for part in parts):
        raise _refuse('a path with parts that are not text')
    return Path(*map(str, parts))


class _OneCycle:
    """Placeholder for mmengine's ``OneCycleParamScheduler``, whose state names one of its two annealing functions."""

    def __new__(cls) -> '_OneCycle':
        raise _refuse('a schedule')


def _getattr(owner: object, name: str) -> Any:
    """Stand in for ``getattr``: a log names its four built-in statistics, a schedule its annealing function."""
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        return getattr(OneCycleParamScheduler, name)
    if type(owner) is _Name:
        return _Name(f'{owner}.{name}')
    if owner is not _Log or name not in ('min', 'max', 'current', 'mean'):
        raise _refuse(f'attribute {name!r} of {owner!r}')
    return None


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, with which old pickle protocols store bytes."""
    if encoding != 'latin1':
        raise _refuse(f'text encoded in {encoding}')
    return text.encode('latin1')


def _bytes(*content: object) -> bytes:
    """Stand in for ``bytes``, with which old pickle protocols store empty bytes."""
    if content:
        raise _refuse('a call of bytes')
    return b''


def list_safe_globals() -> list[Any]:
    """List the placeholders for what mmengine's checkpoints hold besides tensors, each with its name in pickles."""
    allowed: list[Any] = [(_Log, 'mmengine.logging.history_buffer.HistoryBuffer'), (_getattr, 'builtins.getattr'),
                          (_DType, 'numpy.dtype'), (_Array, 'numpy.ndarray'), (_bytes, 'builtins.bytes'),
                          (_OneCycle, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
                          (_Settings, 'mmengine.config.config.ConfigDict'), (frozenset, 'builtins.frozenset')]
    # other values that users put into the message hub: these only create values of their own type
    allowed += [(getattr(datetime, name), f'datetime.{name}')
                for name in ('date', 'time', 'datetime', 'timedelta', 'timezone')]
    allowed += [(_path, f'{module}.{name}') for name in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
                for module in ('pathlib', 'pathlib._local')]  # the second in Python 3.13
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # before and since numpy 2
        allowed += [(_reconstruct, f'{module}._reconstruct'), (_scalar, f'{module}.scalar')]
    return allowed


def list_placeholders(names: Iterable[str]) -> list[Any]:
    """List placeholders for unknown names, each with its name."""
    return [(_Name(name), name) for name in names]


def finish(content: Any, done: dict[int, tuple[Any, Any]] | None = None) -> Any:
    """Replace placeholders by arrays, logs and configurations.

    Args:
        content: The unpickled content.
        done: Finished objects by identity, since a small file can refer to one object any number of times.

    Returns:
        The content without placeholders; dictionaries and lists are changed in place.

    Raises:
        UnpicklingError: If a placeholder stands for anything else.
    """
    done = {} if done is None else done
    if id(content) in done:
        return done[id(content)][1]
    result = content
    if isinstance(content, (_Log, _Array)):
        result = content.finish()
    elif isinstance(content, _Settings):
        result = content.finish(done)
    elif isinstance(content, dict):
        done[id(content)] = content, content
        for key, value in content.items():
            if isinstance(key, (_Log, _Array, _DType, _Settings, _Name)):
                raise _refuse(f'{key} as a key')
            content[key] = finish(value, done)
    elif isinstance(content, list):
        done[id(content)] = content, content
        content[:] = (finish(value, done) for value in content)
    elif type(content) is tuple:
        result = tuple(finish(value, done) for value in content)
    elif isinstance(content, _DType):
        raise _refuse('a dtype')
    elif isinstance(content, _Name):
        raise _refuse(str(content))
    # keeps the original alive, so that its id is not reused
    done[id(content)] = content, result
    return result

_PythonUnpickler: Any = pickle._Unpickler


class SafePickle:
    """Replacement for the module ``pickle`` in ``torch.load``, for torch before 2.6."""

    @staticmethod
    def load(file: IO[bytes], **kwargs: Any) -> Any:
        return SafePickle.Unpickler(file, **kwargs).load()

    class Unpickler(_PythonUnpickler):
        """Unpickler as restricted as torch's own since 2.6: known names, calls of them, and states of their results."""

        dispatch = dict(_PythonUnpickler.dispatch)
        for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID):
            dispatch.pop(_code[0])

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # torch's own unpickler knows these too, but not in every version
            self.known: dict[str, Any] = {'_codecs.encode': _encode, 'collections.Counter': Counter}
            self.known |= torch._weights_only_unpickler._get_allowed_globals()
            self.known |= {stands_for: value for value, stands_for in list_safe_globals()}

        def find_class(self, module: str, name: str) -> Any:
            # as in torch's own unpickler, names are looked up and never imported
            module = {'__builtin__': 'builtins'}.get(module, module)
            return self.known.get(f'{module}.{name}') or _Name(f'{module}.{name}')

        def _check_known(self, value: Any) -> None:
            if not any(value is known for known in self.known.values()):
                raise _refuse(f'a call of {value!r}')

        def load_reduce(self) -> None:
            self._check_known(self.stack[-2])
            super().load_reduce()

        def load_newobj(self) -> None:
            self._check_known(self.stack[-2])
            super().load_newobj()

        def load_build(self) -> None:
            if type(self.stack[-2]) not in (torch.Tensor, torch.nn.Parameter, OrderedDict, _Log, _DType, _Array):
                raise _refuse(f'a state of {self.stack[-2]!r}')
            super().load_build()

        def load_binpersid(self) -> None:
            if type(self.stack[-1]) is not tuple or self.stack[-1][:1] != ('storage', ):
                raise _refuse('a persistent object other than a tensor storage')
            super().load_binpersid()

        dispatch[pickle.REDUCE[0]] = load_reduce
        dispatch[pickle.NEWOBJ[0]] = load_newobj
        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.BINPERSID[0]] = load_binpersid
