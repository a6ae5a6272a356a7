"""Build of ifn_plugin: a plain setuptools package whose wheel also carries the configurations for mim."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((ROOT / 'ifn_plugin' / 'version.py').read_text(encoding='utf-8'), VERSION)


class BuildForMim(build_py):
    """Put ``configs`` and the commands where ``mim train ifn_plugin CONFIG`` looks for them.

    openmim looks in the package's ``.mim``. onedl-mim takes the folder of the first file that pip recorded for the
    package, which is that of the program, ``../../../bin``, unless a name sorts before it: ``+ifn_plugin_mim`` does.
    """

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        for folder in ('ifn_plugin/.mim', '+ifn_plugin_mim'):
            target = Path(self.build_lib) / folder
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / 'configs', target / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
            shutil.copy(ROOT / 'model-index.yml', target)
            (target / 'tools').mkdir()
            for name in ('train.py', 'test.py'):
                shutil.copy(ROOT / 'ifn_plugin' / 'tools' / name, target / 'tools' / name)


setup(
    name='ifn_plugin',
    version=VERSION['__version__'],
    description='IFN (deeply supervised image fusion network) for change detection, as a plugin for open-cd and mmseg',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    project_urls={
        'Paper': 'https://doi.org/10.1016/j.isprsjprs.2020.06.003',
        'open-cd': 'https://github.com/likyoo/open-cd',
        'mmsegmentation': 'https://github.com/open-mmlab/mmsegmentation',
    },
    packages=find_packages(include=['ifn_plugin', 'ifn_plugin.*']),
    package_data={'ifn_plugin': ['py.typed', 'visualization/templates/*', 'visualization/vendored/*',
                                 'apis/rasters/styles/*.qml']},
    entry_points={'console_scripts': ['ifn-plugin = ifn_plugin.__main__:main']},
    cmdclass={'build_py': BuildForMim},
    python_requires='>=3.10',
    # Not the stack itself: mmsegmentation has two distributions with one module name, and open-cd works with one of
    # them only. The import of the plugin says what is missing.
    install_requires=['packaging', 'prettytable>=3.12'],
    extras_require={
        'mmseg': ['torch', 'mmengine>=0.10.7,<0.11', 'mmcv-lite>=2.1,<2.2', 'onedl-mmsegmentation>=1.4.2,<1.5'],
        'geo': ['rasterio', 'geopandas', 'affine>=3', 'shapely>=2.1'],
        'xarray': ['rasterio', 'geopandas', 'affine>=3', 'shapely>=2.1', 'rioxarray'],
        'export': ['onnx', 'onnxscript', 'onnxruntime'],
        'check': ['imagehash'],
        'completion': ['shtab>=1.13'],
        'docs': ['sphinx>=8.2', 'furo', 'myst-parser>=4', 'sphinx-copybutton'],
        'dev': ['setuptools', 'pytest', 'pytest-xdist', 'hypothesis', 'psutil', 'scikit-learn', 'nbclient', 'ipykernel',
                'markdown-it-py', 'playwright', 'pyarrow', 'rio-cogeo', 'ruff', 'mypy', 'import-linter', 'pre-commit',
                'build', 'nox'],
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
