"""Vector layers that are written block by block."""

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import geopandas
import pyogrio

from ifn_plugin.apis.rasters.writing import STYLES
from ifn_plugin.fileio import unfinished_path


def write_layer(frames: Iterator[geopandas.GeoDataFrame], path: Path, driver: str, tags: Mapping[str, str]) -> int:
    """Write a layer of polygons from blocks; a GeoPackage gets a style for QGIS, and the tags as metadata.

    Args:
        frames: The blocks, at least one.
        path: The file to write; of a GeoPackage that exists, other layers stay.
        driver: GDAL's driver.
        tags: Names and values.

    Returns:
        The number of polygons.
    """
    if driver == 'Parquet':
        return _write_parquet(frames, path)
    # most formats cannot be appended to or only slowly: a GeoPackage without an index can, and is copied in a stream
    blocks, number = unfinished_path(path).with_suffix('.gpkg'), 0
    plain = driver == 'GeoJSON'  # the other formats want one type of geometry
    for frame in frames:
        pyogrio.write_dataframe(
            frame, blocks, driver='GPKG', layer='blocks', append=blocks.exists(), promote_to_multi=not plain,
            geometry_type='Unknown' if plain else 'MultiPolygon', layer_options=dict(SPATIAL_INDEX='NO'))
        number += len(frame)
    with pyogrio.open_arrow(blocks) as (meta, stream):
        pyogrio.write_arrow(
            stream, path, driver=driver, layer=path.stem, crs=meta['crs'], geometry_type=meta['geometry_type'],
            geometry_name=meta['geometry_name'], **dict(layer_metadata=dict(tags)) if driver == 'GPKG' else {})
    blocks.unlink()
    if driver == 'GPKG':
        _add_style(path, path.stem, meta['geometry_name'])
    return number


def _write_parquet(frames: Iterator[geopandas.GeoDataFrame], path: Path) -> int:
    import pyarrow.parquet

    number, writer = 0, None
    with ExitStack() as stack:
        for frame in frames:
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            table = pyarrow.parquet.read_table(buffer)
            if writer is None:
                # the metadata describe the first block only
                geo = json.loads(table.schema.metadata[b'geo'])
                geo['columns']['geometry'].update(geometry_types=['Polygon', 'MultiPolygon'])
                geo['columns']['geometry'].pop('bbox', None)
                schema = table.schema.with_metadata({b'geo': json.dumps(geo).encode()})
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(path, schema, compression='snappy'))
            writer.write_table(table.cast(writer.schema))
            number += len(frame)
    return number


def _add_style(path: Path, layer: str, geometry: str) -> None:
    """Put a style into the table that QGIS looks for in a GeoPackage."""
    style = (STYLES / 'polygons.qml').read_text(encoding='utf-8')
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("""CREATE TABLE IF NOT EXISTS layer_styles (
            id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
            f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
            useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
            update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))""")
        file.execute("""INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier)
                        VALUES ('layer_styles', 'attributes', 'layer_styles')""")
        file.execute("DELETE FROM layer_styles WHERE f_table_name = ? AND styleName = 'changes'", (layer, ))
        file.execute("""INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,
                        styleName, styleQML, styleSLD, useAsDefault, description, owner)
                        VALUES ('', '', ?, ?, 'changes', ?, '', 1, 'Changed areas', '')""", (layer, geometry, style))


def holds_layer(path: Path) -> bool:
    """Check whether a layer would be written over: a file exists, and has the layer if it can hold several.

    Raises:
        ValueError: If a GeoPackage cannot be read.
    """
    if not path.exists() or path.suffix.lower() != '.gpkg':
        return path.exists()
    try:
        return path.stem in pyogrio.list_layers(path)[:, 0]
    except pyogrio.errors.DataSourceError as error:
        raise ValueError(f'{path} exists, but is not a GeoPackage that can be read: {error}. Fix: remove it, or name '
                         'another file.') from error
