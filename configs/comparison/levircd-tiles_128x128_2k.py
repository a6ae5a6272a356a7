# levircd_256x256_40k.py for two CPU cores: 2,000 iterations, batch size 4, 128×128 crops of LEVIR-CD's
# 256×256 tiles, and a one-cycle schedule of AdamW up to 1e-3, the learning rate of open-cd's LEVIR-CD recipes.
_base_ = ['../_base_/datasets/levircd_tiles.py', '../_base_/schedules/schedule_40k.py', '../_base_/default_runtime.py']
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(clip_grad=dict(max_norm=10))
param_scheduler = [dict(type='OneCycleLR', eta_max=1e-3, total_steps=2000, by_epoch=False)]
custom_hooks = [dict(type='ifn_plugin.AccelerationHook', channels_last=False, compile=False)]
train_cfg = dict(max_iters=2000, val_interval=250, val_begin=250)
default_hooks = dict(
    checkpoint=dict(interval=500, save_best='F1@val', max_keep_ckpts=1), logger=dict(interval=10))
test_cfg = dict(
    type='ifn_plugin.ProtocolsTestLoop',
    protocols=dict(
        whole=dict(mode='whole'), tiles=dict(mode='slide', crop_size=(256, 256), stride=(256, 256))))
