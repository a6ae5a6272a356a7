"""Predict change maps with a trained network: ``python -m ifn_plugin.tools.predict CONFIG CHECKPOINT DATE1 DATE2 OUT``.

DATE1 and DATE2 are two images, two folders whose images are paired by name, or two rasters of any size. Everything that
rasterio opens is a raster, georeferenced or not, except 8-bit pictures (PNG, JPEG and the like) without coordinates and
files in folders, which are treated as images. OUT gets the folders that ``--output`` names: ``map`` (0 and 255),
``probability`` (0 to 255) and ``panel`` (both dates and the map side by side). For two rasters, map and probability are
GeoTIFF, with 0, 1 and 255 (nodata) in the map and steps of 1/254 in the probability.
"""

import argparse
import time

from mmengine.config import Config

from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.apis.predict import are_rasters, list_pairs, open_pair, predict_images, predict_rasters
from ifn_plugin.datasets import find_loaders
from ifn_plugin.tools._common import chosen_acceleration, read_config, resolve_config
from ifn_plugin.tools._predict_arguments import parse_args


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
    names = [f'--{name.replace("_", "-")}' for name in ('bands', 'scale', 'align', 'window', 'polygons', 'min_area',
                                                              'simplify', 'aoi', 'bbox')
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
        ValueError: If ``--min-area`` or ``--simplify`` is given without ``--polygons``.
    """
    from ifn_plugin.apis.rasters import AreaOfInterest, find_driver  # needs rasterio, which images do not

    if args.polygons is not None:
        find_driver(args.polygons)
    elif args.min_area is not None or args.simplify is not None:
        name = '--simplify' if args.min_area is None else '--min-area'
        raise ValueError(f'{name} would have no effect for {args.date1} and {args.date2} without --polygons FILE.')
    scales = [None, None] if args.scale is None else [args.scale[:2], args.scale[2:] or None]
    # opened before the network is built, which takes longer
    with open_pair(args.date1, args.date2, find_loaders(cfg)[0], args.bands, scales[0], args.align, scales[1]) as pair:
        if args.aoi is not None:
            pair.interest = AreaOfInterest.read(args.aoi, pair)
        elif args.bbox is not None:
            pair.interest = AreaOfInterest.box(args.bbox, pair)
        detector = build_detector(args, cfg)
        start = time.perf_counter()
        found = predict_rasters(detector, pair, args.out, args.output, args.window or 1024, args.polygons,
                                args.min_area or 0, args.simplify or 0)
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
