# The recipe of ifn_256x256_40k_levircd.py, tested on full images and on non-overlapping 256×256 tiles
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
test_cfg = dict(
    type='ifn_plugin.ProtocolsTestLoop',
    protocols=dict(
        whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=(256, 256), stride=(256, 256))))
