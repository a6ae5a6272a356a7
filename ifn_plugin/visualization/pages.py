"""Self-contained HTML pages."""

import base64
import gzip
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ifn_plugin.fileio import write_atomic
from ifn_plugin.utils import readable


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render one of the templates in the folder ``templates``, and write the page.

    In a template, ``asset('vendored/NAME')`` is the text of a file in this package, and ``packed(value)`` is a value,
    with objects as their attributes, as compressed JSON in base64.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader('ifn_plugin.visualization'), autoescape=True,
                                     extensions=['jinja2.ext.loopcontrols'])
    environment.globals |= dict(asset=_asset, packed=pack)
    write_atomic(readable(environment.get_template(template).render(**content)).encode(), path)


def _asset(name: str) -> Markup:
    return Markup(files('ifn_plugin.visualization').joinpath(*name.split('/')).read_text(encoding='utf-8'))


def pack(value: Any) -> str:
    """Return a value, with objects as their attributes, as compressed JSON in base64."""
    return base64.b64encode(gzip.compress(json.dumps(value, default=vars).encode(), mtime=0)).decode()
