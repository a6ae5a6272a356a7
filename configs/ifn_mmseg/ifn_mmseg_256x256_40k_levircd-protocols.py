# ifn_mmseg_256x256_40k_levircd.py, tested on whole images and on 256×256 tiles without overlap
_base_ = 'ifn_mmseg_256x256_40k_levircd.py'
test_cfg = dict(
    _delete_=True,
    type='ifn_plugin.ProtocolsTestLoop',
    protocols=dict(
        whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=_base_.crop_size, stride=_base_.crop_size)))
