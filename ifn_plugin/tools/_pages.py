"""What the commands that write HTML share."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from ifn_plugin.data import LoadChangeLabel, LoadPair
from ifn_plugin.fileio import write_atomic


def load_pair(files: Sequence[str | Path], load_dates: LoadPair,
              load_label: LoadChangeLabel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both dates and the label, as the loaders give them, of a pair's three files."""
    date1, date2, label = map(str, files)
    pair = load_label(load_dates(dict(img_path=[date1, date2], seg_map_path=label, seg_fields=[])))
    first, second = pair['img']
    return first, second, pair['gt_seg_map']


def embed(picture: np.ndarray) -> str:
    """An RGB picture as the source of an HTML image."""
    content = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return f'data:image/jpeg;base64,{base64.b64encode(content).decode()}'


def readable(text: str) -> str:
    """A text that can be written and printed, with ? for what Python could not read of a file's name."""
    return text.encode(errors='replace').decode()


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill in one of the templates beside this file, and write the page."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader('ifn_plugin.tools', '.'), autoescape=True)
    write_atomic(readable(environment.get_template(template).render(**content)).encode(), path)
