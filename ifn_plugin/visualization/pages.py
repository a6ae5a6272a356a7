"""Self-contained HTML pages."""

import base64
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import readable


def embed(picture: np.ndarray) -> str:
    """Encode an RGB picture, (H, W, 3), uint8, as a data URL for an HTML image."""
    content = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return f'data:image/jpeg;base64,{base64.b64encode(content).decode()}'


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render one of the templates in the folder ``templates``, and write the page."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader('ifn_plugin.visualization'), autoescape=True)
    write_atomic(readable(environment.get_template(template).render(**content)).encode(), path)
