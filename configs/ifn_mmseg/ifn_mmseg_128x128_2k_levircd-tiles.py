# A short run from random weights that two CPU cores can do: 128² crops of 256² tiles of LEVIR-CD, 2,000 iterations,
# BCE and Dice at every level, the encoder trained too. Its result is in docs/levircd_cpu.md.
_base_ = ['ifn_mmseg_256x256_40k_levircd.py', '../_base_/datasets/levircd_tiles.py']
data_root = 'data/LEVIR-CD-tiles'
model = dict(
    backbone=dict(frozen=False, init_cfg=None),
    decode_head=dict(
        loss_decode=[
            dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
            dict(type='mmseg.DiceLoss', use_sigmoid=True),
        ],
        threshold=0.5))

train_pipeline = _base_.tiles_pipeline
train_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
# every fourth tile is enough to choose a checkpoint by
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, indices=list(range(0, 248, 4))))
test_dataloader = dict(num_workers=1)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=10))
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=2000, by_epoch=False)]
custom_hooks = [dict(type='ifn_plugin.AccelerationHook', channels_last=False, compile=False)]
train_cfg = dict(max_iters=2000, val_interval=250, val_begin=500)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1))
randomness = dict(seed=0)
