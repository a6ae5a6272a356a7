# As levircd_256x256_40k.py, but for two CPU cores: 2,000 iterations in bfloat16, batch 4, on 128×128 crops of
# LEVIR-CD's 256×256 tiles, one cycle of AdamW up to 1e-3, the rate of open-cd's recipes for LEVIR-CD.
_base_ = ['levircd_256x256_40k.py', '../_base_/datasets/levircd_tiles.py']
data_root = 'data/LEVIR-CD-tiles'
train_pipeline = _base_.tiles_pipeline
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
# every fourth tile is enough to choose a checkpoint and a threshold by
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, indices=list(range(0, 248, 4))))
test_dataloader = dict(num_workers=1)

optim_wrapper = dict(clip_grad=dict(max_norm=10))
param_scheduler = [dict(type='OneCycleLR', eta_max=1e-3, total_steps=2000, by_epoch=False)]
custom_hooks = [dict(type='ifn_plugin.AccelerationHook', dtype='bfloat16', channels_last=False, compile=False)]
train_cfg = dict(max_iters=2000, val_interval=250, val_begin=250)
default_hooks = dict(checkpoint=dict(interval=500), logger=dict(interval=10))
