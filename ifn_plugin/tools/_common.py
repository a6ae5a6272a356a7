"""What the commands share: arguments and configuration."""

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
    """The arguments that ``train`` and ``test`` share, named as open-cd's."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results; default: ./work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='settings to override, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]", without white space')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch's launchers pass either spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    add_acceleration_arguments(parser)


def add_acceleration_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for what is faster."""
    group = parser.add_argument_group('acceleration', 'on any device; what the machine cannot do is left out')
    group.add_argument('--accelerate', action='store_true', help='all of it, in the precision that suits the device')
    group.add_argument('--channels-last', action='store_true', help='channels-last maps')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], help='precision of autocast')
    group.add_argument('--compile', action='store_true', help='compile the network')
    group.add_argument('--keep-memory', action='store_true', help='faster on a CPU, for more memory')
    group.add_argument(
        '--window-batch', type=window_count, help="windows that pass at once, with test_cfg.mode='slide'")


def window_count(text: str) -> int:
    """How many windows pass at once.

    Raises:
        ArgumentTypeError: For less than one.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: at least one window passes at once')
    return number


def chosen_acceleration(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments ask for, one by one, by the names of ``accelerate``."""
    names = ('channels_last', 'dtype', 'compile', 'window_batch', 'keep_memory')
    return {name: getattr(args, name) for name in names if getattr(args, name)}


def add_acceleration(cfg: Config, args: argparse.Namespace) -> None:
    """Put the acceleration that the arguments ask for into the configuration's hooks."""
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
    """Put the plugin's hooks into the configuration, each unless it is there."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    missing = [kind for kind in kinds if not any(is_hook(hook, kind) for hook in hooks)]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                        *(dict(type=f'ifn_plugin.{kind.__name__}') for kind in missing)]


def load_config(args: argparse.Namespace) -> Config:
    """Read the configuration, a file or the name of one of the plugin's own, and put the arguments into it."""
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
        SystemExit: If it is none, with what is wrong in a line.
    """
    try:
        return Config.fromfile(path)
    except StackError:
        raise
    except Exception as error:  # a configuration is a program
        raise SystemExit(f'{path}: {type(error).__name__}: {" ".join(str(error).split())}') from error


def _set_up_cpu_processes(cfg: Config) -> None:
    """Do what mmengine does for processes with a GPU each, and only for those."""
    torch.distributed.init_process_group('gloo')
    settings = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = settings | dict(cfg.get('model_wrapper_cfg') or {})


def leave_processes() -> None:
    """Wait for the other processes and part from them: one that ends while another still listens is aborted.

    The caller has dropped its runner: as long as a wrapped model is left, so are gloo's threads, and one that lets go
    of a tensor when the interpreter is on its way out aborts the process.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        gc.collect()


def resolve_config(config: str) -> Path:
    """Turn a file, or the name of one of the plugin's own configurations, into a path."""
    try:
        return configurations.resolve_config(config)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
