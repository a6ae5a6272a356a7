"""Test a change detector: ``python -m ifn_plugin.tools.test CONFIG CHECKPOINT``.

The arguments are those of open-cd's script.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from ifn_plugin.datasets import check_views
from ifn_plugin.datasets.settings import list_dataset_settings
from ifn_plugin.engine import LoadedWeightsHook
from ifn_plugin.engine.processes import leave_processes
from ifn_plugin.engine.settings import add_hooks
from ifn_plugin.fileio import CheckpointError
from ifn_plugin.tools._common import add_acceleration, add_arguments, load_config, output_folder
from ifn_plugin.utils.configurations import is_type, registry_of, type_name


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a change detector')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show', action='store_true', help='show change panels in a window')
    parser.add_argument('--show-dir', type=output_folder, help='write change panels into this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each panel')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_arguments(parser)
    return parser.parse_args(argv)


def _draw_panels(cfg: Config, args: argparse.Namespace) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise SystemExit(f'{args.config} has no default_hooks.visualization, which draws the panels. Fix: set it to '
                         "dict(type='ifn_plugin.ChangePanelHook').")
    if type_name(hook['type']) == 'SegVisualizationHook':  # mmseg's hook draws one image, not a pair
        hook['type'] = 'ifn_plugin.ChangePanelHook'
        hook.pop('backend_args', None)
    hook.draw = True
    if args.show:
        hook.show = True
        hook.wait_time = args.wait_time
    if args.show_dir:  # mmengine's default, vis_data/vis_image in the folder, is hard to find
        cfg.visualizer = cfg.get('visualizer') or dict(type='Visualizer')
        backends = cfg.visualizer.get('vis_backends') or []
        backends = [backends] if isinstance(backends, dict) else list(backends)
        registry = registry_of(cfg, VISBACKENDS)
        local = [backend for backend in backends if is_type(backend['type'], registry, LocalVisBackend)]
        if not local:
            local = [dict(type='LocalVisBackend')]
            backends += local
        for backend in local:
            backend['img_save_dir'] = str(args.show_dir.absolute())
        cfg.visualizer.vis_backends = backends


def _augment(cfg: Config, args: argparse.Namespace) -> Config:
    if not cfg.get('tta_pipeline'):
        raise SystemExit(f'{args.config} has no tta_pipeline, which --tta needs. Fix: add one, as in '
                         "configs/_base_/datasets/levircd.py, or with open-cd's transforms as in "
                         'ifn_256x256_40k_levircd.py.')
    for settings in list_dataset_settings(cfg, 'test'):
        settings.pipeline = cfg.tta_pipeline
    merging = cfg.get('tta_model') or dict(type='SegTTAModel')
    if type_name(merging['type']) == 'SegTTAModel':
        merging['type'] = 'ifn_plugin.ChangeTTAModel'  # mmseg's treats probabilities as logits
    merging['module'] = cfg.model
    cfg.model = merging
    # the runner writes it into the work dir, where the file of this name is the training's
    path = Path(cfg.filename)
    return Config(cfg.to_dict(), cfg.text, str(path.with_stem(f'{path.stem}-tta')))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise SystemExit(f'{args.checkpoint}: no such checkpoint.')
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False  # the configuration written by a resumed training sets it
    add_acceleration(cfg, args)
    if args.show or args.show_dir:
        _draw_panels(cfg, args)
    if args.tta:
        cfg = _augment(cfg, args)
    add_hooks(cfg, LoadedWeightsHook)
    runner = Runner.from_cfg(cfg)
    try:
        if args.tta:
            check_views(runner.test_loop.dataloader.dataset)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    try:
        runner.test()
    except CheckpointError as error:
        raise SystemExit(str(error)) from error
    del runner
    leave_processes()


if __name__ == '__main__':
    main()
