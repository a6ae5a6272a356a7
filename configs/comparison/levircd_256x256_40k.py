# Settings that python -m ifn_plugin.tools.compare shares among all models: open-cd's schedule for LEVIR-CD, the best
# checkpoint by F1 at the threshold chosen in validation, and testing on full images and on non-overlapping 256×256
# tiles.
_base_ = ['../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py', '../_base_/default_runtime.py']
default_hooks = dict(checkpoint=dict(save_best='F1@val', max_keep_ckpts=1))
test_cfg = dict(
    type='ifn_plugin.ProtocolsTestLoop',
    protocols=dict(
        whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=(256, 256), stride=(256, 256))))
