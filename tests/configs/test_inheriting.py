"""A configuration anywhere inherits from the plugin's by name, from a source checkout and from an installed wheel."""

import zipfile

import pytest
from mmengine.config import Config

BASE = "_base_ = str(__import__('ifn_plugin').find_config('{}'))\n"


@pytest.mark.parametrize('name', ['ifn_mmseg_256x256_40k_levircd.py', 'ifn_256x256_40k_levircd.py',
                                  'unet_256x256_40k_levircd.py'])
def test_configuration_inherits_by_name_from_anywhere(tmp_path, name):
    path = tmp_path / 'own.py'
    path.write_text(BASE.format(name) + 'param_scheduler = _base_.param_scheduler\nparam_scheduler[1].end = 7\n'
                    'train_dataloader = dict(batch_size=3)\n')
    cfg = Config.fromfile(path, import_custom_modules=False)
    assert cfg.train_dataloader.batch_size == 3 and cfg.param_scheduler[1].end == 7
    assert cfg.model.decode_head.threshold in (0.3, 0.5) and cfg.train_dataloader.dataset.data_root == 'data/LEVIR-CD'
    # as a run stores it
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py', import_custom_modules=False).model == cfg.model


def test_several_bases_and_a_misspelt_one(tmp_path):
    (tmp_path / 'more.py').write_text('own_setting = 4\n')
    path = tmp_path / 'own.py'
    path.write_text("_base_ = [str(__import__('ifn_plugin').find_config('ifn_demo.py')), 'more.py']\n")
    assert Config.fromfile(path).own_setting == 4
    path.write_text(BASE.format('ifn_mmseg_256x256_40k_levircdd.py'))
    with pytest.raises(FileNotFoundError, match='Did you mean ifn_mmseg_256x256_40k_levircd'):
        Config.fromfile(path)


def test_installed_wheel_gives_its_own_configurations(wheel, python, tmp_path):
    """With mmengine alone, as in the scripts of open-cd and mmsegmentation, which import the plugin only later."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'site')
    (tmp_path / 'own.py').write_text(BASE.format('ifn_mmseg_256x256_40k_levircd.py'))
    code = ("from mmengine.config import Config; print(Config.fromfile('own.py').train_cfg)\n"
            "import ifn_plugin; print(ifn_plugin.find_config('ifn_demo.py'))")
    lines = python('-c', code, path=tmp_path / 'site', cwd=tmp_path).splitlines()
    assert lines[-1] == str(tmp_path / 'site' / 'ifn_plugin' / '.mim' / 'configs' / 'ifn' / 'ifn_demo.py')
