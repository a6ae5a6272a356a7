"""What a checkpoint may hold besides tensors, and a pickle for the versions of torch that cannot be told so.

A pickle names what it wants called. Here each name that mmengine's checkpoints need stands for a placeholder that can
do nothing: numpy's and mmengine's own would let a crafted file lie about memory or change classes. What the
placeholders hold becomes arrays and log values when all has been read, in :func:`finish`.
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

# Since then torch's own safe loading can be told what else to allow, and under which names
TORCH_KNOWS_SAFE_GLOBALS = torch.__version__ >= torch.torch_version.TorchVersion('2.6')


def _refuse(what: str) -> UnpicklingError:
    return UnpicklingError(f'The file wants {what}, which a checkpoint has no use for.')


class _Name:
    """For any other name: the user's statistics, which each log of mmengine names. It cannot be called."""

    __slots__ = ('name', )

    def __new__(cls, *_: object) -> '_Name':
        if not isinstance(cls, type):  # torch makes an object of what a file takes for a class
            raise _refuse(f'an object of {cls}')
        return super().__new__(cls)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> Any:
        raise _refuse(f'a call of {self.name}')

    def __repr__(self) -> str:
        return self.name


class _Log:
    """For mmengine's ``HistoryBuffer``: arrays of values and counts. Which statistics there are is the program's."""

    __slots__ = ('state', )

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> HistoryBuffer:
        values, counts, length = (self.state[name] for name in ('_log_history', '_count_history', 'max_length'))
        if type(values) is not _Array or type(counts) is not _Array or type(length) is not int:
            raise _refuse('a log of other than numbers')
        log = HistoryBuffer(max_length=length)
        log._log_history, log._count_history = values.finish(), counts.finish()
        return log


class _Kind:
    """For ``numpy.dtype``: a kind of number, or text of one length."""

    __slots__ = ('dtype', )

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if type(name) is not str or np.dtype(name).kind not in 'biufcSU':
            raise _refuse(f'an array of {name!r}, which is no kind of number or text')
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        # of the state, a number or text has the byte order only
        self.dtype = self.dtype.newbyteorder('>' if state[1] == '>' else '<')


def _numbers(kind: Any, content: Any) -> np.ndarray:
    """The numbers in bytes, copied."""
    if type(kind) is not _Kind or type(content) is not bytes:
        raise _refuse('an array of other than numbers')
    return np.frombuffer(content, kind.dtype).copy()


class _Array:
    """For ``numpy.ndarray``: an array of numbers."""

    __slots__ = ('state', )

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> np.ndarray:
        _, shape, kind, fortran, content = self.state
        return _numbers(kind, content).reshape(shape, order='F' if fortran is True else 'C')


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(kind: Any, content: Any) -> np.generic:
    value: np.generic = _numbers(kind, content)[0]
    return value


class _Settings:
    """For mmengine's ``ConfigDict``, which copies what it is given again and again."""

    __slots__ = ('content', )

    def __init__(self, content: Any) -> None:
        if type(content) is not dict:
            raise _refuse('settings of other than names and values')
        self.content = content

    def finish(self, done: dict[int, tuple[Any, Any]]) -> ConfigDict:
        settings = ConfigDict()
        dict.update(settings, finish(self.content, done))
        return settings


def _path(*parts: object) -> Path:
    """For a path of any system."""
    if not all(type(part) is str for part in parts):
        raise _refuse('a path of other than names')
    return Path(*map(str, parts))


class _OneCycle:
    """For mmengine's ``OneCycleParamScheduler``, whose state names one of its two curves."""

    def __new__(cls) -> '_OneCycle':
        raise _refuse('a schedule')


def _getattr(owner: object, name: str) -> Any:
    """For ``getattr``: a log names its four statistics, which each log has anyway, and a schedule its curve."""
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        return getattr(OneCycleParamScheduler, name)
    if type(owner) is _Name:
        return _Name(f'{owner}.{name}')
    if owner is not _Log or name not in ('min', 'max', 'current', 'mean'):
        raise _refuse(f'attribute {name!r} of {owner!r}')
    return None


def _encode(text: str, encoding: str) -> bytes:
    """For ``codecs.encode``, by which pickles of old protocols have bytes."""
    if encoding != 'latin1':
        raise _refuse(f'text encoded in {encoding}')
    return text.encode('latin1')


def _bytes(*content: object) -> bytes:
    """For ``bytes``, by which pickles of old protocols have empty ones."""
    if content:
        raise _refuse('a call of bytes')
    return b''


def what_mmengine_writes() -> list[Any]:
    """What mmengine's checkpoints hold besides tensors, in pairs with the name that pickles have for it."""
    allowed: list[Any] = [(_Log, 'mmengine.logging.history_buffer.HistoryBuffer'), (_getattr, 'builtins.getattr'),
                          (_Kind, 'numpy.dtype'), (_Array, 'numpy.ndarray'), (_bytes, 'builtins.bytes'),
                          (_OneCycle, 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
                          (_Settings, 'mmengine.config.config.ConfigDict'), (frozenset, 'builtins.frozenset')]
    # what else its message hub is given: these make values of their own kind only
    allowed += [(getattr(datetime, name), f'datetime.{name}') for name in ('date', 'datetime', 'timedelta', 'timezone')]
    allowed += [(_path, f'{module}.{name}') for name in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
                for module in ('pathlib', 'pathlib._local')]  # the second in Python 3.13
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # the name before and since numpy 2
        allowed += [(_reconstruct, f'{module}._reconstruct'), (_scalar, f'{module}.scalar')]
    return allowed


def name_unknown(names: Iterable[str]) -> list[Any]:
    """Placeholders for names that mean nothing here, in pairs with the names."""
    return [(_Name(name), name) for name in names]


def finish(content: Any, done: dict[int, tuple[Any, Any]] | None = None) -> Any:
    """Put arrays and logs in the place of their placeholders.

    Args:
        content: What was read.
        done: What is finished, by its identity: a small file can name one thing any number of times.

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
            if isinstance(key, (_Log, _Array, _Kind, _Settings, _Name)):
                raise _refuse(f'{key} for a key')
            content[key] = finish(value, done)
    elif isinstance(content, list):
        done[id(content)] = content, content
        content[:] = (finish(value, done) for value in content)
    elif type(content) is tuple:
        result = tuple(finish(value, done) for value in content)
    elif isinstance(content, _Kind):
        raise _refuse('a kind of number')
    elif isinstance(content, _Name):
        raise _refuse(str(content))
    # with what it was made from, whose identity must not pass to something else
    done[id(content)] = content, result
    return result

_PythonUnpickler: Any = pickle._Unpickler


class SafePickle:
    """In place of the module ``pickle`` in ``torch.load``, for versions of torch before 2.6."""

    @staticmethod
    def load(file: IO[bytes], **kwargs: Any) -> Any:
        return SafePickle.Unpickler(file, **kwargs).load()

    class Unpickler(_PythonUnpickler):
        """As restricted as torch's own since 2.6: known names, calls of them, and states of what they give."""

        dispatch = dict(_PythonUnpickler.dispatch)
        for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID):
            dispatch.pop(_code[0])

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # which torch's own knows too, but not in each version
            self.known: dict[str, Any] = {'_codecs.encode': _encode, 'collections.Counter': Counter}
            self.known |= torch._weights_only_unpickler._get_allowed_globals()
            self.known |= {stands_for: value for value, stands_for in what_mmengine_writes()}

        def find_class(self, module: str, name: str) -> Any:
            # names are looked up, as in torch's own, and never imported
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
            if type(self.stack[-2]) not in (torch.Tensor, torch.nn.Parameter, OrderedDict, _Log, _Kind, _Array):
                raise _refuse(f'a state of {self.stack[-2]!r}')
            super().load_build()

        def load_binpersid(self) -> None:
            if type(self.stack[-1]) is not tuple or self.stack[-1][:1] != ('storage', ):
                raise _refuse('something that torch stores elsewhere')
            super().load_binpersid()

        dispatch[pickle.REDUCE[0]] = load_reduce
        dispatch[pickle.NEWOBJ[0]] = load_newobj
        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.BINPERSID[0]] = load_binpersid
