"""The tests in the oldest and the newest environments that docs/install.md names: ``make environments``.

Each is made anew, from the package index. Environments with torch for CUDA take several gigabytes.
"""

import os

import nox

nox.options.error_on_missing_interpreters = False
TESTS = ['pytest', 'hypothesis', 'psutil', 'scikit-learn', 'setuptools', 'wheel']


def _test(session: nox.Session) -> None:
    session.run('python', '-c', 'import sys, cv2, numpy, torch, mmengine, mmcv, mmseg; print(sys.version.split()[0], *['
                'f"{m.__name__} {m.__version__}" for m in (torch, numpy, cv2, mmengine, mmcv, mmseg)])')
    session.run('python', '-m', 'pytest', 'tests', '--ignore=tests/opencd', '-q', *session.posargs)


@nox.session(python='3.10')
def oldest(session: nox.Session) -> None:
    """The lowest versions."""
    session.install('torch==2.1.2', 'numpy==1.26.4', 'mmengine==0.10.4', 'mmcv-lite==2.0.1', 'opencv-python==4.8.1.78',
                    'packaging', 'ftfy', 'regex', 'prettytable', 'scipy', *TESTS, 'setuptools<70')
    # its metadata ask for numpy 2, which torch 2.1 does not know; it works with both
    session.install('--no-deps', 'onedl-mmsegmentation==1.4.2')
    _test(session)


@nox.session(python='3.13')
def newest(session: nox.Session) -> None:
    """Whatever the index has; setuptools has no ``pkg_resources`` any more."""
    session.install('torch', 'mmengine', 'mmcv-lite', 'onedl-mmsegmentation', 'packaging', 'rasterio', 'geopandas',
                    'onnx', 'onnxscript', 'onnxruntime', *TESTS)
    _test(session)


@nox.session(python='3.11')
def onedl(session: nox.Session) -> None:
    """Mmengine as onedl distributes it."""
    session.install(os.environ.get('TORCH', 'torch==2.13.0'), 'onedl-mmengine', 'onedl-mmsegmentation', 'packaging',
                    *TESTS)
    # it requires mmengine, which would overwrite onedl's
    session.install('--no-deps', 'mmcv-lite')
    _test(session)
