"""What the commands share: arguments and configuration."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that ``train`` and ``test`` share, named as open-cd's."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results; default: ./work_dirs/CONFIG_NAME')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='settings to override, such as train_dataloader.batch_size=4 or key="[(a,b),(c,d)]", without white space')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch's launchers pass either spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the configuration and put the arguments into it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise SystemExit(f'{args.config}: no such configuration.')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def find_config(name: str) -> Path:
    """Find a configuration of the plugin's own by its file name, in an installed package or in a source checkout.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    package = Path(__file__).resolve().parents[1]
    # an installed package first: what lies beside it in site-packages is not the plugin's
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    for folder in folders:
        for path in sorted(folder.rglob(name)):
            return path
    raise FileNotFoundError(f'{name}: no such configuration in {folders[0]} or {folders[1]}. Install the plugin anew.')
