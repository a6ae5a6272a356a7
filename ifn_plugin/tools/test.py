"""Test a change detector: ``python -m ifn_plugin.tools.test CONFIG CHECKPOINT``. The arguments are open-cd's."""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS

from ifn_plugin.checkpoint import CheckpointError
from ifn_plugin.configurations import resolve_type
from ifn_plugin.loading import LoadedWeightsHook
from ifn_plugin.tools._common import add_acceleration, add_arguments, add_hooks, leave_processes, load_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a change detector')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show', action='store_true', help='show change panels in a window')
    parser.add_argument('--show-dir', help='write change panels below this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds for which a window stays')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_arguments(parser)
    return parser.parse_args(argv)


def _draw_panels(cfg: Config, args: argparse.Namespace) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise SystemExit(f'{args.config} has no default_hooks.visualization, which draws the panels: set it to '
                         "dict(type='ifn_plugin.ChangePanelHook').")
    hook.draw = True
    if args.show:
        hook.show = True
        hook.wait_time = args.wait_time
    if args.show_dir:
        cfg.visualizer.save_dir = args.show_dir


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise SystemExit(f'{args.checkpoint}: no such checkpoint.')
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False  # which a configuration that a resumed training left may say
    add_acceleration(cfg, args)
    if args.show or args.show_dir:
        _draw_panels(cfg, args)
    if args.tta:
        if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
            raise SystemExit(f'{args.config} has no tta_model and tta_pipeline, which --tta needs.')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        if resolve_type(cfg.tta_model.type, MODELS) is SegTTAModel:
            cfg.tta_model.type = 'ifn_plugin.ChangeTTAModel'  # which says what is wrong with mmseg's
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    add_hooks(cfg, LoadedWeightsHook)
    runner = Runner.from_cfg(cfg)
    try:
        runner.test()
    except CheckpointError as error:
        raise SystemExit(str(error)) from error
    del runner
    leave_processes()


if __name__ == '__main__':
    main()
