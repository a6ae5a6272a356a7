"""Predict change maps with a trained network: ``python -m ifn_plugin.tools.predict CONFIG CHECKPOINT DATE1 DATE2 OUT``.

DATE1 and DATE2 are two images, two folders whose images are paired by name, or two rasters of any size. Everything that
rasterio opens is a raster, georeferenced or not, except 8-bit pictures (PNG, JPEG and the like) without coordinates and
files in folders, which are treated as images. OUT gets the folders that ``--output`` names: ``map`` (0 and 255),
``probability`` (0 to 255) and ``panel`` (both dates and the map side by side). For two rasters, map and probability are
GeoTIFF, with 0, 1 and 255 (nodata) in the map and steps of 1/254 in the probability.
"""

import argparse
import time
from pathlib import Path

from mmengine.config import Config, DictAction

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.predict import OUTPUTS, are_rasters, list_pairs, open_pair, predict_images, predict_rasters
from ifn_plugin.datasets import find_loaders
from ifn_plugin.tools._common import add_acceleration_arguments, chosen_acceleration, read_config, resolve_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect changes between two images, folders of images, or rasters')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('date1', help='earlier image or raster, or a folder of images')
    parser.add_argument('date2', help='later image or raster, or a folder of images')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--output', nargs='+', choices=OUTPUTS, default=['map'], help='what to write; default: map')
    parser.add_argument('--threshold', type=float, help="a pixel above this is changed; default: configuration's")
    parser.add_argument('--device', help='device, such as cpu or cuda:1; default: a GPU where there is one')
    parser.add_argument('--batch-size', type=int, default=4, help='pairs of one size in a batch; default: 4')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings to override')
    add_acceleration_arguments(parser)
    group = parser.add_argument_group('rasters')
    group.add_argument('--bands', type=int, nargs='+',
                       help="bands for red, green and blue, or for the network's own; default: the configuration's, or "
                       "else the file's red, green and blue, or its first three")
    group.add_argument('--scale', type=float, nargs='+', metavar='VALUE',
                       help='LOW HIGH, the values that become 0 and 255, or LOW1 HIGH1 LOW2 HIGH2, for each date; '
                       "default: the configuration's, or else no scaling of 8 bits and percentiles 2 and 98 of others")
    group.add_argument('--align', action='store_true', help='warp the later raster to the grid of the earlier')
    group.add_argument('--window', type=int, help='side of the windows in pixels; default: 1024')
    group.add_argument('--polygons', type=Path, metavar='FILE', help='write the changed areas as .gpkg or .geojson')
    group.add_argument('--min-area', type=float, help='smallest area for --polygons, in m²; default: 0')
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 <= args.threshold < 1:
        parser.error(f'--threshold {args.threshold}: use a probability from 0 to below 1.')
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: use at least 1.')
    if args.scale is not None and len(args.scale) not in (2, 4):
        parser.error('--scale: give two values, or two for each date.')
    if args.window is not None and (args.window < 64 or args.window % 64):
        parser.error(f'--window {args.window}: use a multiple of 64.')
    return args


def build_detector(args: argparse.Namespace, cfg: Config) -> ChangeDetector:
    """Build the detector that the arguments describe."""
    acceleration = chosen_acceleration(args)
    if args.accelerate:
        acceleration = dict(dtype='auto', compile=True, keep_memory=True, tf32=True) | acceleration
    return ChangeDetector(cfg, args.checkpoint, args.device, args.threshold, args.batch_size, acceleration)


def find_in_images(args: argparse.Namespace, cfg: Config) -> str:
    """Detect the changes between images, and return a summary to print.

    Raises:
        ValueError: If an argument is meant for rasters.
    """
    names = [f'--{name.replace("_", "-")}' for name in ('bands', 'scale', 'align', 'window', 'polygons', 'min_area')
             if getattr(args, name) not in (None, False)]
    if names:
        raise ValueError(f'{" ".join(names)} would have no effect: it is for two rasters, but {args.date1} and '
                         f'{args.date2} are treated as images. Fix: name the rasters themselves, one pair at a time. '
                         'Images are cut into windows by --cfg-options model.test_cfg.mode=slide '
                         '"model.test_cfg.crop_size=(512,512)" "model.test_cfg.stride=(384,384)".')
    pairs = list_pairs(args.date1, args.date2)
    detector = build_detector(args, cfg)
    start = time.perf_counter()
    share = predict_images(detector, pairs, args.out, args.output)
    return f'{len(pairs)} pairs in {time.perf_counter() - start:.1f} s, {share:.2%} of the pixels changed'


def find_in_rasters(args: argparse.Namespace, cfg: Config) -> str:
    """Detect the changes between two rasters, and return a summary to print.

    Raises:
        ValueError: If ``--min-area`` is given without ``--polygons``.
    """
    from ifn_plugin.apis.rasters import find_driver  # needs rasterio, which images do not

    if args.polygons is not None:
        find_driver(args.polygons)
    elif args.min_area is not None:
        raise ValueError(f'--min-area would have no effect for {args.date1} and {args.date2} without --polygons FILE.')
    scales = [None, None] if args.scale is None else [args.scale[:2], args.scale[2:] or None]
    # opened before the network is built, which takes longer
    with open_pair(args.date1, args.date2, find_loaders(cfg)[0], args.bands, scales[0], args.align, scales[1]) as pair:
        detector = build_detector(args, cfg)
        start = time.perf_counter()
        found = predict_rasters(detector, pair, args.out, args.output, args.window or 1024, args.polygons,
                                args.min_area or 0)
    areas = '' if found.areas is None else f'{found.areas} changed areas: {args.polygons}\n'
    return (f'{areas}{found.total / 1e6:.1f} megapixels in {time.perf_counter() - start:.1f} s, '
            f'{found.changed / found.valid:.2%} of the {found.valid / found.total:.2%} with data changed')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(resolve_config(args.config))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    try:
        summary = (find_in_rasters if are_rasters(args.date1, args.date2) else find_in_images)(args, cfg)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f'{summary}: ' + ', '.join(str(args.out / kind) for kind in args.output))


if __name__ == '__main__':
    main()
