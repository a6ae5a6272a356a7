"""Arguments of ``predict``."""

import argparse
import re
from contextlib import suppress

from ifn_plugin.apis.predict import OUTPUTS
from ifn_plugin.tools._common import (
    add_acceleration_arguments,
    add_launcher_arguments,
    add_options_argument,
    output_file,
    output_folder,
    positive,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect changes between two images or rasters, or folders of them')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('date1', help='earlier image or raster, or a folder of them; alone: a CSV file whose two '
                        'columns name the earlier and the later image or raster of each pair')
    parser.add_argument('date2', nargs='?', help='later image or raster, or a folder of them')
    parser.add_argument('out', type=output_folder, help='folder to write into')
    parser.add_argument('--output', nargs='+', choices=OUTPUTS, default=['map'], help='what to write; default: map')
    parser.add_argument('--overwrite', action='store_true', help='write over results that exist')
    parser.add_argument('--threshold', type=_threshold, metavar='VALUE|val',
                        help='a pixel above this is changed; val: the threshold that validation chose, which is in the '
                        "checkpoint; default: configuration's")
    parser.add_argument('--device', help='device, such as cpu or cuda:1; default: a GPU where there is one')
    parser.add_argument('--batch-size', type=positive,
                        help='pairs of one size in a batch; default: 1 on a CPU, as many as fit on a GPU, 8 at most '
                        'of 1024×1024')
    add_options_argument(parser)
    add_launcher_arguments(parser)
    add_acceleration_arguments(parser)
    parser.add_argument('--no-accelerate', action='store_true',
                        help='float32, uncompiled; default: the precision that suits the device, and compiled where '
                        'there is more to compute than the compiler takes')
    add_raster_arguments(parser)
    add_result_arguments(parser)
    args = parser.parse_intermixed_args(argv)  # since DATE2 may be missing, options between DATE1 and OUT need it
    check_values(parser, args)
    return args


def _threshold(text: str) -> float | str:
    """Read a threshold: ``val``, or a number that ``ChangeDetector`` accepts."""
    if text == 'val':
        return text
    with suppress(ValueError):  # no number
        if 0 <= (threshold := float(text)) < 1:
            return threshold
    raise argparse.ArgumentTypeError(f'{text}: use a probability from 0 to below 1, or val')


def add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for how rasters are read."""
    parser._negative_number_matcher = re.compile(r'-(\.?\d|inf)')  # argparse takes -3.4e+38 for an option
    group = parser.add_argument_group('rasters')
    group.add_argument('--bands', type=int, nargs='+',
                       help="bands for red, green and blue, or for the network's own; default: the configuration's, or "
                       "else the file's red, green and blue, or its first three")
    group.add_argument('--scale', type=float, nargs='+', metavar='VALUE',
                       help='LOW HIGH, the values that become 0 and 255, or LOW1 HIGH1 LOW2 HIGH2, for each date; '
                       "default: the configuration's, or else no scaling of 8 bits and percentiles 2 and 98 of others")
    group.add_argument('--nodata', type=float, metavar='VALUE',
                       help='value of all bands where there are no data, for files that do not say so')
    group.add_argument('--pair-by', choices=['name', 'place'], default='name',
                       help="how the rasters of folders are paired; by place where the dates' tiles differ")
    group.add_argument('--align', action='store_true', help='warp the later raster to the grid of the earlier')
    group.add_argument('--window', type=int, help='side of the windows in pixels, a multiple of 64; default: 1024')


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for what is written of rasters."""
    group = parser.add_argument_group('results of rasters')
    group.add_argument('--polygons', type=output_file, metavar='FILE',
                       help='write the changed areas as .gpkg, .geojson, .fgb, .shp or .parquet')
    group.add_argument('--min-area', type=float, help='smallest area and hole in --polygons, in m²; default: 0')
    group.add_argument('--simplify', type=float, nargs='?', const=1.5, metavar='PIXELS',
                       help='simplify the outlines of --polygons by so many pixels; default without a value: 1.5')
    interest = group.add_mutually_exclusive_group()
    interest.add_argument('--aoi', metavar='FILE', help='area of interest, any vector file: the rest is not computed')
    interest.add_argument('--bbox', type=float, nargs=4, metavar=('LEFT', 'BOTTOM', 'RIGHT', 'TOP'),
                          help="area of interest in the rasters' coordinates")


def check_values(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the arguments' values, and end the process with a line on the first wrong one."""
    if args.scale is not None and len(args.scale) not in (2, 4):
        parser.error('--scale: give two values, or two for each date.')
    if args.date2 is None and args.pair_by == 'place':
        parser.error('--pair-by place: name both dates.')
    if args.no_accelerate and args.accelerate:
        parser.error('--accelerate and --no-accelerate contradict each other.')
