# ImageNet's encoder, frozen, in two hours on one CPU core that computes in bfloat16: 128×128 crops of LEVIR-CD's
# 256×256 tiles, 8,000 iterations, strong photometric distortion, and cross-entropy in which a changed pixel counts
# three times. Results: docs/levircd_cpu.md.
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd_tiles.py', '../_base_/schedules/schedule_2k.py',
    '../_base_/default_runtime.py'
]
train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='mmseg.RandomCrop', crop_size=(128, 128), cat_max_ratio=0.95),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(
        type='ifn_plugin.EachDate',
        share_random_params=False,
        transforms=[dict(type='mmseg.PhotoMetricDistortion')]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(indices=None))
model = dict(
    decode_head=dict(
        # 0.1, the default, averages ten batches or so: of four crops, too few for a validation
        norm_cfg=dict(type='BN', momentum=0.01),
        loss_decode=dict(avg_non_ignore=True, class_weight=[3.]),
        threshold=0.5))
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=8000, by_epoch=False)]
train_cfg = dict(max_iters=8000, val_interval=2000, val_begin=2000)
custom_hooks = [dict(type='ifn_plugin.AccelerationHook')]
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=1))
randomness = dict(seed=0)
