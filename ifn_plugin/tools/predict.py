"""Change maps from a trained network: ``python -m ifn_plugin.tools.predict CONFIG CHECKPOINT DATE1 DATE2 OUT``.

DATE1 and DATE2 are two images, two folders whose images are paired by name, or two rasters of any size (GeoTIFF and
what else rasterio opens, georeferenced or not). Below OUT come the folders that ``--output`` names: ``map`` (0 and
255), ``probability`` (0 to 255) and ``panel`` (both dates and the map side by side). Those of two rasters are GeoTIFF,
with 0, 1 and 255 (no data) in the map and steps of 1/254 in the probability; rasters in folders pass as images do.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from mmengine.config import DictAction
from rich.progress import track

from ifn_plugin.data import LoadBands, LoadPair
from ifn_plugin.inference import ChangeDetector, ChangeMap, find_pairs
from ifn_plugin.tools._common import add_acceleration_arguments, chosen_acceleration, read_config, resolve_config
from ifn_plugin.training import WholeFileBackend
from ifn_plugin.visualization import draw_panel

if TYPE_CHECKING:
    from ifn_plugin.apis.rasters import RasterPair

OUTPUTS = ('map', 'probability', 'panel')
RASTERS = ('.tif', '.tiff', '.vrt', '.jp2', '.img')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Find the changes between two images or two folders of images')
    parser.add_argument('config', help="configuration file, or the name of one of the plugin's own")
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('date1', type=Path, help='earlier image, or a folder of them')
    parser.add_argument('date2', type=Path, help='later image, or a folder of them')
    parser.add_argument('out', type=Path, help='folder to write into')
    parser.add_argument('--output', nargs='+', choices=OUTPUTS, default=['map'], help='what to write; default: map')
    parser.add_argument('--threshold', type=float, help="probability above which is changed; default: configuration's")
    parser.add_argument('--device', help='such as cpu or cuda:1; default: a GPU where there is one')
    parser.add_argument('--batch-size', type=int, default=4, help='pairs of one size that pass at once; default: 4')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings to override')
    add_acceleration_arguments(parser)
    group = parser.add_argument_group('rasters')
    group.add_argument('--bands', type=int, nargs='+',
                       help="red, green and blue, or the detector's; default: the configuration's, or else 1 2 3")
    group.add_argument('--scale', type=float, nargs=2, metavar=('LOW', 'HIGH'),
                       help="values that become 0 and 255; default: the configuration's, or else none for 8 bits and "
                       'percentiles 2 and 98 for others')
    group.add_argument('--align', action='store_true', help='warp the later raster to the grid of the earlier')
    group.add_argument('--window', type=int, help='side of the windows in pixels; default: 1024')
    group.add_argument('--polygons', type=Path, metavar='FILE', help='changed areas, as .gpkg or .geojson')
    group.add_argument('--min-area', type=float, help='smallest area to keep there, in m²; default: 0')
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 <= args.threshold < 1:
        parser.error(f'--threshold {args.threshold}: a probability from 0 to 1 is needed.')
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: at least 1 is needed.')
    return args


def build_detector(args: argparse.Namespace) -> ChangeDetector:
    """The detector that the arguments describe."""
    cfg = read_config(resolve_config(args.config))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    acceleration = chosen_acceleration(args)
    if args.accelerate:
        acceleration = dict(dtype='auto', compile=True, keep_memory=True) | acceleration
    return ChangeDetector(cfg, args.checkpoint, args.device, args.threshold, args.batch_size, acceleration)


def _list_pairs(date1: Path, date2: Path) -> dict[str, tuple[Path, Path]]:
    for path in (date1, date2):
        if not path.exists():
            raise FileNotFoundError(f'{path}: no such file or folder.')
    if date1.is_dir() != date2.is_dir():
        raise ValueError(f'{date1} and {date2}: one is a folder and one is not. Name two images or two folders.')
    return find_pairs(date1, date2) if date1.is_dir() else {date2.stem: (date1, date2)}


def _pictures(change: ChangeMap, pair: tuple[Path, Path], outputs: list[str],
              loader: LoadPair) -> Iterator[tuple[str, np.ndarray]]:
    """What to write of a pair, BGR or grey."""
    if 'map' in outputs:
        yield 'map', change.changed.astype(np.uint8) * 255
    if 'probability' in outputs:
        yield 'probability', (change.probability * 255).round().astype(np.uint8)
    if 'panel' in outputs:
        date1, date2 = map(loader.picture, loader.transform(dict(img_path=[str(path) for path in pair]))['img'])
        panel = draw_panel(date1, date2, change.changed)
        yield 'panel', panel[..., ::-1]


def predict(detector: ChangeDetector, pairs: dict[str, tuple[Path, Path]], out: Path, outputs: list[str]) -> float:
    """Find the changes in pairs of files and write them.

    Args:
        detector: The detector.
        pairs: Both files of each pair, by the name that its results get.
        out: Folder to write into; results of an earlier time are written over.
        outputs: Any of ``map``, ``probability`` and ``panel``.

    Returns:
        The share of pixels that are changed.
    """
    changed = pixels = 0
    maps = detector.predict_all(pairs.values())
    for change, (name, pair) in zip(track(maps, total=len(pairs), description='Predicting'), pairs.items()):
        changed += int(change.changed.sum())
        pixels += change.changed.size
        for kind, picture in _pictures(change, pair, outputs, detector.loader):
            _write(picture, out / kind / f'{name}.png')
    return changed / pixels


def _write(picture: np.ndarray, path: Path) -> None:
    WholeFileBackend().put(cv2.imencode('.png', picture)[1].tobytes(), path)


def _open_rasters(args: argparse.Namespace, loader: LoadPair) -> 'RasterPair':
    from ifn_plugin.apis.rasters import RasterPair

    bands, scale, dtype = [1, 2, 3], args.scale, 'uint8'
    if isinstance(loader, LoadBands):
        bands, scale, dtype = loader.bands, args.scale or loader.scale, 'float32'
    if args.bands is not None and len(args.bands) != len(bands):
        raise ValueError(f'--bands {" ".join(map(str, args.bands))}: the detector takes {len(bands)} bands.')
    return RasterPair(args.date1, args.date2, args.bands or bands, scale, args.align, dtype)


def predict_rasters(args: argparse.Namespace) -> None:
    """Find the changes between two rasters and write what the arguments ask for."""
    from ifn_plugin.apis import rasters  # not everyone has what it needs

    if args.polygons is not None and args.polygons.suffix.lower() not in rasters.DRIVERS:
        raise ValueError(f'{args.polygons}: name a file that ends in {" or ".join(rasters.DRIVERS)}.')
    detector = build_detector(args)
    with _open_rasters(args, detector.loader) as pair:
        start = time.perf_counter()
        name = f'{args.date2.stem}.tif'
        files = {kind: args.out / kind / name for kind in OUTPUTS}
        with tempfile.TemporaryDirectory(dir=_existing(args.out)) as temporary:
            # polygons and panels are made from the files, wanted or not
            paths = {kind: files[kind] if kind in args.output else Path(temporary) / f'{kind}.tif' for kind in OUTPUTS}
            summary = rasters.predict_raster(detector, pair, paths['map'], paths['probability'],
                                             1024 if args.window is None else args.window)
            if args.polygons is not None:
                number = rasters.write_polygons(paths['map'], paths['probability'], args.polygons, args.min_area or 0)
                print(f'{number} changed areas: {args.polygons}')
            if 'panel' in args.output:
                date1, date2 = pair.preview()
                if not detector.loader.bgr:
                    date1, date2 = map(detector.loader.picture, (date1, date2))
                panel = draw_panel(date1, date2, rasters.preview_map(paths['map']))
                _write(panel[..., ::-1], files['panel'].with_suffix('.png'))
    share = summary.changed / summary.valid
    print(f'{summary.total / 1e6:.1f} megapixels in {time.perf_counter() - start:.1f} s, {share:.2%} of the '
          f'{summary.valid / summary.total:.2%} with data changed: ' + _folders(args))


def _refuse_raster_arguments(args: argparse.Namespace) -> None:
    names = [f'--{name.replace("_", "-")}' for name in ('bands', 'scale', 'align', 'window', 'min_area')
             if getattr(args, name) not in (None, False)]
    if names:
        raise ValueError(f'{" ".join(names)} would do nothing: this is for two rasters ({", ".join(RASTERS)}), but '
                         f'{args.date1} and {args.date2} pass as images. Name the rasters themselves, a pair at a '
                         'time. Images are cut into windows by --cfg-options model.test_cfg.mode=slide '
                         '"model.test_cfg.crop_size=(512,512)" "model.test_cfg.stride=(384,384)".')


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folders(args: argparse.Namespace) -> str:
    return ', '.join(str(args.out / kind) for kind in args.output)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        if args.date1.suffix.lower() in RASTERS or args.date2.suffix.lower() in RASTERS or args.polygons:
            predict_rasters(args)
            return
        pairs = _list_pairs(args.date1, args.date2)
        _refuse_raster_arguments(args)
        detector = build_detector(args)
        start = time.perf_counter()
        share = predict(detector, pairs, args.out, args.output)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f'{len(pairs)} pairs in {time.perf_counter() - start:.1f} s, {share:.2%} of the pixels changed: '
          + _folders(args))


if __name__ == '__main__':
    main()
