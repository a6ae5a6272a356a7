"""Acceleration of any detector: memory format, mixed precision, compilation, batches of windows."""

import logging
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import autocast
from torch import Tensor, nn

from ifn_plugin.engine.cuda import use_tf32, uses_cuda_graphs
from ifn_plugin.engine.memory import keep_freed_memory, release_memory
from ifn_plugin.engine.sliding_window import batched_slide_inference
from ifn_plugin.models.layers.compiling import is_dynamo_compiling
from ifn_plugin.utils.settings import check_switches

DTYPES = ('auto', 'float32', 'bfloat16', 'float16')


def accelerate(model: nn.Module,
               channels_last: bool = True,
               dtype: str = 'auto',
               compile: bool | dict[str, Any] = True,
               window_batch: int = 8,
               keep_memory: bool = True,
               tf32: bool = True) -> torch.dtype:
    """Accelerate a detector of mmseg or open-cd in place. The names and values of its weights do not change.

    A second call replaces what the first has switched on, except for the layout and for what holds for the process.

    Args:
        model: The detector, on its device.
        channels_last: Lay out the weights of convolutions, and so the maps between them, channels last.
        dtype: Precision of autocast around the entire forward pass, losses and validation included: ``'float32'`` (no
            autocast), ``'bfloat16'``, ``'float16'``, or ``'auto'``: bfloat16 where the device computes in it.
        compile: Compile inference in one graph, and for training the backbone, the neck and the heads, with
            ``torch.compile``; a dict holds its arguments. Each size of batch and image is compiled separately, eight at
            most (torch's ``recompile_limit``), unless the dict says ``dynamic=None``, torch's default. What cannot be
            compiled runs uncompiled, with one warning. On a GPU, ``dict(mode='reduce-overhead')`` records CUDA graphs,
            for training and for images of few sizes.
        window_batch: Number of windows in one forward pass with ``test_cfg.mode='slide'``, unless the detector has a
            ``slide_inference`` of its own.
        keep_memory: On a CPU, let the entire process keep freed memory for reuse, after the second pass if it compiles:
            the system would zero the pages of each map again. Has an effect only with glibc, Linux's usual C library.
        tf32: On a CUDA GPU, let the entire process multiply float32 matrices in TF32. Without it, torch's own setting
            stays, which is TF32 for convolutions alone.

    Returns:
        The precision in use. Whatever the machine does not support is skipped with a warning.

    Raises:
        ValueError: If ``dtype`` is not one of the four, ``window_batch`` is not a positive integer, or a switch is
            neither ``True`` nor ``False``; from the detector, if windows leave gaps.
    """
    _check_settings(channels_last, dtype, compile, window_batch, keep_memory, tf32)
    _unbind(model)
    place = next((parameter.device for parameter in model.parameters()), torch.device(get_device()))
    device = place.type
    precision = _choose_precision(model, dtype, place)
    if tf32 and device == 'cuda':
        use_tf32()
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward = type(model).forward
    if precision != torch.float32:
        forward = _under_autocast(forward, device, precision)
        postprocess_result = getattr(type(model), 'postprocess_result', None)
        if postprocess_result is not None:
            _bind(model, 'postprocess_result', _from_float32(postprocess_result))
    windows = getattr(type(model), 'slide_inference', None)
    # a detector may have a method of its own
    if window_batch > 1 and windows is not None and windows.__module__.startswith(('mmseg.', 'opencd.')):
        _bind(model, 'slide_inference', batched_slide_inference(window_batch))
    keep_memory = keep_memory and device == 'cpu'
    if compile and _compiler_works(device):
        options = compile if isinstance(compile, dict) else {}
        _compile(model, options)
        forward = _settling(forward, keep_memory)
        if uses_cuda_graphs(options):
            forward = _beginning_a_step(forward)
    elif keep_memory:
        keep_freed_memory()
    if forward is not type(model).forward:
        _bind(model, 'forward', forward)
    return precision


def _check_settings(channels_last: bool, dtype: str, compile: bool | dict[str, Any], window_batch: int,
                    keep_memory: bool, tf32: bool) -> None:
    switches = {} if isinstance(compile, dict) else dict(compile=compile)
    check_switches(channels_last=channels_last, keep_memory=keep_memory, tf32=tf32, **switches)
    if dtype not in DTYPES:
        raise ValueError(f'dtype={dtype!r}: use one of {", ".join(DTYPES)}.')
    if not isinstance(window_batch, int) or window_batch < 1:
        raise ValueError(f'window_batch={window_batch!r}: at least one window passes at once.')


def _warn(message: str) -> None:
    print_log(message, 'current', logging.WARNING)


def _bind(module: nn.Module, name: str, function: Callable) -> None:
    """Replace a method of one object. A bound method follows its object into a deep copy; a closure would not."""
    setattr(module, name, MethodType(function, module))
    module.__dict__.setdefault('_accelerated', set()).add(name)


def _unbind(model: nn.Module) -> None:
    """Bring back the methods that an earlier call has replaced."""
    for module in model.modules():
        for name in module.__dict__.pop('_accelerated', ()):
            module.__dict__.pop(name, None)


def _choose_precision(model: nn.Module, dtype: str, device: torch.device) -> torch.dtype:
    precision = _usable_dtype(dtype, device)
    hanging = _hanging_convolution(model)
    if device.type == 'cpu' and precision == torch.bfloat16 and hanging is not None:
        _warn(f'{hanging} is a depthwise convolution with a wide kernel, which can hang in bfloat16 and channels last, '
              'the layout of compiled networks, on a CPU (a fault of oneDNN): going on in float32.')
        return torch.float32
    return precision


def _usable_dtype(dtype: str, device: torch.device) -> torch.dtype:
    kind = device.type
    if kind == 'cuda':
        native = torch.cuda.get_device_capability(device) >= (8, 0)  # torch's own test counts emulation as well
    else:
        probes = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
        native = kind == 'cpu' and any(getattr(torch.cpu, probe, bool)() for probe in probes)
    if dtype == 'auto':
        return torch.bfloat16 if native else torch.float32
    # a CPU without bfloat16 emulates it slowly; other devices cannot use a dtype that they do not support
    able = {'cpu': ('float32', 'bfloat16'), 'cuda': ('float32', 'float16', *(['bfloat16'] if native else []))}
    if dtype not in able.get(kind, ('float32', )):
        _warn(f'{device} does not compute in {dtype} here: going on in float32.')
        return torch.float32
    precision: torch.dtype = getattr(torch, dtype)
    return precision


def _hanging_convolution(model: nn.Module) -> str | None:
    """Return the name of the first layer in which oneDNN may hang: a depthwise one wider than 13 (seen from 15 on)."""
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
        # a sigmoid in bfloat16 rounds to 1 from a logit of 6.3 on, and has only 128 values between 0.5 and 1
        exact = ({key: _at_least_float32(logits) for key, logits in seg_logits.items()}
                 if isinstance(seg_logits, dict) else _at_least_float32(seg_logits))
        return postprocess_result(self, exact, *args, **kwargs)

    return postprocess_float32


def _settling(forward: Callable, keep_memory: bool) -> Callable:
    graphs: int | None = None

    def settling_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Release memory one pass after a compilation, when the backward pass has been compiled, too, and one pass after
        # the first, whether or not it could be compiled. Once memory is kept, the compiler's leftovers (0.2 GiB the
        # first time) would fragment it for good.
        nonlocal graphs
        compiled = torch._dynamo.utils.counters['stats']['unique_graphs']
        if graphs is None:
            graphs = -1
        elif graphs != compiled:
            graphs = compiled
            release_memory()
            if keep_memory:
                keep_freed_memory()
        return forward(self, *args, **kwargs)

    return settling_forward


def _beginning_a_step(function: Callable) -> Callable:

    def first_of_a_step(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Else torch takes the head's graph for a new step, in which the frozen encoder's maps are void
        torch.compiler.cudagraph_mark_step_begin()
        return function(self, *args, **kwargs)

    return first_of_a_step


def _keeping(function: Callable) -> Callable:

    def copying_function(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # the next step writes over what a CUDA graph returns, which mmseg may keep in its data samples
        outputs = function(self, *args, **kwargs)
        if isinstance(outputs, dict):  # open-cd's detectors of semantic change
            return {name: logits.clone() for name, logits in outputs.items()}
        return outputs.clone()

    return copying_function


def _compiler_works(device: str) -> bool:
    """Compile a minimal function, since a missing compiler would otherwise raise only in the first iteration."""
    try:
        torch.compile(lambda x: x.relu() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # dynamo, inductor, triton and the system's compiler raise errors of their own
        _warn(f'torch.compile does not work here, going on without it: {_reason(error)}')
        return False
    return True


def _compile(model: nn.Module, options: dict[str, Any]) -> None:
    # Inference in one graph: between two graphs, the features of all levels would be kept until the last one is used
    encode_decode = getattr(type(model), 'encode_decode', None)
    if encode_decode is not None:
        inference = _compiled(encode_decode, options)
        if uses_cuda_graphs(options):  # each batch of windows is a step
            inference = _beginning_a_step(_keeping(inference))
        _bind(model, 'encode_decode', inference)
    # Not the entire step, as with mmengine's `compile`: its data samples would cause a new graph for every batch
    for name in ('backbone', 'neck', 'decode_head', 'auxiliary_head'):
        part = getattr(model, name, None)
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            if name == 'decode_head' and getattr(module, 'with_cp', False):  # IFNHead's
                _warn(f'{name}.with_cp has no effect once compiled: where memory is short, switch compilation off.')
            if module is not None:
                # mmseg's heads call their own forward by name, which bypasses Module.compile
                forward = _compiled(type(module).forward, options, training_only=encode_decode is not None)
                _bind(module, 'forward', forward)


def _compiled(function: Callable, options: dict[str, Any], training_only: bool = False) -> Callable:
    """Compile a method.

    It runs uncompiled inside another graph, where the compiler fails and, with ``training_only``, without autograd.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes half a second, so only where it is needed

    # a graph for each size: one for all sizes takes inductor several times as long, if it succeeds at all
    compiled = torch.compile(function, **dict(dynamic=False) | options)
    works, begun = True, False

    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal works, begun
        if not is_dynamo_compiling() and works and (torch.is_grad_enabled() or not training_only):
            if not begun:
                print_log(f'Compiling {type(self).__name__}.{function.__name__}: first passes take longer', 'current')
                begun = True
            try:
                return compiled(self, *args, **kwargs)
            except TorchDynamoException as error:
                _warn(f'torch.compile fails for {type(self).__name__}.{function.__name__}, going on without it: '
                      f'{_reason(error)}')
                works = False
        return function(self, *args, **kwargs)

    return method


def _reason(error: Exception) -> str:
    error = getattr(error, 'inner_exception', error)  # the first line of dynamo's error only names the backend
    return f'{type(error).__name__}: {error}'.splitlines()[0]
