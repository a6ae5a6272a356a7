"""Inference from files to files: two images, two folders of images, or two rasters of any size."""

import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.progress import track

from ifn_plugin.apis.inferencer import ChangeDetector, ChangeMap, find_pairs
from ifn_plugin.datasets import LoadBands, LoadPair
from ifn_plugin.datasets.transforms.bands import Scale
from ifn_plugin.fileio import write_atomic
from ifn_plugin.visualization import draw_panel

if TYPE_CHECKING:
    from ifn_plugin.apis.rasters import RasterPair, RasterSummary

OUTPUTS = ('map', 'probability', 'panel')
# Formats of pictures, by rasterio's and Pillow's names
PICTURES = ('PNG', 'JPEG', 'MPO', 'BMP', 'WEBP', 'GIF', 'PNM', 'PPM')


def are_rasters(date1: str, date2: str) -> bool:
    """Check whether a pair is to be processed as rasters: if either is more than an 8-bit picture without coordinates.

    Args:
        date1: The earlier image, a folder of images, or anything else that rasterio opens.
        date2: The later one, likewise.

    Raises:
        FileNotFoundError: If one is missing; it is named.
        ValueError: If one can be opened neither as an image nor as a raster, or only one is a folder.
    """
    folders = [Path(date).is_dir() for date in (date1, date2)]
    if folders[0] != folders[1]:
        missing = (date1, date2)[folders[0]]
        if not Path(missing).exists():
            raise FileNotFoundError(f'{missing}: no such folder.')
        raise ValueError(f'{date1} and {date2}: one is a folder and one is not. Fix: name two images or two folders.')
    return not any(folders) and any(_is_raster(date) for date in (date1, date2))


def _is_raster(name: str) -> bool:
    try:
        from rasterio.errors import NotGeoreferencedWarning

        from ifn_plugin.apis.rasters.opening import open_raster
    except ImportError:
        return not _is_picture(name)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        try:
            dataset = open_raster(name)
        except ValueError:
            if cv2.haveImageReader(name):  # OpenCV reads formats that GDAL may not, such as AVIF
                return False
            raise
        with dataset:
            located = dataset.crs or dataset.gcps[0] or not dataset.transform.is_identity
            return bool(dataset.driver not in PICTURES or located or set(dataset.dtypes) != {'uint8'})


def _is_picture(name: str) -> bool:
    """Check whether a file is a picture, as far as Pillow can tell without rasterio."""
    try:
        with Image.open(name) as image:
            return image.format in PICTURES
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{name}: no such file or folder. URLs and files in archives need rasterio. Fix: '
                                'pip install "ifn_plugin[geo]".') from error
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return False


def list_pairs(date1: str, date2: str) -> dict[str, tuple[Path, Path]]:
    """List both files of each pair, of two folders or of two images, by the name of its results."""
    paths = Path(date1), Path(date2)
    return find_pairs(*paths) if paths[0].is_dir() else {paths[1].stem: paths}


def predict_images(detector: ChangeDetector, pairs: dict[str, tuple[Path, Path]], out: Path,
                   outputs: Sequence[str]) -> float:
    """Predict the changes in pairs of images and write them as PNG files.

    Args:
        detector: The detector.
        pairs: Both files of each pair, by the name of its results.
        out: Output folder; earlier results are overwritten.
        outputs: Any of ``map``, ``probability`` and ``panel``.

    Returns:
        The fraction of changed pixels.
    """
    changed = pixels = 0
    maps = detector.predict_all(pairs.values())
    for change, (name, pair) in zip(track(maps, total=len(pairs), description='Predicting'), pairs.items()):
        changed += int(change.changed.sum())
        pixels += change.changed.size
        for kind, picture in _draw(change, pair, outputs, detector.loader):
            write_picture(picture, out / kind / f'{name}.png')
    return changed / pixels


def _draw(change: ChangeMap, pair: tuple[Path, Path], outputs: Sequence[str],
          loader: LoadPair) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kind and the picture, BGR or grey, of each output for a pair."""
    if 'map' in outputs:
        yield 'map', change.changed.astype(np.uint8) * 255
    if 'probability' in outputs:
        yield 'probability', (change.probability * 255).round().astype(np.uint8)
    if 'panel' in outputs:
        date1, date2 = map(loader.picture, loader.transform(dict(img_path=[str(path) for path in pair]))['img'])
        yield 'panel', draw_panel(date1, date2, change.changed)[..., ::-1]


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture, BGR or grey, uint8, as PNG."""
    write_atomic(cv2.imencode('.png', picture)[1].tobytes(), path)


def open_pair(date1: str,
              date2: str,
              loader: LoadPair,
              bands: Sequence[int] | None = None,
              scale: Scale | None = None,
              align: bool = False,
              scale2: Scale | None = None) -> 'RasterPair':
    """Open two rasters as a detector needs them.

    Args:
        date1: The earlier raster.
        date2: The later one.
        loader: The transform that loads the detector's images; it provides the default of bands and scale.
        bands: See :class:`ifn_plugin.apis.rasters.pair.RasterPair`.
        scale: See ``RasterPair``.
        align: See ``RasterPair``.
        scale2: See ``RasterPair``.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If rasterio is missing.
        ValueError: If a raster does not fit the detector, or the two do not fit each other.
    """
    from ifn_plugin.apis.rasters import RasterPair

    if bands is not None and len(bands) != loader.in_channels:
        raise ValueError(f'{date1} and {date2} with --bands {" ".join(map(str, bands))}: the detector takes '
                         f'{loader.in_channels} bands.')
    dtype = 'uint8'
    if isinstance(loader, LoadBands):
        bands, scale, dtype = bands or loader.bands, scale or loader.scale, 'float32'
    return RasterPair(date1, date2, bands, scale, align, dtype, scale2)


def name_results(source: str) -> str:
    """Return the name of a raster's results: its file name without suffix, or that of the last part of a URL."""
    if Path(source).exists():
        return Path(source).stem
    last = re.split(r'[/\\!]', source.partition('?')[0].rstrip('/\\'))[-1]
    return '_'.join(Path(part).stem for part in re.findall(r'[^":]+', last))


def predict_rasters(detector: ChangeDetector,
                    pair: 'RasterPair',
                    out: Path,
                    outputs: Sequence[str],
                    window: int = 1024,
                    polygons: Path | None = None,
                    min_area: float = 0.,
                    simplify: float = 0.) -> 'RasterSummary':
    """Predict the changes between two rasters and write them as GeoTIFF files.

    Args:
        detector: The detector.
        pair: The rasters.
        out: Output folder; earlier results are overwritten.
        outputs: Any of ``map``, ``probability`` and ``panel`` (a PNG).
        window: Height and width of the windows in pixels, a multiple of 64.
        polygons: Output file for the changed areas.
        min_area: See :func:`ifn_plugin.apis.rasters.write_polygons`.
        simplify: See ``write_polygons``.

    Returns:
        Summary of the changes.

    Raises:
        OSError: If a file cannot be written; an existing one is kept.
        ValueError: If ``window`` is not a multiple of 64, the suffix of ``polygons`` is not supported, or no pixel has
            data in both dates.
    """
    from ifn_plugin.apis.rasters import describe_run, predict_raster, preview_map, write_polygons

    name = name_results(pair.paths[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        # polygons and panels are made from these files, even if they are not among the outputs
        changes, probabilities = ((out if kind in outputs else Path(temporary)) / kind / f'{name}.tif'
                                  for kind in ('map', 'probability'))
        summary = predict_raster(detector, pair, changes, probabilities, window,
                                 describe_run(detector, pair.paths))
        if polygons is not None:
            summary = replace(summary, areas=write_polygons(
                changes, probabilities, polygons, min_area, simplify))
        if 'panel' in outputs:
            date1, date2 = pair.preview()
            if not detector.loader.bgr:
                date1, date2 = map(detector.loader.picture, (date1, date2))
            write_picture(draw_panel(date1, date2, preview_map(changes))[..., ::-1], out / 'panel' / f'{name}.png')
    return summary
