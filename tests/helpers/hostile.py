"""Checkpoints that would run code if they were unpickled as they are.

Each payload, if it ran, would leave a file at ``mark``; none does more harm than that.
"""

import builtins
import code
import ctypes
import functools
import importlib
import io
import marshal
import operator
import os
import pickle
import runpy
import shutil
import struct
import subprocess
import tarfile
import timeit
import zipfile

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer


class Call:
    """Pickled as a call; ``state`` is what is set on its result."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts

    def __call__(self):  # pickle wants what it calls to be callable
        raise NotImplementedError


class Global:
    """A name that the pickle spells as it likes, such as that of a module elsewhere or in Python 2."""

    def __init__(self, module, name):
        self.line = f'c{module}\n{name}\n'.encode()

    def __call__(self):  # as above
        raise NotImplementedError


class _Pickler(pickle._Pickler):  # in Python, so that it can write a name as it is

    def save(self, obj, *args, **kwargs):
        if isinstance(obj, Global):
            self.write(obj.line)
        else:
            super().save(obj, *args, **kwargs)


class _PickleModule:
    """What ``torch.save`` takes for the module ``pickle``."""

    __name__ = 'pickle'
    Pickler = _Pickler

    @staticmethod
    def dump(obj, file, protocol=2):
        _Pickler(file, protocol).dump(obj)


def payloads(mark):
    """Name -> payload."""
    shell = f'touch {mark}'
    source = f'open({str(mark)!r}, "w")'
    getattr_ = Global('builtins', 'getattr')
    import_ = Call(getattr_, Global('builtins', '__dict__'), '__import__')
    compiled = marshal.dumps(compile(source, 'x', 'exec'))
    flagged = Call(np.dtype, 'f8', False, True, state=(3, '<', None, None, None, -1, -1, 63))

    def array(dtype, content):
        return Call(np.empty(0).__reduce__()[0], np.ndarray, (0, ), b'b', state=(1, (1, ), dtype, False, content))

    def statistic(name):
        return Call(getattr, HistoryBuffer, name)

    return {
        'os.system': Call(os.system, shell),
        'os.popen': Call(os.popen, shell),
        'posix.system': Call(Global('posix', 'system'), shell),
        'nt.system': Call(Global('nt', 'system'), shell),
        'subprocess': Call(subprocess.Popen, ['touch', str(mark)]),
        'check_output': Call(subprocess.check_output, ['touch', str(mark)]),
        'eval': Call(eval, source),
        'exec': Call(exec, source),
        'python2-eval': Call(Global('__builtin__', 'eval'), source),
        'python2-execfile': Call(Global('__builtin__', 'execfile'), str(mark)),
        'open': Call(io.open, str(mark), 'w'),
        '_io.open': Call(Global('_io', 'open'), str(mark), 'w'),
        'pathlib': Call(Global('pathlib', 'Path.touch'), Call(Global('pathlib', 'Path'), str(mark))),
        'import': Call(builtins.__import__, 'os'),
        'import_module': Call(importlib.import_module, 'os'),
        'getattr-module': Call(Call(getattr, Call(importlib.import_module, 'os'), 'system'), shell),
        'getattr-builtins': Call(import_, 'os'),
        'getattr-init': Call(getattr, HistoryBuffer, '__init__'),
        'getattr-globals': Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
        'getattr-class': Call(getattr, HistoryBuffer, '__class__'),
        'getattr-subclasses': Call(Call(getattr, object, '__subclasses__')),
        'getattr-numpy': Call(Call(getattr, np.ndarray, 'tofile'), np.zeros(1), str(mark)),
        'getattr-tensor': Call(getattr, torch.Tensor, '__reduce_ex__'),
        'attrgetter': Call(Call(operator.attrgetter, 'system'), Call(importlib.import_module, 'os')),
        'methodcaller': Call(Call(operator.methodcaller, 'system', shell), Call(importlib.import_module, 'os')),
        'partial': Call(Call(functools.partial, os.system), shell),
        'reduce': Call(functools.reduce, eval, [source, {}]),
        'map': Call(list, Call(map, eval, [source])),
        'nested': Call(Call(Call(functools.partial, functools.partial), os.system), shell),
        'pickle.loads': Call(pickle.loads, pickle.dumps(Call(os.system, shell))),
        'marshal': Call(Global('types', 'FunctionType'), Call(marshal.loads, compiled), {}),
        'runpy': Call(runpy.run_path, str(mark)),
        'timeit': Call(timeit.timeit, 'pass', source, timeit.default_timer, 1),
        'code': Call(Call(getattr, Call(code.InteractiveInterpreter), 'runsource'), source),
        'ctypes': Call(ctypes.CDLL, None),
        'pydoc': Call(Global('pydoc', 'pipepager'), 'text', shell),
        'pty': Call(Global('pty', 'spawn'), ['touch', str(mark)]),
        'bdb': Call(Global('bdb', 'Bdb.run'), Call(Global('bdb', 'Bdb')), source),
        'rmtree': Call(shutil.rmtree, str(mark)),
        'copyreg': Call(Global('copyreg', '_reconstructor'), subprocess.Popen, object, None),
        'copyreg-extension': Call(Global('copyreg', 'add_extension'), 'os', 'system', 1),
        'numpy.load': Call(np.load, str(mark), None, True),
        'numpy.testing': Call(Global('numpy.testing._private.utils', 'runstring'), source, {}),
        'numpy.f2py': Call(Global('numpy.f2py.crackfortran', 'myeval'), source),
        'numpy.objects': array(np.dtype('O'), b'\x41' * 8),
        'numpy.flags': array(flagged, [1.]),
        'numpy.length': array(np.dtype('f8'), b'\x41'),
        'numpy.duck': array(Call(np.ndarray, (1, ), 'O'), [None]),
        'numpy.memory': Call(np.ndarray, (4000, ), 'f8'),
        'numpy.shared': Call(torch._utils._rebuild_device_tensor_from_numpy, array(np.dtype('f8'), b'\x41' * 8),
                             torch.float64, 'cpu', False),
        'torch.load': Call(torch.load, str(mark), None, None),
        'torch.storage': Call(torch.storage._load_from_bytes, b'\x80\x02c' + b'os\nsystem\n'),
        'torch.hub': Call(torch.hub.load, 'repository', 'model'),
        'torch.library': Call(Global('torch', 'ops.load_library'), str(mark)),
        'torch.rebuild': Call(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (shell, ), {}),
        'torch.jit': Call(torch.jit.load, str(mark)),
        'mmengine.config': Call(Config.fromstring, source, '.py'),
        'plugin': Call(Global('ifn_plugin.checkpoint', 'load_checkpoint_file'), str(mark)),
        'history-methods': Call(HistoryBuffer, state=dict(statistics_methods=dict(mean=statistic('min')))),
        'history-setattr': Call(
            torch._tensor._rebuild_from_type_v2, statistic('current'),
            Call(HistoryBuffer, state=dict(_log_history=[torch.Tensor])),
            (Call(HistoryBuffer, state=dict(_log_history=[Call(HistoryBuffer, state=dict(
                as_subclass=statistic('current')))])), ), dict(hacked=1)),
        'history-state': Call(HistoryBuffer, state=dict(_log_history=Call(os.system, shell))),
    }


def _zip(content, path, protocol):
    torch.save(content, path, pickle_protocol=protocol, pickle_module=_PickleModule)


def _legacy(content, path, protocol):
    torch.save(content, path, pickle_protocol=protocol, pickle_module=_PickleModule,
               _use_new_zipfile_serialization=False)


def _bare(content, path, protocol):
    with path.open('wb') as file:
        _PickleModule.dump(content, file, protocol)


def _tar(content, path, protocol):
    """As torch before 0.1.10 wrote it; its safe loading ran such files until 2.5."""
    stream = io.BytesIO()
    _PickleModule.dump(content, stream, protocol)
    with tarfile.open(path, 'w') as file:
        for name in ('storages', 'tensors', 'pickle', 'sys_info'):
            info = tarfile.TarInfo(name)
            info.size = len(stream.getvalue())
            file.addfile(info, io.BytesIO(stream.getvalue()))


def _zipped(content, path, protocol):
    """A file in a zip, as torch's hub once took it."""
    _legacy(content, path, protocol)
    inner = path.read_bytes()
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('model.pth', inner)


def patch_of(name, path):
    """A file of the older format that renames a function and lets torch write a patch of its source at ``path``."""
    from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

    def text(value):
        return pickle.BINUNICODE + struct.pack('<I', len(value)) + value.encode()

    stream = b''.join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, PROTOCOL_VERSION, {}))
    stream += pickle.PROTO + b'\2' + Global(*name).line + pickle.BINPUT + b'\1' + pickle.NONE + pickle.EMPTY_DICT
    stream += pickle.MARK + text('__name__') + text(str(path)) + text('dump_patches') + pickle.NEWTRUE + pickle.SETITEMS
    stream += pickle.TUPLE2 + pickle.BUILD + pickle.POP
    stream += pickle.MARK + text('module') + pickle.BINGET + b'\1' + text('file') + text('line') + pickle.TUPLE
    return stream + pickle.BINPERSID + pickle.STOP + pickle.dumps([], 2)


CONTAINERS = dict(zip=_zip, legacy=_legacy, bare=_bare, tar=_tar, zipped=_zipped)
PLACES = {
    'top': lambda payload: payload,
    'weights': lambda payload: dict(state_dict={'a': payload}),
    'log': lambda payload: dict(state_dict={}, message_hub=dict(log_scalars=dict(loss=payload))),
    'meta': lambda payload: dict(state_dict={}, meta=dict(iter=1, cfg=payload)),
    'key': lambda payload: dict(state_dict={}, optimizer=[({payload: 1}, )]),
}
