"""Predict change maps with a trained network: ``python -m ifn_plugin.tools.predict CONFIG CHECKPOINT DATE1 DATE2 OUT``.

DATE1 and DATE2 are two images, two rasters of any size, or two folders, whose files are paired by name. Everything that
rasterio opens is a raster, except 8-bit pictures (PNG, JPEG and the like) without coordinates and folders of files
without coordinates, which are treated as images. OUT gets the folders that ``--output`` names: ``map`` (0 and 255),
``probability`` (0 to 255), ``panel`` (both dates and the map side by side) and ``page`` (a web page). For rasters, map
and probability are GeoTIFF, with 0, 1 and 255 (nodata) in the map and steps of 1/254 in the probability; for folders of
them, there is a virtual raster (VRT) over all.

``torchrun --nproc-per-node 4 -m ifn_plugin.tools.predict … --launcher pytorch`` shares the work among processes. The
same command continues a run that was broken off.
"""

import argparse
import time
from typing import Any

from mmengine import dist
from mmengine.config import Config

from ifn_plugin.apis.defaults import choose_acceleration, choose_batch_size
from ifn_plugin.apis.inferencer import ChangeDetector, find_device
from ifn_plugin.apis.predict import Options, Prediction
from ifn_plugin.apis.running import on_first, read_settings, start_processes
from ifn_plugin.datasets import find_loaders
from ifn_plugin.engine.processes import leave_processes
from ifn_plugin.tools._common import chosen_acceleration, read_config
from ifn_plugin.tools._predict_arguments import parse_args


def read_options(args: argparse.Namespace) -> Options:
    """Return the options that the arguments describe."""
    scale, scale2 = (None, None) if args.scale is None else (args.scale[:2], args.scale[2:] or None)
    names = ('overwrite', 'bands', 'align', 'nodata', 'window', 'polygons', 'min_area', 'simplify', 'aoi', 'bbox')
    return Options(outputs=args.output, by_place=args.pair_by == 'place', scale=scale, scale2=scale2,
                   **{name: getattr(args, name) for name in names})


def build_detector(args: argparse.Namespace, cfg: Config, prediction: Prediction) -> ChangeDetector:
    """Build the detector that the arguments describe, as fast as the device and the work to come allow."""
    device = find_device(args.device)
    # a run that goes on keeps its batches, since the last bits of a result depend on them
    batch_size = on_first(lambda: args.batch_size or read_settings(args.out).get('batch_size')
                          or choose_batch_size(device, prediction.pixels))
    acceleration: dict[str, Any] = {}
    if not args.no_accelerate:
        acceleration = choose_acceleration(device, prediction.pixels * prediction.steps)
        if args.accelerate:
            acceleration.update(compile=True)
    return ChangeDetector(cfg, args.checkpoint, args.device, args.threshold, batch_size,
                          acceleration | chosen_acceleration(args))


def predict(args: argparse.Namespace, cfg: Config) -> str:
    """Detect the changes, and return a summary to print."""
    prediction = Prediction(args.date1, args.date2, args.out, find_loaders(cfg)[0], read_options(args))
    detector = build_detector(args, cfg, prediction)
    start = time.perf_counter()
    found = prediction.execute(detector)
    seconds = time.perf_counter() - start
    number = len(prediction.sources.pairs)
    if isinstance(found, float):
        return f'{number} pair{"s" * (number > 1)} in {seconds:.1f} s, {found:.2%} of the pixels changed'
    pairs = '' if prediction.sources.title is None else f'{number} pairs, '
    areas = '' if found.areas is None else f'{found.areas} changed areas: {args.polygons}\n'
    return (f'{areas}{pairs}{found.total / 1e6:.3g} megapixels in {seconds:.1f} s, '
            f'{found.changed:,} of {found.valid:,} pixels with data changed ({found.changed / found.valid:.2%}), '
            f'{found.valid / found.total:.2%} have data')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    try:
        start_processes(args.launcher, args.local_rank)
        summary = predict(args, cfg)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if dist.is_main_process():
        print(f'{summary}: ' + ', '.join(str(args.out / kind) for kind in args.output))
    leave_processes()


if __name__ == '__main__':
    main()
