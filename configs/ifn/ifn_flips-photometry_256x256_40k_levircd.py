# The recipe of ifn_256x256_40k_levircd.py with flips in place of rotation, strong photometric distortion, and a
# threshold of 0.5, which short runs favoured: see docs/ablation.md
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='mmseg.RandomCrop', crop_size=(256, 256), cat_max_ratio=0.75),
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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(decode_head=dict(threshold=0.5))
