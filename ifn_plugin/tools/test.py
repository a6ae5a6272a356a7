"""Test a change detector: ``python -m ifn_plugin.tools.test CONFIG CHECKPOINT``. The arguments are open-cd's."""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ifn_plugin.acceleration import detector_of
from ifn_plugin.checkpoint import check_fit, get_state_dict, load_checkpoint_file
from ifn_plugin.tools._common import add_acceleration, add_arguments, leave_processes, load_config


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
        if cfg.tta_model.type in ('SegTTAModel', 'mmseg.SegTTAModel'):
            cfg.tta_model.type = 'ifn_plugin.ChangeTTAModel'  # which says what is wrong with mmseg's
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    runner = Runner.from_cfg(cfg)
    try:
        # mmengine would warn, and test random weights
        check_fit(args.checkpoint, get_state_dict(load_checkpoint_file(args.checkpoint)), detector_of(runner))
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    runner.test()
    del runner
    leave_processes()


if __name__ == '__main__':
    main()
