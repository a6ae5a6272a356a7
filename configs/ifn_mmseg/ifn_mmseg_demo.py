# The demonstration, python -m ifn_plugin.tools.demo: about three minutes on two CPU cores, from random weights because
# it has to work without a network, so the encoder is trained too. Small crops buy many iterations.
_base_ = 'ifn_mmseg_256x256_40k_levircd.py'
data_root = 'work_dirs/demo/data'
max_iters = 240
model = dict(
    backbone=dict(frozen=False, init_cfg=None),
    decode_head=dict(
        loss_decode=[
            dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True),
            dict(type='mmseg.DiceLoss', use_sigmoid=True),
        ],
        threshold=0.5))

train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.95),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))

optim_wrapper = dict(
    _delete_=True,
    type='ifn_plugin.AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=10))
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2)
default_hooks = dict(
    # so few validation images are too few to choose by: the last weights are kept, and tested
    checkpoint=dict(interval=max_iters, max_keep_ckpts=1, save_best=None, save_optimizer=False),
    visualization=dict(draw=True))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend', img_save_dir='panels')])
randomness = dict(seed=0)
log_level = 'ERROR'
