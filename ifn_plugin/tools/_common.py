"""Arguments that the commands share, and reading of the configuration that they name."""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction

from ifn_plugin.engine import settings
from ifn_plugin.engine.processes import check_launcher, set_up_cpu_processes
from ifn_plugin.utils import configurations


class OptionsAction(DictAction):
    """mmengine's action for ``--cfg-options``, whose errors are a line."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        for text in values:
            try:
                super().__call__(parser, namespace, [text], option_string)
            except (AssertionError, ValueError):
                parser.error(f'{option_string} {text}: this is not KEY=VALUE. Fix: no white space around = or inside '
                             'brackets, and other arguments before these.')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``train`` and ``test`` share, with open-cd's names."""
    parser.add_argument('--work-dir', type=output_folder,
                        help='folder for logs, checkpoints and results; default: ./work_dirs/CONFIG_NAME')
    add_options_argument(parser)
    add_launcher_arguments(parser)
    add_acceleration_arguments(parser, runs=True)


def add_options_argument(parser: argparse.ArgumentParser, what: str = 'settings') -> None:
    """Add ``--cfg-options``, which overrides ``what``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE',
        help=f'{what} to override, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]", without white '
        'space')


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a job launcher."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch's launchers pass one or the other spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_acceleration_arguments(parser: argparse.ArgumentParser, runs: bool = False) -> None:
    """Add the arguments for acceleration; for a command that runs a runner, also those of its optimizer and loaders."""
    group = parser.add_argument_group('acceleration', 'on any device; what the machine does not support is left out')
    group.add_argument('--accelerate', action='store_true', help='all of these, in the precision that suits the device')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], help='precision of autocast')
    group.add_argument(
        '--window-batch', type=positive, help="sliding windows in a batch, with test_cfg.mode='slide'")
    switches = {
        'channels-last': 'channels-last memory format',
        'compile': 'compile the network',
        'keep-memory': 'reuse freed memory on a CPU: faster, but takes more',
        'tf32': 'TF32 for float32 on a GPU',
    }
    if runs:
        switches |= {'fused': 'steps of Adam and AdamW in one kernel on a GPU',
                     'pin-memory': 'pinned batches, copied to a GPU without waiting'}
    for name, meaning in switches.items():
        group.add_argument(f'--{name}', action=argparse.BooleanOptionalAction, help=meaning)


def output_folder(text: str) -> Path:
    """Read the name of a folder to write into, which need not exist.

    Raises:
        ArgumentTypeError: If a file is in its place, or the folder cannot be written.
    """
    path = Path(text)
    there = next(part for part in (path, *path.absolute().parents) if part.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f'{there} is a file: name a folder')
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f'{there} cannot be written: name another folder')
    return path


def output_file(text: str) -> Path:
    """Read the name of a file to write, whose folder need not exist.

    Raises:
        ArgumentTypeError: As for :func:`output_folder`.
    """
    output_folder(str(Path(text).parent))
    return Path(text)


def positive(text: str) -> int:
    """Read a number of things.

    Raises:
        ArgumentTypeError: If it is no integer, or less than 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text}: use an integer of at least 1')
    return int(text)


def size_and_batch(text: str) -> tuple[int, int]:
    """Read the size of images and batches, such as ``256x8``.

    Raises:
        ArgumentTypeError: If the text does not have this form, or a number is less than 1.
    """
    size, _, batch = text.partition('x')
    try:
        return positive(size), positive(batch)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{text}: use SIZExBATCH, such as 256x8, both at least 1') from error


def chosen_acceleration(args: argparse.Namespace) -> dict[str, Any]:
    """Return the acceleration settings given as single arguments, by their names in ``accelerate``."""
    names = ('channels_last', 'dtype', 'compile', 'window_batch', 'keep_memory', 'tf32', 'fused', 'pin_memory')
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def add_acceleration(cfg: Config, args: argparse.Namespace) -> None:
    """Add the acceleration that the arguments request to the configuration's hooks."""
    chosen = chosen_acceleration(args)
    if chosen or args.accelerate:
        settings.add_acceleration(cfg, chosen, everything=args.accelerate)


def load_config(args: argparse.Namespace) -> Config:
    """Read the configuration, a file or the name of one of the plugin's own, and apply the arguments to it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if cfg.launcher != 'none':
        try:
            check_launcher(cfg.launcher)
        except ValueError as error:
            raise SystemExit(str(error)) from error
        if not torch.cuda.is_available():
            set_up_cpu_processes(cfg)
    if args.work_dir is not None:
        cfg.work_dir = str(args.work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def read_config(config: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Read a configuration, a file or the name of one of the plugin's own.

    Args:
        config: The file or name.
        options: Settings to override, from ``--cfg-options``.

    Raises:
        SystemExit: If there is none, it cannot be read, or it has no such settings.
    """
    try:
        cfg = configurations.read_config(config)
        configurations.merge_options(cfg, options or {})
        return cfg
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error


def resolve_config(config: str) -> Path:
    """Return the path of a configuration, a file or the name of one of the plugin's own.

    Raises:
        SystemExit: If there is none.
    """
    try:
        return configurations.resolve_config(config)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
