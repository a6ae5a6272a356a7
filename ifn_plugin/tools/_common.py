"""Arguments and configuration that the commands share."""

import argparse
import gc
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ifn_plugin.engine import AccelerationHook
from ifn_plugin.utils import configurations
from ifn_plugin.utils.configurations import is_type
from ifn_plugin.utils.stack import StackError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``train`` and ``test`` share, with open-cd's names."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results; default: ./work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='settings to override, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]", without white space')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch's launchers pass one or the other spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    add_acceleration_arguments(parser)


def add_acceleration_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for acceleration."""
    group = parser.add_argument_group('acceleration', 'on any device; what the machine does not support is left out')
    group.add_argument('--accelerate', action='store_true', help='all of these, in the precision that suits the device')
    group.add_argument('--channels-last', action='store_true', help='channels-last memory format')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], help='precision of autocast')
    group.add_argument('--compile', action='store_true', help='compile the network')
    group.add_argument('--keep-memory', action='store_true', help='reuse freed memory on a CPU: faster, but takes more')
    group.add_argument(
        '--window-batch', type=window_count, help="sliding windows in a batch, with test_cfg.mode='slide'")


def window_count(text: str) -> int:
    """Read the number of sliding windows in a batch.

    Raises:
        ArgumentTypeError: If it is less than one.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: use 1 or more windows')
    return number


def chosen_acceleration(args: argparse.Namespace) -> dict[str, Any]:
    """Return the acceleration settings given as single arguments, by their names in ``accelerate``."""
    names = ('channels_last', 'dtype', 'compile', 'window_batch', 'keep_memory')
    return {name: getattr(args, name) for name in names if getattr(args, name)}


def add_acceleration(cfg: Config, args: argparse.Namespace) -> None:
    """Add the acceleration that the arguments request to the configuration's hooks."""
    chosen = chosen_acceleration(args)
    if not chosen and not args.accelerate:
        return
    hooks = list(cfg.get('custom_hooks') or [])
    ours = [hook for hook in hooks if is_hook(hook, AccelerationHook)]
    if not ours:
        ours = [dict(type='ifn_plugin.AccelerationHook')]
        hooks += ours
        if not args.accelerate:
            ours[0].update(channels_last=False, dtype='float32', compile=False, window_batch=1, keep_memory=False,
                           tf32=False, fused=False, pin_memory=False)
    elif args.accelerate:  # all of it, whatever the configuration switches off
        for name in ours[0].keys() - {'type', 'priority'}:
            del ours[0][name]
    ours[0].update(chosen)
    cfg.custom_hooks = hooks


def is_hook(hook: Any, kind: type[Hook]) -> bool:
    """Whether a hook, or the settings of one, is of this class."""
    if isinstance(hook, Hook):
        return isinstance(hook, kind)
    return hook is not None and is_type(hook.get('type'), HOOKS, kind)


def add_hooks(cfg: Config, *kinds: type[Hook]) -> None:
    """Add hooks of the plugin to the configuration, unless it has them already."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    missing = [kind for kind in kinds if not any(is_hook(hook, kind) for hook in hooks)]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                        *(dict(type=f'ifn_plugin.{kind.__name__}') for kind in missing)]


def load_config(args: argparse.Namespace) -> Config:
    """Read the configuration, a file or the name of one of the plugin's own, and apply the arguments to it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = resolve_config(args.config)
    cfg = read_config(path)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        _set_up_cpu_processes(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    return cfg


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        SystemExit: If the file cannot be read, with the reason in one line.
    """
    try:
        return Config.fromfile(path)
    except StackError:
        raise
    except Exception as error:  # a configuration is Python code, which can raise anything
        raise SystemExit(f'{path}: {type(error).__name__}: {" ".join(str(error).split())}') from error


def _set_up_cpu_processes(cfg: Config) -> None:
    """Set up distributed training on CPUs; mmengine does it only for GPUs."""
    torch.distributed.init_process_group('gloo')
    settings = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = settings | dict(cfg.get('model_wrapper_cfg') or {})


def leave_processes() -> None:
    """Wait for the other processes and leave the process group.

    A process that ends while another still communicates with it is aborted. The caller must have deleted its runner:
    gloo's threads live as long as a wrapped model, and one that frees a tensor while the interpreter shuts down aborts
    the process.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        gc.collect()


def resolve_config(config: str) -> Path:
    """Return the path of a configuration, given as a file or as the name of one of the plugin's own.

    Raises:
        SystemExit: If there is no such configuration.
    """
    try:
        return configurations.resolve_config(config)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
