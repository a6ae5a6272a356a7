"""Train a change detector: ``python -m ifn_plugin.tools.train CONFIG``.

The arguments are those of open-cd's script.
"""

import argparse

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from ifn_plugin.engine import LoadedWeightsHook, ResumedSettingsHook, WholeCheckpointHook
from ifn_plugin.engine.processes import leave_processes
from ifn_plugin.engine.settings import add_hooks
from ifn_plugin.fileio import CheckpointError
from ifn_plugin.tools._common import add_acceleration, add_arguments, load_config
from ifn_plugin.utils.configurations import is_type, registry_of, resolve_type


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a change detector')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument(
        '--resume', action='store_true',
        help='resume from the last checkpoint in the work dir, or from --cfg-options load_from=CHECKPOINT')
    parser.add_argument(
        '--amp', action='store_true', help="automatic mixed precision: mmengine's on a GPU, bfloat16 on a CPU")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    # not the configuration's, which a resumed run has written
    cfg.resume = args.resume or bool((args.cfg_options or {}).get('resume'))
    if cfg.resume and cfg.get('load_from') and 'load_from' not in (args.cfg_options or {}):
        # load_from names the weights that the run began with; mmengine would resume from them, not from its checkpoint
        checkpoint_hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        # WholeCheckpointHook looks for a checkpoint itself, and uses begin_from if there is none; but a FlexibleRunner
        # loads before it calls the hook
        by_hook = (is_type(checkpoint_hook.get('type'), registry_of(cfg, HOOKS), WholeCheckpointHook)
                   and is_type(cfg.get('runner_type', 'Runner'), RUNNERS, Runner))
        cfg.resume = by_hook or find_latest_checkpoint(cfg.work_dir) is not None
        if cfg.resume:
            cfg.load_from, cfg.begin_from = None, cfg.load_from
    if args.amp and not torch.cuda.is_available():
        args.dtype = args.dtype or 'bfloat16'
    elif torch.cuda.is_available() and (args.amp or args.dtype == 'float16'):
        kind = resolve_type(cfg.optim_wrapper.get('type', 'OptimWrapper'), OPTIM_WRAPPERS)
        if kind not in (OptimWrapper, AmpOptimWrapper):
            raise SystemExit(f'--amp works with optim_wrapper.type=OptimWrapper, but {args.config} has '
                             f'{cfg.optim_wrapper.type}.')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    add_acceleration(cfg, args)
    add_hooks(cfg, LoadedWeightsHook, ResumedSettingsHook)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    try:
        runner.train()
    except CheckpointError as error:
        raise SystemExit(str(error)) from error
    del runner
    leave_processes()


if __name__ == '__main__':
    main()
