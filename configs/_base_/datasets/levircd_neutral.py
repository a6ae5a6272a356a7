# LEVIR-CD with pipelines that any model of either stack trains on, whatever its default scope
_base_ = ['levircd.py']
train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(
        type='ifn_plugin.EachDate',
        transforms=[
            dict(type='mmseg.RandomRotate', prob=0.5, degree=180),
            dict(type='mmseg.RandomCrop', crop_size=_base_.crop_size, cat_max_ratio=0.75),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='vertical'),
        ]),
    dict(
        type='ifn_plugin.EachDate',
        share_random_params=False,
        transforms=[dict(type='mmseg.PhotoMetricDistortion', **_base_.photometry)]),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.ConcatDates'),
    dict(type='mmseg.PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
