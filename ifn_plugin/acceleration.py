"""Faster training and inference of any detector: memory format, mixed precision, compilation, batches of windows."""

import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from types import MethodType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.runner import Runner, autocast
from torch import Tensor, nn

from .models.convolution import is_dynamo_compiling
from .models.settings import check_switches
from .registry import HOOKS

DTYPES = ('auto', 'float32', 'bfloat16', 'float16')


def accelerate(model: nn.Module,
               channels_last: bool = True,
               dtype: str = 'auto',
               compile: bool | dict[str, Any] = True,
               window_batch: int = 8,
               keep_memory: bool = True) -> torch.dtype:
    """Make a detector of mmseg or open-cd faster, in place. Names and values of its weights stay as they are.

    Args:
        model: The detector, on its device.
        channels_last: Lay out the weights of convolutions, and so the maps between them, channels last.
        dtype: Precision of autocast around the whole forward pass, losses and validation included: ``'float32'`` (no
            autocast), ``'bfloat16'``, ``'float16'``, or ``'auto'``: bfloat16 where the device computes in it.
        compile: Compile inference in one graph, and for training the backbone, the neck and the heads, with
            ``torch.compile``; a dict holds its arguments. Each size of batch and image is compiled by itself, eight at
            most (torch's ``recompile_limit``), unless the dict says ``dynamic=None``, torch's default. What cannot be
            compiled runs as it is written, with one warning.
        window_batch: How many windows of an image pass the network at once with ``test_cfg.mode='slide'``.
        keep_memory: On a CPU, let the whole process keep freed memory for what comes next, from the second pass on
            where it compiles: the system would zero each map's pages anew. Only with glibc, Linux's usual C library;
            elsewhere nothing happens.

    Returns:
        The precision in use. What the machine cannot do is left out with a warning.

    Raises:
        ValueError: For a ``dtype`` that is none of the four, a ``window_batch`` that is no number from 1 on, or a
            switch that is neither ``True`` nor ``False``; from the detector, for windows that leave gaps.
    """
    switches = {} if isinstance(compile, dict) else dict(compile=compile)
    check_switches(channels_last=channels_last, keep_memory=keep_memory, **switches)
    if dtype not in DTYPES:
        raise ValueError(f'dtype={dtype!r}: use one of {", ".join(DTYPES)}.')
    if not isinstance(window_batch, int) or window_batch < 1:
        raise ValueError(f'window_batch={window_batch!r}: at least one window passes at once.')
    place = next((parameter.device for parameter in model.parameters()), torch.device(get_device()))
    device = place.type
    precision = _usable_dtype(dtype, place)
    hanging = _hanging_convolution(model)
    if device == 'cpu' and precision == torch.bfloat16 and hanging is not None:
        _warn(f'{hanging} is a depthwise convolution with a wide kernel, which can hang in bfloat16 and channels last, '
              'the layout of compiled networks, on a CPU (a fault of oneDNN): going on in float32.')
        precision = torch.float32
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward = type(model).forward
    if precision != torch.float32:
        forward = _under_autocast(forward, device, precision)
        postprocess_result = getattr(type(model), 'postprocess_result', None)
        if postprocess_result is not None:
            _bind(model, 'postprocess_result', _from_float32(postprocess_result))
    if window_batch > 1 and hasattr(model, 'slide_inference'):
        _bind(model, 'slide_inference', _batched_slide_inference(window_batch))
    keep_memory = keep_memory and device == 'cpu'
    if compile and _compiler_works(device):
        _compile(model, compile if isinstance(compile, dict) else {})
        forward = _settling(forward, keep_memory)
    elif keep_memory:
        _keep_freed_memory()
    if forward is not type(model).forward:
        _bind(model, 'forward', forward)
    return precision


def _warn(message: str) -> None:
    print_log(message, 'current', logging.WARNING)


def _bind(module: nn.Module, name: str, function: Callable) -> None:
    """Replace a method of one object. A bound method follows its object into a deep copy; a closure would not."""
    setattr(module, name, MethodType(function, module))


def _usable_dtype(dtype: str, device: torch.device) -> torch.dtype:
    kind = device.type
    if kind == 'cuda':
        native = torch.cuda.get_device_capability(device) >= (8, 0)  # torch's own test counts emulation as well
    else:
        probes = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
        native = kind == 'cpu' and any(getattr(torch.cpu, probe, bool)() for probe in probes)
    if dtype == 'auto':
        return torch.bfloat16 if native else torch.float32
    # a CPU without bfloat16 still computes in it, only slowly; the others refuse
    able = {'cpu': ('float32', 'bfloat16'), 'cuda': ('float32', 'float16', *(['bfloat16'] if native else []))}
    if dtype not in able.get(kind, ('float32', )):
        _warn(f'{device} does not compute in {dtype} here: going on in float32.')
        return torch.float32
    precision: torch.dtype = getattr(torch, dtype)
    return precision


def _hanging_convolution(model: nn.Module) -> str | None:
    """The first layer that oneDNN may never return from: seen from a width of 15 on, with 16 channels and fewer."""
    return next((name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)
                 and layer.groups == layer.in_channels > 1 and layer.kernel_size[1] > 13), None)


def _under_autocast(forward: Callable, device: str, dtype: torch.dtype) -> Callable:

    def forward_under_autocast(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type=device, dtype=dtype):
            return forward(self, *args, **kwargs)

    return forward_under_autocast


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _from_float32(postprocess_result: Callable) -> Callable:

    def postprocess_float32(self: nn.Module, seg_logits: Tensor | dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        # a sigmoid in bfloat16 is 1 from a logit of 6.3 on, and knows 128 values between 0.5 and 1
        exact = ({key: _at_least_float32(logits) for key, logits in seg_logits.items()}
                 if isinstance(seg_logits, dict) else _at_least_float32(seg_logits))
        return postprocess_result(self, exact, *args, **kwargs)

    return postprocess_float32


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == 'linux' else None


def _keep_freed_memory() -> None:
    mallopt = _glibc('mallopt')
    if mallopt is not None:
        # malloc.h: no block of its own from the system (M_MMAP_MAX), and none back to it (M_TRIM_THRESHOLD)
        mallopt(-4, 0)
        mallopt(-1, -1)


def release_memory() -> None:
    """Give back to the system what is not in use, circles of objects included."""
    gc.collect()
    malloc_trim = _glibc('malloc_trim')
    if malloc_trim is not None:
        malloc_trim(0)


def _settling(forward: Callable, keep_memory: bool) -> Callable:
    graphs: int | None = None

    def settling_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # One pass after a compilation, and so after the backward pass's, too; after the first one, whether or not it
        # could be compiled. What the compiler leaves, 0.2 GiB the first time, would lie between the maps for good once
        # memory is kept.
        nonlocal graphs
        compiled = torch._dynamo.utils.counters['stats']['unique_graphs']
        if graphs is None:
            graphs = -1
        elif graphs != compiled:
            graphs = compiled
            release_memory()
            if keep_memory:
                _keep_freed_memory()
        return forward(self, *args, **kwargs)

    return settling_forward


def _compiler_works(device: str) -> bool:
    """Compile a trifle: a missing compiler would otherwise show itself in the first iteration only, and end it."""
    try:
        torch.compile(lambda x: x.relu() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever it is: dynamo, inductor, triton and the system's compiler have errors each
        _warn(f'torch.compile does not work here, going on without it: {_reason(error)}')
        return False
    return True


def _compile(model: nn.Module, options: dict[str, Any]) -> None:
    # Inference in one graph: between two, the features of every level would be held until the last has used its own
    encode_decode = getattr(type(model), 'encode_decode', None)
    if encode_decode is not None:
        _bind(model, 'encode_decode', _compiled(encode_decode, options))
    # Not the whole step, as mmengine's `compile` setting: its data samples make a new graph of every batch
    for name in ('backbone', 'neck', 'decode_head', 'auxiliary_head'):
        part = getattr(model, name, None)
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            if name == 'decode_head' and getattr(module, 'with_cp', False):  # IFNHead's
                _warn(f'{name}.with_cp has no effect once compiled: where memory is short, switch compilation off.')
            if module is not None:
                # in mmseg, heads call their own forward by name, past what Module.compile replaces
                forward = _compiled(type(module).forward, options, training_only=encode_decode is not None)
                _bind(module, 'forward', forward)


def _compiled(function: Callable, options: dict[str, Any], training_only: bool = False) -> Callable:
    """A method, compiled.

    As it is written within another's graph, where the compiler fails and, with ``training_only``, without autograd.
    """
    from torch._dynamo.exc import TorchDynamoException  # half a second, which only compilation shall cost

    # each size by itself: one graph for all takes inductor several times as long, where it can
    compiled = torch.compile(function, **dict(dynamic=False) | options)
    works = True

    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal works
        if not is_dynamo_compiling() and works and (torch.is_grad_enabled() or not training_only):
            try:
                return compiled(self, *args, **kwargs)
            except TorchDynamoException as error:
                _warn(f'torch.compile fails for {type(self).__name__}.{function.__name__}, going on without it: '
                      f'{_reason(error)}')
                works = False
        return function(self, *args, **kwargs)

    return method


def _reason(error: Exception) -> str:
    error = getattr(error, 'inner_exception', error)  # dynamo's first line names the backend only
    return f'{type(error).__name__}: {error}'.splitlines()[0]


def _batched_slide_inference(window_batch: int) -> Callable:

    def slide_inference(self: Any, inputs: Tensor, batch_img_metas: Sequence[dict[str, Any]]) -> Any:
        """Run the windows of mmseg's sliding window, several at a time; the same mean where they overlap."""
        cfg = self.test_cfg
        size = inputs.shape[2:]
        crop = [min(side, whole) for side, whole in zip(cfg.crop_size, size, strict=True)]
        tops, lefts = (
            [min(start, whole - side) for start in range(0, max(whole - side + stride - 1, 0) + 1, stride)]
            for whole, side, stride in zip(size, crop, cfg.stride, strict=True))
        if any(after - start > side for starts, side in zip((tops, lefts), crop) for start, after in pairwise(starts)):
            raise ValueError(f'test_cfg: windows of crop_size={tuple(cfg.crop_size)} every stride={tuple(cfg.stride)} '
                             'leave gaps. Fix: a stride of at most crop_size.')
        places = list(product(range(len(inputs)), tops, lefts))
        totals: dict[str, Tensor] = {}
        count = inputs.new_zeros(len(inputs), 1, *size)
        for first in range(0, len(places), window_batch):
            batch = places[first:first + window_batch]
            windows = torch.stack([inputs[n, :, y:y + crop[0], x:x + crop[1]] for n, y, x in batch])
            # as torch.Size, which mmseg's heads take before an image's padded size
            metas = [dict(batch_img_metas[n], img_shape=windows.shape[2:]) for n, _, _ in batch]
            outputs = self.encode_decode(windows, metas)
            # open-cd's detectors of semantic change return several maps
            for key, logits in (outputs if isinstance(outputs, dict) else {'': outputs}).items():
                if logits.shape[2:] != windows.shape[2:]:
                    raise ValueError(f'The detector gives logits of {tuple(logits.shape[2:])} for windows of '
                                     f'{tuple(windows.shape[2:])}. Fix: resize them to the images in its head.')
                if key not in totals:
                    totals[key] = logits.new_zeros(len(inputs), logits.shape[1], *size, dtype=torch.float32)
                for logit, (n, y, x) in zip(logits, batch):
                    totals[key][n, :, y:y + crop[0], x:x + crop[1]] += logit
            for n, y, x in batch:
                count[n, :, y:y + crop[0], x:x + crop[1]] += 1
        means = {key: total / count for key, total in totals.items()}
        return means.get('', means)

    return slide_inference


def detector_of(runner: Runner) -> Any:
    """The runner's detector, out of what wraps it for several processes or for test-time augmentation."""
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Switch on channels-last maps, mixed precision, compilation and batches of windows, for train, val and test.

    ``custom_hooks=[dict(type='ifn_plugin.AccelerationHook')]`` switches on all that the machine can do; every argument
    switches one of them. Checkpoints are the same with and without the hook. Mixed precision in bfloat16 needs nothing
    else; to train in float16, ``optim_wrapper.type`` has to be ``'AmpOptimWrapper'``, which scales the loss.

    Args:
        channels_last: As for ``accelerate``.
        dtype: As for ``accelerate``.
        compile: As for ``accelerate``.
        window_batch: As for ``accelerate``.
        keep_memory: As for ``accelerate``.

    Raises:
        ValueError: When training starts in float16 without loss scaling, or with a fused optimizer on channels-last
            weights on a CPU; and as ``accelerate``.
    """

    # after mmengine's EMAHook, which exchanges the weights that are stored
    priority = 'LOW'

    def __init__(self,
                 channels_last: bool = True,
                 dtype: str = 'auto',
                 compile: bool | dict[str, Any] = True,
                 window_batch: int = 8,
                 keep_memory: bool = True) -> None:
        self.settings = dict(
            channels_last=channels_last,
            dtype=dtype,
            compile=compile,
            window_batch=window_batch,
            keep_memory=keep_memory)
        self.precision: torch.dtype | None = None

    def before_run(self, runner: Runner) -> None:
        """Accelerate the runner's model, once."""
        if self.precision is not None:
            return
        self.precision = accelerate(detector_of(runner), **self.settings)  # type: ignore[arg-type]
        runner.logger.info(f'AccelerationHook: {self.settings}, computing in {self.precision}')

    def before_train(self, runner: Runner) -> None:
        """Refuse what would train wrongly, and lay out what a resumed optimizer keeps as the weights are."""
        if self.precision == torch.float16 and not isinstance(runner.optim_wrapper, AmpOptimWrapper):
            raise ValueError("AccelerationHook(dtype='float16') needs loss scaling to train: set "
                             "optim_wrapper.type='AmpOptimWrapper', or dtype='bfloat16'.")
        wrapper = runner.optim_wrapper
        for single in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            optimizer = single.optimizer
            for group in optimizer.param_groups:
                # torch pairs the values in the order of memory, and gradients may be laid out otherwise than weights
                if group.get('fused') and self.settings['channels_last'] and group['params'][0].device.type == 'cpu':
                    raise ValueError("torch's fused optimizers take wrong steps on a CPU with channels-last weights: "
                                     'leave out optim_wrapper.optimizer.fused, or set '
                                     'AccelerationHook(channels_last=False).')
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the weights, and what the optimizer keeps of each, laid out as without the hook."""
        for name in ('state_dict', 'ema_state_dict', 'optimizer'):
            if name in checkpoint:
                checkpoint[name] = _contiguous(checkpoint[name])


def _contiguous(state: Any) -> Any:
    """A copy of nested containers with every tensor contiguous; tensors that are so already are shared."""
    if isinstance(state, Tensor):
        return state.contiguous()
    if isinstance(state, dict):
        return type(state)((key, _contiguous(value)) for key, value in state.items())
    return [_contiguous(value) for value in state] if isinstance(state, list) else state
